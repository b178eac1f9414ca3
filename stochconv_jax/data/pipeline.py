"""Makes batches for training and evaluation: functions of the seed and the step, for any number of hosts and workers.

A batch is a dict of NumPy arrays, the b rows of the global batch that belong to this host:

    image      uint8 [b, H, W, 3]   full resolution                       (if `outputs` has 'image')
    thumbnail  uint8 [b, h, w, 3]   made from the augmented image         (if `outputs` has 'thumbnail')
    label      int32 [b]            class
    example    uint32 [b]           identity of the image, see `reader.example_id`
    index      int32 [b]            index of the image in the source
    mask       bool [b]             False for rows that only fill up a batch
    skipped    int32 [b]            index of the unreadable image that the row replaces, else -1
    metadata   float32 [b, F]       features of the image's metadata      (if the source has them)
    label_mixed  int32 [b]          class of the image mixed in           (only in training with mixup)
    share_mixed  float32 [b]        its share of the pixels, 0..1/2       (only in training with mixup)
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Generator, Iterator

import cv2
import numpy as np

from stochconv_jax.data import augment, orders, streams
from stochconv_jax.data.augment import Augmentation, Size
from stochconv_jax.data.random_streams import Stream, generator
from stochconv_jax.data.reader import Reader, row_bytes
from stochconv_jax.data.sources import BadImage, Source
from stochconv_jax.data.streams import Batch

ON_BAD_IMAGE = ("error", "skip")


@dataclasses.dataclass(frozen=True)
class TrainRow(streams.Rows):
    """Maps a position in this host's stream of training rows to its row.

    Place g of the global stream is image g mod N in the order of epoch g // N, for N images. Epochs follow each other
    without a gap, so a batch may reach into the next epoch. A host takes one contiguous block of every global batch, so
    that all hosts' blocks in order are the batch of a single host.
    """

    reader: Reader
    augmentation: Augmentation
    seed: int
    batch_size: int
    host_index: int
    host_count: int
    skip_bad: bool
    order: str

    def map(self, position: int) -> Batch:
        """Returns the augmented row at `position`."""
        place = self._place(position)
        epoch, rank = divmod(place, len(self.reader.source))
        order = self._order(epoch)
        index, picture, skipped = self._readable(order, rank)
        random = generator(self.seed, Stream.AUGMENT, place)
        picture = augment.apply(random, picture, self.augmentation)
        mixed = {}
        if self.augmentation.mixup:
            other, second, _ = self._readable(order, int(random.integers(len(order))))
            share = augment.mixed_share(random, self.augmentation.mixup)
            picture = cv2.addWeighted(picture, 1 - share, augment.apply(random, second, self.augmentation), share, 0)
            mixed = {"label_mixed": np.int32(self.reader.source.labels[other]), "share_mixed": np.float32(share)}
            if (metadata := self.reader.source.metadata) is not None:
                mixed["metadata"] = np.float32((1 - share) * metadata[index] + share * metadata[other])
        return self.reader.row(index, picture, skipped=skipped) | mixed

    def where(self, position: int) -> str:
        """Implements `streams.Rows`."""
        return f"the batch of step {position // (self.batch_size // self.host_count)}"

    def name(self, position: int) -> str:
        """Implements `streams.Rows`."""
        epoch, rank = divmod(self._place(position), len(self.reader.source))
        return self.reader.source.names[int(self._order(epoch)[rank])]

    def _place(self, position: int) -> int:
        """Returns the place in the global stream of a position in this host's stream."""
        rows = self.batch_size // self.host_count
        step, slot = divmod(position, rows)
        return step * self.batch_size + self.host_index * rows + slot

    def _order(self, epoch: int) -> np.ndarray:
        if self.order == "balanced":
            return orders.balanced_order(self.reader.source.labels.tobytes(), self.seed, epoch)
        return orders.epoch_order(len(self.reader.source), self.seed, epoch)

    def _readable(self, order: np.ndarray, rank: int) -> tuple[int, np.ndarray, int]:
        """Returns index and picture of image `rank` of `order`, or of the next readable one if bad ones are skipped.

        The third value is the index of image `rank` if it was skipped, else -1.
        """
        skipped = -1
        for later in range(rank, rank + len(order)):
            index = int(order[later % len(order)])
            try:
                return index, self.reader.picture(index), skipped
            except BadImage:
                if not self.skip_bad:
                    raise
                skipped = index if skipped < 0 else skipped
        raise BadImage(f"none of the {len(order)} images can be used")


@dataclasses.dataclass(frozen=True)
class RepeatedRow(streams.Rows):
    """Maps positions to the first `length` rows of `row`, again and again."""

    row: TrainRow
    length: int

    def map(self, position: int) -> Batch:
        """Implements `streams.Rows`."""
        return self.row.map(position % self.length)

    def where(self, position: int) -> str:
        """Implements `streams.Rows`."""
        return self.row.where(position % self.length)

    def name(self, position: int) -> str:
        """Implements `streams.Rows`."""
        return self.row.name(position % self.length)


