"""All images looked at before a run: whether each can be used, and whether one is on both sides of the split."""

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

from stochconv_jax.data import image_io
from stochconv_jax.data.isic import image_encoding
from stochconv_jax.data.sources import BadImage, Source
from stochconv_jax.runtime.watchdog import Stalled

WAITING_THREADS = 32  # that open files, on a disk of which each answer takes its time
_HEAD = 2**14  # bytes at the beginning of a file by which copies are told from others of the same length
_LOOK_SIDE = 64  # pixels at least, of what a look is taken from


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """Holds what is known of an image.

    `problem`: why it cannot be used; `file`: see `state`; `head`: hash of the file's first bytes; `look`: see
    `pictures.look_of`.
    """

    problem: str = ""
    file: tuple[int, int] = (0, 0)
    head: bytes = b""
    look: int = 0


def state(file: pathlib.Path) -> tuple[int, int]:
    """Its length in bytes and the time of its last change in ns, by which it is known again; of no file zeros."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def look_at(
    source: Source,
    *,
    decode: bool,
    look: bool,
    least: tuple[int, int],
    timeout_seconds: float,
    on_image: Callable[[], None] = lambda: None,
) -> list[CheckedImage]:
    """Each image of `source`: its header and, to `decode` it or `look` at it, all of it; in threads.

    `least`: height and width in pixels that it must have. A source without files has no headers. `on_image` is called
    for each as it comes. Raises Stalled, naming files, where none comes within `timeout_seconds`.
    """
    files, reads = source.files, decode or look
    shrink = next(k for k in (8, 4, 2, 1) if k == 1 or min(least) // k >= _LOOK_SIDE)

    def one(index: int) -> CheckedImage:
        before, head, seen = state(files[index]) if files else (0, 0), b"", 0
        try:
            if files:
                head = _header(source, files[index], index, least)
            if reads:
                picture = source.read(index, least=least, shrink=shrink)
                seen = image_encoding.look_of(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) if look else 0
        except BadImage as error:
            return CheckedImage(str(error), before)
        return CheckedImage("", before, head, seen)

    found = [CheckedImage()] * len(source)
    if not (files or reads):
        return found
    threads = len(os.sched_getaffinity(0)) if reads else WAITING_THREADS
    for index, one_found in in_threads(one, source.names, threads, timeout_seconds):
        found[index] = one_found
        on_image()
    return found


def _header(source: Any, file: pathlib.Path, index: int, least: tuple[int, int]) -> bytes:
    """The hash of the file's first bytes, once its header is found to be in order. Raises BadImage."""
    try:
        with file.open("rb", buffering=_HEAD) as stream:  # a network disk's own size of a block may be a megabyte
            start = stream.read(_HEAD)
            stream.seek(0)
            image_io.check_size(image_io.read_size(stream), least)
    except (OSError, ValueError) as error:
        raise source.bad_image(index, error) from error
    return hashlib.sha256(start).digest()


def in_threads(
    function: Callable[[int], Any], names: Sequence[str], threads: int, timeout_seconds: float
) -> Iterator[tuple[int, Any]]:
    """(index, `function` of it) for each of `names`, as they come. The first error is raised.

    Raises Stalled where nothing comes within `timeout_seconds`; the threads do not keep the process.
    """
    asked, answers = queue.SimpleQueue(), queue.SimpleQueue()
    under_way: dict[int, str] = {}
    for index in range(len(names)):
        asked.put(index)

    def work() -> None:
        while True:
            try:
                index = asked.get_nowait()
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
                waiting = ", ".join(list(under_way.values())[:5])
                raise Stalled(
                    f"the check of images (config.data.check) got no answer within {timeout_seconds:g} seconds "
                    f"(config.data.timeout_seconds): reading hangs, of {waiting}"
                ) from None
            if error is not None:
                raise error
            yield index, result
    finally:
        while not asked.empty():
            try:
                asked.get_nowait()
            except queue.Empty:
                break


def copies(
    train: Source,
    validation: Source,
    found: tuple[Sequence[CheckedImage], Sequence[CheckedImage]],
    timeout_seconds: float,
) -> list[tuple[int, int]]:
    """Pairs of a training image and a validation image whose files are the same byte for byte.

    Whole files are read only where their length and first bytes are those of one on the other side.
    """
    keys = [[(one.file[0], one.head) if one.head else None for one in side] for side in found]
    shared = (set(keys[0]) & set(keys[1])) - {None}
    wanted = [(side, i) for side in (0, 1) for i, key in enumerate(keys[side]) if key in shared]
    files = (train.files, validation.files)
    paths = [files[side][i] for side, i in wanted]
    hashes = dict(in_threads(lambda k: _whole(paths[k]), list(map(str, paths)), WAITING_THREADS, timeout_seconds))
    first: dict[bytes, int] = {}
    for k, (side, i) in enumerate(wanted):
        if side == 0:
            first.setdefault(hashes[k], i)
    return [(first[hashes[k]], i) for k, (side, i) in enumerate(wanted) if side == 1 and hashes[k] in first]


def _whole(file: pathlib.Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def alike(found: tuple[Sequence[CheckedImage], Sequence[CheckedImage]], distance: int) -> list[tuple[int, int]]:
    """Pairs of a training image and a validation image whose looks differ in at most `distance` of 64 bits."""
    looks = np.array([one.look for one in found[0]], np.uint64)
    sound = np.array([not one.problem for one in found[0]])
    pairs = []
    for i, one in enumerate(found[1]):
        if not one.problem:
            near = np.flatnonzero(sound & (np.bitwise_count(looks ^ np.uint64(one.look)) <= distance))
            pairs += [(int(j), i) for j in near[:1]]
    return pairs
