"""Worker processes for a preparation."""

import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import absl.logging
import cv2


class Workers:
    """`count` worker processes, or one a core for 0; a count of 1 works in this process. Close them when done."""

    def __init__(self, count: int):
        self.count = count or len(os.sched_getaffinity(0))
        self._pool = None
        if self.count == 1:
            cv2.setNumThreads(1)
        else:
            # Spawned, not forked: a fork of a process with threads may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(self.count, context, initializer=_start_worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable, items: Sequence, on_result: Callable[[Any], None] = lambda result: None) -> list:
        """Returns `function` of each item, in their order; calls `on_result` with each result as it comes.

        Raises the first error, after which items that no worker has begun are given up, and RuntimeError if a worker
        was killed.
        """
        if self._pool is None:
            results = []
            for item in items:
                results.append(function(item))
                on_result(results[-1])
            return results
        futures = [self._pool.submit(function, item) for item in items]
        try:
            for future in concurrent.futures.as_completed(futures):
                on_result(future.result())
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker was killed, perhaps for want of memory: run again to go on, with a smaller `num_workers`"
            ) from error
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism
    absl.logging.set_verbosity(absl.logging.ERROR)  # as in the main process: without TFDS's needless warnings
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends the worker when its parent was killed; else it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    parent.join()
    os._exit(1)