@dataclasses.dataclass(frozen=True)
class EvalRow(streams.Rows):
    """Maps a position in this host's stream of evaluation rows to its row.

    Rows after the last image, and of unreadable images that are skipped, are masked.
    """

    reader: Reader
    batch_size: int
    host_index: int
    host_count: int
    skip_bad: bool

    def map(self, position: int) -> Batch:
        """Returns the row at `position`; after the last row of the last batch the rows begin again."""
        step, slot = self._place(position)
        index = step * self.batch_size + slot
        blank = np.zeros((*self.reader.image_size, 3), np.uint8)
        if index >= len(self.reader.source):
            return self.reader.row(0, blank, mask=False)
        try:
            return self.reader.row(index, self.reader.picture(index))
        except BadImage:
            if not self.skip_bad:
                raise
            return self.reader.row(index, blank, mask=False, skipped=index)

    def where(self, position: int) -> str:
        """Implements `streams.Rows`."""
        return f"batch {self._place(position)[0]} of the images to evaluate"

    def name(self, position: int) -> str:
        """Implements `streams.Rows`."""
        step, slot = self._place(position)
        names, index = self.reader.source.names, step * self.batch_size + slot
        return names[index] if index < len(names) else ""

    def _place(self, position: int) -> tuple[int, int]:
        """Returns the number of the batch, and of the row in the global batch."""
        rows = self.batch_size // self.host_count
        step, slot = divmod(position % (num_batches(len(self.reader.source), self.batch_size) * rows), rows)
        return step, self.host_index * rows + slot


def train_batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    image_size: Size,
    thumbnail_size: Size,
    outputs: tuple[str, ...],
    augmentation: Augmentation,
    num_workers: int,
    on_bad_image: str,
    order: str = "shuffled",
    repeat_after: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    timeout_seconds: float = math.inf,
) -> Generator[Batch]:
    """Yields this host's rows of the batches of steps `start_step`, `start_step` + 1, ... without end.

    `batch_size`: of the global batch, a multiple of `host_count`. `image_size`, `thumbnail_size`: height and width in
    pixels. `outputs`: 'image', 'thumbnail' or both. `num_workers`: processes that read; 0 reads in threads of this one.
    `on_bad_image`: 'error' raises BadImage for an unreadable image, 'skip' takes the next image instead. `order`:
    'shuffled' visits every image once an epoch, 'balanced' gives every class the same share. `repeat_after`: the number
    of batches after which the first one follows again; 0 for never. Raises Stalled if a batch takes longer than
    `timeout_seconds`.
    """
    reader = Reader(source, image_size, thumbnail_size, outputs)
    if order not in orders.ORDERS:
        raise ValueError(f"order={order!r}: choose one of {', '.join(orders.ORDERS)}")
    row = TrainRow(reader, augmentation, seed, batch_size, host_index, host_count, _skips_bad(on_bad_image), order)
    rows = _host_rows(batch_size, host_count)
    row = RepeatedRow(row, repeat_after * rows) if repeat_after else row
    reading = {"timeout_seconds": timeout_seconds, "row_bytes": row_bytes(image_size, thumbnail_size, outputs)}
    return streams.batches(row, start_step * rows, rows, num_workers, **reading)


def num_batches(num_images: int, batch_size: int) -> int:
    """Returns the number of batches that hold every image once."""
    return -(-num_images // batch_size)


class EvalBatches:
    """This host's rows of the batches that hold every image once, in order; masked rows fill up the last batch.

    Can be iterated over several times, one round at a time. The workers stay, and prepare the first batches of the next
    round. A round that was left early is not continued: the next one begins with the first image. Every host yields the
    same number of batches. Close it when done. `rounds`: the number of rounds for which workers prepare batches, or
    None if that is not known; each further round starts workers of its own. The other arguments are those of
    `train_batches`.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        image_size: Size,
        thumbnail_size: Size,
        outputs: tuple[str, ...],
        num_workers: int,
        on_bad_image: str,
        host_index: int = 0,
        host_count: int = 1,
        rounds: int | None = None,
        timeout_seconds: float = math.inf,
    ):
        reader = Reader(source, image_size, thumbnail_size, outputs)
        row = EvalRow(reader, batch_size, host_index, host_count, _skips_bad(on_bad_image))
        self._length = num_batches(len(source), batch_size)
        rows = _host_rows(batch_size, host_count)
        last = streams.ENDLESS if rounds is None else rounds * self._length * rows
        size = row_bytes(image_size, thumbnail_size, outputs)
        reading = {"timeout_seconds": timeout_seconds, "last": last, "row_bytes": size}
        self._open = functools.partial(streams.batches, row, 0, rows, num_workers, **reading)
        self._rounds = math.inf if rounds is None else rounds
        self._restart()

    def __iter__(self) -> Iterator[Batch]:
        if self._in_round or not self._rounds_left:
            self.close()
        self._in_round = True
        self._rounds_left -= 1
        yield from itertools.islice(self._stream, self._length)
        self._in_round = False

    def close(self) -> None:
        """Ends the workers; a further round starts new ones."""
        self._stream.close()
        self._restart()

    def _restart(self) -> None:
        self._stream, self._in_round, self._rounds_left = self._open(), False, self._rounds


def _host_rows(batch_size: int, host_count: int) -> int:
    """Returns the rows of a host in each batch. Raises ValueError if the hosts' shares would not be equal."""
    if batch_size % host_count:
        raise ValueError(f"a batch of {batch_size} images cannot be shared equally by {host_count} hosts")
    return batch_size // host_count


def _skips_bad(on_bad_image: str) -> bool:
    if on_bad_image not in ON_BAD_IMAGE:
        raise ValueError(f"on_bad_image={on_bad_image!r}: choose one of {', '.join(ON_BAD_IMAGE)}")
    return on_bad_image == "skip"
