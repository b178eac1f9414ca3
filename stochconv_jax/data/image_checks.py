"""Checks all images before a run: whether each can be used, and whether one is on both sides of the split."""

import dataclasses
import hashlib
import os
import pathlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from stochconv_jax.data import image_io, paths
from stochconv_jax.data.isic import image_encoding
from stochconv_jax.data.sources import BadImage, Source
from stochconv_jax.runtime.watchdog import Stalled

FILE_THREADS = 32  # that open files at once, since a network disk takes its time to answer each
_HEAD = 2**14  # bytes at the beginning of a file that tell it from most others of the same length
_HASH_SIDE = 64  # least side in pixels of the picture from which a perceptual hash is made


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """The result of the check of an image.

    `problem`: why it cannot be used, '' if it can. `file`: see `file_state`. `head`: SHA-256 of the file's first bytes.
    `perceptual_hash`: see `image_encoding.perceptual_hash`; 0 if it was not asked for.
    """

    problem: str = ""
    file: tuple[int, int] = (0, 0)
    head: bytes = b""
    perceptual_hash: int = 0


def file_state(file: pathlib.Path) -> tuple[int, int]:
    """Returns `paths.state` of the file, which shows a change; zeros if it cannot be read."""
    try:
        return paths.state(file)
    except (OSError, ValueError):
        return 0, 0


def check_source(
    source: Source,
    *,
    decode: bool,
    hashes: bool,
    least: tuple[int, int],
    timeout_seconds: float,
    on_image: Callable[[], None] = lambda: None,
) -> list[CheckedImage]:
    """Checks each image of `source` in threads and returns the results in its order.

    Reads the headers of its files, if it has files, and all of each image if `decode` or `hashes` is set: `hashes` asks
    for perceptual hashes. `least`: height and width in pixels that each image must have. Calls `on_image` after each.
    Raises Stalled, naming files, if none is finished within `timeout_seconds`.
    """
    files, reads = source.files, decode or hashes
    shrink = next(k for k in (8, 4, 2, 1) if k == 1 or min(least) // k >= _HASH_SIDE)

    def check(index: int) -> CheckedImage:
        state, head, perceptual_hash = file_state(files[index]) if files else (0, 0), b"", 0
        try:
            if files:
                head = _check_header(source, index, least)
            if reads:
                picture = source.read(index, least=least, shrink=shrink)
                if hashes:
                    perceptual_hash = image_encoding.perceptual_hash(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        except BadImage as error:
            return CheckedImage(str(error), state)
        return CheckedImage("", state, head, perceptual_hash)

    results = [CheckedImage()] * len(source)
    if not (files or reads):
        return results
    threads = len(os.sched_getaffinity(0)) if reads else FILE_THREADS
    for index, result in map_in_threads(check, source.names, threads, timeout_seconds):
        results[index] = result
        on_image()
    return results


def _check_header(source: Source, index: int, least: tuple[int, int]) -> bytes:
    """Returns the SHA-256 of the file's first bytes. Raises BadImage if it is damaged or too small."""
    try:
        with source.files[index].open("rb", buffering=_HEAD) as stream:  # a network disk's own block may be a megabyte
            start = stream.read(_HEAD)
            stream.seek(0)
            image_io.check_size(image_io.read_size(stream), least)
    except paths.Unreachable:  # the file may be sound, and a copy that the check would miss
        raise
    except (OSError, ValueError) as error:
        raise source.bad_image(index, error) from error
    return hashlib.sha256(start).digest()


def map_in_threads(
    function: Callable[[int], Any], names: Sequence[str], threads: int, timeout_seconds: float
) -> Iterator[tuple[int, Any]]:
    """Yields (index, `function(index)`) for the indices of `names`, in the order in which the threads finish.

    The first error is raised. Raises Stalled, with the names of what is under way, if nothing is finished within
    `timeout_seconds`. The threads do not keep the process alive.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    under_way: dict[int, str] = {}
    for index in range(len(names)):
        waiting.put(index)

    def work() -> None:
        while True:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            under_way[index] = names[index]
            try:
                answers.put((index, function(index), None))
            except BaseException as error:
                answers.put((index, None, error))
            del under_way[index]

    for _ in range(min(threads, len(names))):
        threading.Thread(target=work, daemon=True, name="check of images").start()
    try:
        for _ in names:
            try:
                index, result, error = answers.get(timeout=min(timeout_seconds, threading.TIMEOUT_MAX))
            except queue.Empty:
                raise Stalled(
                    f"the check of images got no answer within {timeout_seconds:g} seconds "
                    f"(`timeout_seconds`): reading hangs, of {', '.join(list(under_way.values())[:5])}"
                ) from None
            if error is not None:
                raise error
            yield index, result
    finally:
        while not waiting.empty():
            try:
                waiting.get_nowait()
            except queue.Empty:
                break


def identical_pairs(
    train: Source,
    validation: Source,
    checked: tuple[Sequence[CheckedImage], Sequence[CheckedImage]],
    timeout_seconds: float,
) -> list[tuple[int, int]]:
    """Returns pairs (index of a training image, index of a validation image) whose files have the same bytes.

    `checked`: the results of `check_source` for both. Reads a whole file only if its length and first bytes are those
    of one on the other side. Raises Stalled as `check_source` does.
    """
    keys = [[(result.file[0], result.head) if result.head else None for result in side] for side in checked]
    shared = (set(keys[0]) & set(keys[1])) - {None}
    wanted = [(side, i) for side in (0, 1) for i, key in enumerate(keys[side]) if key in shared]
    files = (train.files, validation.files)
    paths = [files[side][i] for side, i in wanted]
    hashes = dict(map_in_threads(lambda k: _sha256(paths[k]), list(map(str, paths)), FILE_THREADS, timeout_seconds))
    first: dict[bytes, int] = {}
    for k, (side, i) in enumerate(wanted):
        if side == 0:
            first.setdefault(hashes[k], i)
    return [(first[hashes[k]], i) for k, (side, i) in enumerate(wanted) if side == 1 and hashes[k] in first]


def _sha256(file: pathlib.Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def similar_pairs(
    checked: tuple[Sequence[CheckedImage], Sequence[CheckedImage]], distance: int
) -> list[tuple[int, int]]:
    """Returns pairs (index of a training image, index of a validation image) that look the same.

    `checked`: the results of `check_source` for both. Images look the same if at most `distance` of the 64 bits of
    their perceptual hashes differ. Each validation image is in one pair at most.
    """
    hashes = np.array([result.perceptual_hash for result in checked[0]], np.uint64)
    usable = np.array([not result.problem for result in checked[0]])
    pairs = []
    for i, result in enumerate(checked[1]):
        if not result.problem:
            near = np.flatnonzero(usable & (np.bitwise_count(hashes ^ np.uint64(result.perceptual_hash)) <= distance))
            pairs += [(int(j), i) for j in near[:1]]
    return pairs
