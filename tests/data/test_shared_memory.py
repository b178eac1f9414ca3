"""A lack of shared memory is found before training; a worker's end is explained."""

import collections
import os
import signal
import time

import numpy as np
import pytest

from stochconv_jax.data import shared_memory, streams
from tests.conftest import PATIENCE
from tests.data.rows import DyingRows, WideRows

MIB = 2**20


@pytest.fixture
def free(monkeypatch):
    """Returns a function that makes /dev/shm seem to have so many of 64 MiB free."""

    def free(mebibytes):
        space = collections.namedtuple("space", "f_blocks f_bavail f_frsize")(64 * 256, int(mebibytes * 256), 4096)
        monkeypatch.setattr(os, "statvfs", lambda path: space)

    return free


def test_what_will_not_fit_is_refused_with_the_sizes_and_the_remedies(free):
    free(64)
    each = shared_memory.needed(MIB, 4, 2, np.inf), shared_memory.needed(MIB, 8, 2, 4)
    assert each == (32 * MIB, 32 * MIB)
    shared_memory.check(each)
    with pytest.raises(ValueError, match=r"65 MiB of batches in /dev/shm, of which 64 MiB of 64 MiB") as caught:
        shared_memory.check([32 * MIB, 33 * MIB])
    for remedy in ("--shm-size=1g", "`num_workers`=0", "batch size"):
        assert remedy in str(caught.value)
    free(0)
    shared_memory.check([shared_memory.needed(MIB, 100, 0, np.inf)])  # threads put nothing there


@pytest.mark.parametrize(
    "number, words",
    [
        (signal.SIGBUS, r"no room in /dev/shm for a batch of 3 MiB; of it 7 MiB of 64 MiB are free: .*--shm-size"),
        (signal.SIGKILL, r"killed \(signal 9\), .*batches of 3 MiB: give the job more memory.*`num_workers` lower"),
        (signal.SIGSEGV, r"Worker process was terminated unexpectedly with exit code -11"),
    ],
)
def test_a_worker_s_death_is_called_what_it_is(free, number, words):
    free(7)
    made = streams.batches(DyingRows(number), 0, 1, 1, timeout_seconds=PATIENCE, row_bytes=3 * MIB)
    with pytest.raises(RuntimeError, match=words):
        next(made)


def test_what_is_counted_does_wait_there():
    """Batches wait in shared memory while none is fetched, as during the first step's compilation."""
    rows, deadline = 4, time.monotonic() + PATIENCE
    made = streams.batches(WideRows(), 0, rows, 1, timeout_seconds=PATIENCE)
    next(made)
    counted = shared_memory.needed(WideRows.BYTES, rows, 1, np.inf) // (rows * WideRows.BYTES)
    sizes = []
    while sizes.count(rows * WideRows.BYTES) < counted and time.monotonic() < deadline:
        sizes = [entry.stat().st_size for entry in os.scandir(shared_memory.FOLDER)]
        time.sleep(0.1)
    made.close()
    assert sizes.count(rows * WideRows.BYTES) >= counted
