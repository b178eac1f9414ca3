"""A stream of batches, made by worker processes or threads: it ends with the program, and no wait for it is endless."""

import atexit
import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import absl.logging
import grain
import numpy as np
from absl import flags

from stochconv_jax.data import shared_memory
from stochconv_jax.runtime import host_memory
from stochconv_jax.runtime.watchdog import Stalled

Batch = dict[str, np.ndarray]
ENDLESS = 2**62  # positions; more overflows where a batch is one row
PARENT_SECONDS = 1.0  # between a worker's looks at whether its parent is there
RETURNING_SECONDS = 0.5  # for shared memory to be given back at the end of a program
CLOSING_SECONDS = 60.0  # that workers get to end; Grain itself waits 25 for each and then kills it
# Python's tracker, a process of its own, removes what is in shared memory when workers end, which it would warn of.
_QUIET = "ignore:resource_tracker:UserWarning"


class Rows(Protocol):
    """A `grain.transforms.Map` from a position to a row that can say what it would read."""

    def map(self, position: int) -> Batch: ...

    def where(self, position: int) -> str:
        """The batch of that position, in words."""

    def name(self, position: int) -> str:
        """The image of that position; '' for none."""


def batches(
    row: Rows,
    first: int,
    rows: int,
    num_workers: int,
    *,
    timeout_seconds: float,
    last: int = ENDLESS,
    row_bytes: int = 0,
) -> Generator[Batch]:
    """Batches of `rows` rows from position `first` to `last`. Workers end with the generator or with the program.

    Raises Stalled where a batch takes longer than `timeout_seconds`. `row_bytes`: the size of a row, for what is said
    of a worker that ended for want of memory.
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its absl flags; outside an absl program nobody has parsed them
    dataset = grain.MapDataset.range(first, last).map(row).batch(rows)
    # Each thread holds a batch and makes another, which is much memory at full resolution: one is enough in a process.
    threads = 1 if num_workers else 2
    made = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    if num_workers:
        if _QUIET not in sys.warnoptions:
            sys.warnoptions.append(_QUIET)
        options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=1)
        made = made.mp_prefetch(options, worker_init_fn=_prepare_worker)

    def stalled(number: int) -> Stalled:
        positions = range(first + number * rows, min(first + (number + 1) * rows, last))
        names = ", ".join(filter(None, map(row.name, positions)))
        return Stalled(
            f"{row.where(positions[0])} did not come within {timeout_seconds:g} seconds "
            f"(config.data.timeout_seconds): reading hangs, or is too slow. Its images here: {names}"
        )

    stream = _in_time(made, timeout_seconds, stalled, lambda error: shared_memory.explained(error, row_bytes * rows))
    _OPEN.add(stream)
    return stream


def _prepare_worker(index: int, count: int) -> None:
    """In a worker: pixels are read into memory that earlier images have left; signals to stop, which launchers send to
    every process of a job, are the main process's to answer; and where that one has been killed, nobody is left to say
    that the work is over.
    """
    del index, count
    host_memory.keep_freed()
    absl.logging.set_verbosity(absl.logging.ERROR)  # as in the main process, whose log this would get into unnamed
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="parent").start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _in_time(
    made: grain.IterDataset,
    seconds: float,
    stalled: Callable[[int], Stalled],
    explained: Callable[[Exception], Exception],
) -> Generator[Batch]:
    """The batches, each within `seconds`. A thread of its own waits for them, for a read cannot be interrupted."""
    asked, answers = queue.SimpleQueue(), queue.SimpleQueue()
    threading.Thread(target=_answer, args=(iter(made), asked, answers), daemon=True, name="next batch").start()
    try:
        for number in itertools.count():
            asked.put(True)
            try:
                batch, error = answers.get(timeout=min(seconds, threading.TIMEOUT_MAX))
            except queue.Empty:
                raise stalled(number) from None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise explained(error)
            yield batch
            del batch
    finally:
        asked.put(False)
        if not isinstance(sys.exception(), Stalled):
            # Not without end: this stream may hang on the storage that another one found stalled.
            with contextlib.suppress(queue.Empty):
                answers.get(timeout=CLOSING_SECONDS)


def _answer(iterator: Iterator[Batch], asked: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    """Puts (batch, None) or (None, error) for every True that is asked; then closes."""
    try:
        while asked.get():
            try:
                answers.put((next(iterator), None))
            except BaseException as error:
                answers.put((None, error))
        iterator.close()
    finally:
        answers.put((None, None))


_OPEN: weakref.WeakSet[Generator[Batch]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Closes what a program left open: in the interpreter's last moments it would fail with a traceback."""
    streams = list(_OPEN)
    for stream in streams:
        stream.close()
    if streams:  # Grain gives shared memory back in a thread of its own, which the end would cut off
        time.sleep(RETURNING_SECONDS)
