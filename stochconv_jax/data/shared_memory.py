"""Checks that shared memory holds the batches of worker processes, and explains why a worker has ended."""

import errno
import os
import pathlib
import re
import signal
from collections.abc import Iterable

FOLDER = pathlib.Path("/dev/shm")
# Batches a worker that are there while none is fetched, as during the first step's compilation: one in Grain's queue,
# one in its reader, and one that waits to enter each. One or two more are in use.
WAITING = 4


def needed(row_bytes: int, rows: int, num_workers: int, batches: float) -> int:
    """Returns the bytes of the batches that wait in shared memory at once.

    `row_bytes`: of a row; `rows`: of a batch; `batches`: in the whole stream, which may be infinite.
    """
    return row_bytes * rows * int(min(WAITING * num_workers, batches))


def check(streams: Iterable[int]) -> None:
    """Raises ValueError if the streams of batches, which need so many bytes each, do not fit into the free memory."""
    wanted = sum(streams)
    if wanted and FOLDER.exists() and wanted > _total_and_free()[1]:
        raise ValueError(
            f"worker processes (`num_workers`) keep {_mebibytes(wanted)} of batches in {FOLDER}, of which "
            f"{_free_memory()}: {_remedies(wanted)}"
        )


def explain_worker_end(error: Exception, batch_bytes: int) -> Exception:
    """Returns an error that says why a worker process has ended, if `error` tells of that; else `error` itself."""
    code = re.search(r"Worker process was terminated .* exit code (-\d+)", str(error))
    number = -int(code[1]) if code else 0
    if number == signal.SIGBUS or getattr(error, "errno", None) == errno.ENOSPC:
        return RuntimeError(
            f"a worker process found no room in {FOLDER} for a batch of {_mebibytes(batch_bytes)}; of it "
            f"{_free_memory()}: {_remedies(batch_bytes * 16)}"
        )
    if number == signal.SIGKILL:
        return RuntimeError(
            "a worker process was killed (signal 9), as the system does where memory runs out; it held batches of "
            f"{_mebibytes(batch_bytes)}: give the job more memory, set `num_workers` lower (0: no worker "
            "processes), or lower the batch size"
        )
    return error


def _total_and_free() -> tuple[int, int]:
    """Returns the bytes of shared memory in all, and those that are free."""
    found = os.statvfs(FOLDER)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _free_memory() -> str:
    total, free = _total_and_free()
    return f"{_mebibytes(free)} of {_mebibytes(total)} are free"


def _remedies(wanted: int) -> str:
    size = max(1, -(-wanted * 5 // 4 // 2**30))
    return (
        f"give the container more (docker run --shm-size={size}g; Kubernetes: an emptyDir of medium Memory at "
        f"{FOLDER}), set `num_workers`=0, or lower the batch size"
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
