"""A read that never returns ends the wait, with the names of the batch, and does not keep what else is closed."""

import itertools
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from stochconv_jax.data import pipeline, streams
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.runtime.watchdog import Stalled
from tests.conftest import PATIENCE
from tests.data.batches import PIXELS, evaluation, train
from tests.data.drawn import RANDOM, Noise
from tests.data.rows import PageFaultRows

pytestmark = pytest.mark.smoke


@pytest.fixture
def pipe(tmp_path):
    """A source of eight images, the first of which, a.png, is a pipe that nobody writes into; released at the end."""
    for name in "bcdefgh":
        cv2.imwrite(str(tmp_path / f"{name}.png"), RANDOM.integers(0, 256, (24, 32, 3), np.uint8))
    os.mkfifo(tmp_path / "a.png")
    yield FolderSource.from_files(sorted(tmp_path.iterdir()))
    for _ in range(2):  # whatever still waits for it gets an empty file
        os.close(os.open(tmp_path / "a.png", os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_read_that_never_returns_is_an_error_that_names_the_batch(pipe, num_workers, monkeypatch):
    monkeypatch.setattr(streams, "CLOSING_SECONDS", 0.1)
    with pytest.raises(Stalled, match=r"batch 0 of the images to evaluate .* 1\.5 seconds .*: a\.png, b\.png, c\.png$"):
        evaluation(pipe, batch_size=3, num_workers=num_workers, timeout_seconds=1.5)


def test_the_batch_of_a_training_step_names_the_very_images_of_its_rows(pipe):
    whole = Noise(len(pipe))
    rows = train(whole, 6, batch_size=4, start_step=3, seed=11)
    stalled = next(k for k, batch in enumerate(rows) if 0 in batch["index"])
    with pytest.raises(Stalled) as caught:
        train(pipe, 6, batch_size=4, start_step=3, seed=11, timeout_seconds=3)
    assert f"the batch of step {3 + stalled} " in str(caught.value)
    named = re.search(r"images here: (.*)", str(caught.value))[1].split(", ")
    assert named == [pipe.names[index] for index in rows[stalled]["index"]]


def test_closing_does_not_wait_for_a_read_that_never_returns(pipe, monkeypatch):
    monkeypatch.setattr(streams, "CLOSING_SECONDS", 0.5)
    keys = {"seed": 0, "start_step": 0, "num_workers": 0, "on_bad_image": "error", **PIXELS}
    batches = pipeline.train_batches(pipe, batch_size=1, augmentation=pipeline.Augmentation(), **keys)
    order = [int(batch["index"][0]) for batch in train(Noise(8), 8, batch_size=1, seed=0)]
    if before := order.index(0):
        list(itertools.islice(batches, before))
    batches.close()


def test_workers_leave_signals_to_the_main_process_and_end_with_it():
    """Launchers send SIGTERM to every process of a job; kill -9 ends the main process only."""
    code = (
        "import itertools, os, signal, sys, time\n"
        "from stochconv_jax.data import streams\n"
        "from tests.data.rows import ProcessRows\n"
        "if __name__ == '__main__':\n"
        "    made = streams.batches(ProcessRows(), 0, 1, 1, timeout_seconds=600)\n"
        "    worker = int(next(made)['process'][0])\n"
        "    os.kill(worker, signal.SIGTERM)\n"
        "    os.kill(worker, signal.SIGINT)\n"
        "    time.sleep(0.5)\n"
        "    assert {int(b['process'][0]) for b in itertools.islice(made, 20)} == {worker}\n"
        "    print(worker, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and alive(int(done.stdout)):
        time.sleep(0.1)
    assert not alive(int(done.stdout))


def alive(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_a_worker_reads_into_memory_that_it_has_already():
    rows = streams.batches(PageFaultRows(), 0, 1, 1, timeout_seconds=PATIENCE, last=1)
    (batch,) = list(rows)
    assert batch["again"].item() < batch["first"].item() / 10
