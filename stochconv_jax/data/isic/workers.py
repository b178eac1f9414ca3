"""Worker processes for preparation."""

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
    """`count` processes, 0 for one a core; with 1 the work is done in this process. Close it when done."""

    def __init__(self, count: int):
        self.count = count or len(os.sched_getaffinity(0))
        self._pool = None
        if self.count == 1:
            cv2.setNumThreads(1)
        else:
            # Spawned, not forked: a fork of a process with threads may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(self.count, context, initializer=_start)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable, items: Sequence, on_result: Callable[[Any], None] = lambda result: None) -> list:
        """`function` of each item, in their order; `on_result` is told each as it comes.

        The first error is raised, and what has not begun is given up. RuntimeError if a worker was killed.
        """
        if self._pool is None:
            return [_tell(on_result, function(item)) for item in items]
        futures = [self._pool.submit(function, item) for item in items]
        try:
            for future in concurrent.futures.as_completed(futures):
                on_result(future.result())
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker was killed, perhaps for want of memory: run again to go on, with a smaller "
                "config.prepare.num_workers"
            ) from error
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _tell(on_result: Callable[[Any], None], result: Any) -> Any:
    on_result(result)
    return result


def _start() -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism
    absl.logging.set_verbosity(absl.logging.ERROR)  # as in the main process: TFDS warns of what is as it should be
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
