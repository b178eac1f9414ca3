"""Shared memory, through which worker processes hand batches over: whether it suffices, and what a death means."""

import errno
import os
import pathlib
import re
import signal
from collections.abc import Iterable

FOLDER = pathlib.Path("/dev/shm")
# Batches of a worker that lie there while nobody fetches one, as in the first step's compilation: Grain's queue and its
# reader hold one each, and before each of them another waits. One or two more are in use.
WAITING = 4


def needed(row_bytes: int, rows: int, num_workers: int, batches: float) -> int:
    """Bytes that the batches of `rows` rows take which wait there at once; of a stream of `batches` in all."""
    return row_bytes * rows * int(min(WAITING * num_workers, batches))


def check(streams: Iterable[int]) -> None:
    """ValueError if the `streams` of batches, of so many bytes each, do not fit into what is free."""
    wanted = sum(streams)
    if wanted and FOLDER.exists() and wanted > _space()[1]:
        raise ValueError(
            f"worker processes (config.data.num_workers) keep {_mebibytes(wanted)} of batches in {FOLDER}, of which "
            f"{_have()}: {_remedies(wanted)}"
        )


def explained(error: Exception, batch_bytes: int) -> Exception:
    """What a worker's end was, in words; other errors as they are. `batch_bytes`: of one batch."""
    code = re.search(r"Worker process was terminated .* exit code (-\d+)", str(error))
    number = -int(code[1]) if code else 0
    if number == signal.SIGBUS or getattr(error, "errno", None) == errno.ENOSPC:
        return RuntimeError(
            f"a worker process found no room in {FOLDER} for a batch of {_mebibytes(batch_bytes)}; of it "
            f"{_have()}: {_remedies(batch_bytes * 16)}"
        )
    if number == signal.SIGKILL:
        return RuntimeError(
            "a worker process was killed (signal 9), as the system does where memory runs out; it held batches of "
            f"{_mebibytes(batch_bytes)}: give the job more memory, set config.data.num_workers lower (0: no worker "
            "processes), or lower the batch size"
        )
    return error


def _space() -> tuple[int, int]:
    """Bytes in all, and free."""
    found = os.statvfs(FOLDER)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _have() -> str:
    total, free = _space()
    return f"{_mebibytes(free)} of {_mebibytes(total)} are free"


def _remedies(wanted: int) -> str:
    size = max(1, -(-wanted * 5 // 4 // 2**30))
    return (
        f"give the container more (docker run --shm-size={size}g; Kubernetes: an emptyDir of medium Memory at "
        f"{FOLDER}), set config.data.num_workers=0, or lower the batch size"
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
