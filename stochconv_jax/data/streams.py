"""Streams of batches, made by worker processes or threads, that end with the program and never block for ever."""

import abc
import atexit
import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator

import absl.logging
import grain
import numpy as np
from absl import flags

from stochconv_jax.data import shared_memory
from stochconv_jax.runtime import host_memory
from stochconv_jax.runtime.watchdog import Stalled

Batch = dict[str, np.ndarray]
ENDLESS = 2**62  # positions of an endless stream; more overflow where a batch is one row
PARENT_SECONDS = 1.0  # between a worker's checks of whether its parent still runs
RELEASING_SECONDS = 0.5  # for Grain to release shared memory at the end of a program
CLOSING_SECONDS = 60.0  # for all workers to end; Grain itself waits 25 seconds for each and then kills it
# When workers end, Python's resource tracker, a process of its own, cleans up their shared memory with a warning.
_QUIET = "ignore:resource_tracker:UserWarning"


class Rows(grain.transforms.Map):
    """A map from a position to a row of a batch, which can also say what it would read there."""

    @abc.abstractmethod
    def map(self, position: int) -> Batch:
        """Returns the row at a position: arrays by name."""

    @abc.abstractmethod
    def where(self, position: int) -> str:
        """Returns the description of the batch that the position is in, for messages."""

    @abc.abstractmethod
    def name(self, position: int) -> str:
        """Returns the name of the image at a position; '' if there is none."""


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
    """Yields batches of `rows` rows, from position `first` to before `last`.

    `num_workers` processes make them, or threads of this process if it is 0; they end with the generator or with the
    program. `row_bytes`: the size of a row, for the message about a worker that ran out of memory. Raises Stalled if a
    batch takes longer than `timeout_seconds`, and RuntimeError if a worker was killed.
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its absl flags, which only an absl program has parsed
    dataset = grain.MapDataset.range(first, last).map(row).batch(rows)
    # Each thread holds a batch and makes another, much memory at full resolution: one thread a worker is enough.
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
            f"(`timeout_seconds`): reading hangs, or is too slow. Its images here: {names}"
        )

    stream = _with_timeout(
        made, timeout_seconds, stalled, lambda error: shared_memory.explain_worker_end(error, row_bytes * rows)
    )
    _OPEN.add(stream)
    return stream


def _prepare_worker(index: int, count: int) -> None:
    """Sets up a worker process: it reuses freed memory, ignores signals to stop, and ends when its parent does.

    Launchers send signals to every process of a job; only the main process answers them.
    """
    del index, count
    host_memory.keep_freed()
    absl.logging.set_verbosity(absl.logging.ERROR)  # as in the main process, whose log it would go to
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    # By the number that the parent gave: one that was killed while this process started is no longer os.getppid().
    threading.Thread(target=_end_with_parent, args=(parent.pid,), daemon=True, name="parent").start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _with_timeout(
    made: grain.IterDataset,
    seconds: float,
    stalled: Callable[[int], Stalled],
    explain: Callable[[Exception], Exception],
) -> Generator[Batch]:
    """Yields the batches. Raises `stalled(number)` if one takes longer than `seconds`.

    A thread of its own waits for the batches, because a blocked read cannot be interrupted.
    """
    requests, answers = queue.SimpleQueue(), queue.SimpleQueue()
    threading.Thread(target=_answer, args=(iter(made), requests, answers), daemon=True, name="next batch").start()
    try:
        for number in itertools.count():
            requests.put(True)
            try:
                batch, error = answers.get(timeout=min(seconds, threading.TIMEOUT_MAX))
            except queue.Empty:
                raise stalled(number) from None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise explain(error)
            yield batch
            del batch
    finally:
        requests.put(False)
        if not isinstance(sys.exception(), Stalled):
            # The wait is limited, because this stream may hang on storage that has stalled another one.
            with contextlib.suppress(queue.Empty):
                answers.get(timeout=CLOSING_SECONDS)


def _answer(iterator: grain.DatasetIterator[Batch], requests: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    """Answers every request True with (batch, None) or (None, error); closes the iterator at the request False."""
    try:
        while requests.get():
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
    """Closes the streams that a program left open, which would fail with a traceback while the interpreter ends."""
    streams = list(_OPEN)
    for stream in streams:
        stream.close()
    if streams:  # Grain releases shared memory in a thread, which the end of the program would cut off
        time.sleep(RELEASING_SECONDS)
