"""Reads one row of a batch: an image of a source at the right size, and its thumbnail."""

import dataclasses
import functools
import math
import pathlib
import zlib

import cv2
import numpy as np

from stochconv_jax.data import augment
from stochconv_jax.data.augment import Size
from stochconv_jax.data.sources import Source
from stochconv_jax.data.streams import Batch


def example_id(name: str) -> int:
    """Returns the identity of an image, a uint32: the CRC-32 of its file name without folder and ending.

    Windows are drawn from it, so that an image has the same windows in any data set and batch.
    """
    return zlib.crc32(pathlib.PurePath(name).stem.encode("utf-8", "surrogateescape"))


def row_bytes(image_size: Size, thumbnail_size: Size, outputs: tuple[str, ...]) -> int:
    """Returns the bytes of the pictures in a row of a batch; its other arrays are negligible."""
    sizes = {"image": image_size, "thumbnail": thumbnail_size}
    return sum(3 * math.prod(sizes[name]) for name in outputs)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns an index of `source` into a picture of the right size, and a picture into a row of a batch.

    `image_size`, `thumbnail_size`: height and width in pixels. `outputs`: 'image', 'thumbnail' or both; pictures are
    decoded and augmented at `image_size` / `shrink` if only the thumbnail is wanted.
    """

    source: Source
    image_size: Size
    thumbnail_size: Size
    outputs: tuple[str, ...]

    @functools.cached_property
    def shrink(self) -> int:
        """The divisor of the sides before augmentation: 1, 2, 4 or 8; 1 for full resolution.

        The shrunk picture has at least twice the thumbnail's sides, so that a crop of 0.6 of its area is still reduced
        to the thumbnail and not enlarged.
        """
        if "image" in self.outputs:
            return 1
        sides = tuple(zip(self.image_size, self.thumbnail_size, strict=True))
        fit = (k for k in (8, 4, 2) if all(side % k == 0 and side // k >= 2 * small for side, small in sides))
        return next(fit, 1)

    def picture(self, index: int) -> np.ndarray:
        """Returns the picture at `index`, uint8 `[H / shrink, W / shrink, 3]`, where H and W are `image_size`.

        Raises BadImage, naming the image, if it is damaged or too small.
        """
        cv2.setNumThreads(1)  # the worker processes are the parallelism
        picture = self.source.read(index, least=self.image_size, shrink=self.shrink)
        height, width = self.image_size
        try:
            return augment.fit(picture, (height // self.shrink, width // self.shrink))
        except ValueError as error:
            raise self.source.bad_image(index, error) from error

    def row(self, index: int, picture: np.ndarray, *, mask: bool = True, skipped: int = -1) -> Batch:
        """Returns a row of a batch for the image at `index` with this `picture`; `pipeline` says what is in it."""
        row = {
            "label": np.int32(self.source.labels[index]),
            "example": np.uint32(example_id(self.source.names[index])),
            "index": np.int32(index),
            "mask": np.bool_(mask),
            "skipped": np.int32(skipped),
        }
        if self.source.metadata is not None:
            row["metadata"] = self.source.metadata[index]
        if "image" in self.outputs:
            row["image"] = picture
        if "thumbnail" in self.outputs:
            row["thumbnail"] = augment.resize(picture, self.thumbnail_size)
        return row
