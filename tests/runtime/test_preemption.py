"""Runs in real processes that receive a signal at a chosen moment."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from stochconv_jax.runtime.goodput import PARTS, REPEATED
from stochconv_jax.runtime.watchdog import STOPPED
from stochconv_jax.training import checksums
from tests.conftest import ROOT, free_port
from tests.modes.conftest import HANG, SIGKILL, SIGTERM, when
from tests.modes.runs import assert_same_run, rows
from tests.runtime.processes import outputs_of

# One of two processes. Both run `then`; afterwards the first waits for the second, as in a save, and the second sleeps.
PARTED = """
import os, signal, sys, time
from orbax.checkpoint import multihost
from stochconv_jax.runtime import distributed, preemption

where, number = sys.argv[1], int(sys.argv[2])
# Process 0 has the coordinator, without which JAX ends the other one.
grace = 6.0, 2.0
place = {"coordinator": where, "num_processes": 2, "process_id": number, "timeout_seconds": 30}
distributed.join(**place, stops_together=True)
stop = preemption.on_sigterm(grace[number])
then
time.sleep(1e6) if number else multihost.get_barrier_sync_fn()(key="saved", timeout_ms=10**9)
"""
AGREE = """
if number == 1:
    os.kill(os.getpid(), signal.SIGTERM)
while not stop():
    time.sleep(0.05)
"""
FAIL = """
if number == 1:
    raise ValueError("broken")
"""


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_a_run_that_goes_on_bit_for_bit(main, finished, tmp_path):
    """Signals while data is opened, the first step is compiled, an epoch is evaluated and its evaluation is saved."""

    def interrupted(function, action=SIGTERM, call=1, code=STOPPED):
        output = main(tmp_path, before=when(function, action, call), code=code)
        table = rows(tmp_path / "metrics.csv") if (tmp_path / "metrics.csv").exists() else []
        saved = {path.name for path in tmp_path.glob("checkpoints/step_*") if checksums.fault(path) is None}
        ended = [line[9:] for line in output.splitlines() if "stopped and saved at step" in line]
        return "".join(ended), [row["step"] for row in table], saved

    assert interrupted("experiment.data_sources.training_and_validation", code=-signal.SIGTERM)[1:] == ([], set())
    assert interrupted("training.steps.train_step") == ("stopped and saved at step 1", [], {"step_1"})
    assert interrupted("training.steps.eval_step") == ("stopped and saved at step 7", [], {"step_1", "step_7"})
    killed = interrupted("training.checkpoints.write_text", SIGKILL, code=-signal.SIGKILL)
    assert killed[1:] == (["7"], {"step_1", "step_7"})
    assert "finished at step 20" in main(tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.slow
def test_a_run_that_cannot_save_ends_in_time_and_says_what_it_waits_for(main, finished, tmp_path):
    """Ends in time after an error too, and names the error. The first checksums are written by the storage check."""
    broken = when("training.checksums.write", HANG, call=2)
    broken += when("training.evaluation.predict", 'raise OSError("no")', call=2)
    output = main(tmp_path / "broken", before=broken, code=1, checkpoint__grace_seconds=3)
    assert "not ended within 3 s of OSError: no (`grace_seconds`)" in output.splitlines()[-1]
    assert not [path for path in (tmp_path / "broken/checkpoints").iterdir() if "tmp" not in path.name]
    hanging = when("training.checksums.write", HANG, call=3) + when("training.evaluation.predict", SIGTERM, call=2)
    output = main(tmp_path, before=hanging, code=1, checkpoint__grace_seconds=3)
    last = output.splitlines()[-1]
    assert "not ended within 3 s of SIGTERM (`grace_seconds`)" in last and "Traceback" not in output
    assert re.search(r"checkpoints\.py, line \d+, for self\._manager\.close\(\)", last)
    assert [path.name for path in tmp_path.glob("checkpoints/*") if "tmp" not in path.name] == ["step_7"]
    assert "step 7 of 20" in main(tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.slow
def test_the_seconds_of_all_starts_add_up_to_their_wall_time(main, tmp_path):
    began = time.monotonic()
    main(tmp_path, before=when("training.steps.train_step", SIGTERM), code=STOPPED)
    output = main(tmp_path)
    wall, content = time.monotonic() - began, json.loads((tmp_path / "goodput.json").read_text())
    # The interpreter's own start and end are not in it.
    assert wall / 2 < content["wall_seconds"] == sum(content["seconds"].values()) < wall
    assert [start["state"] for start in content["starts"]] == ["stopped", "finished"]
    assert [(start["first_step"], start["step"]) for start in content["starts"]] == [(0, 1), (1, 20)]
    assert content["seconds"]["repeated"] == 0 and all(content["seconds"][part] for part in PARTS if part != REPEATED)
    assert re.search(r" s in 2 starts: start .*compilation .*steps .*evaluation", output)


def two(then):
    """Runs two processes of `PARTED` to their ends and returns them and the output of each."""
    command = [sys.executable, "-c", PARTED.replace("then", then), f"localhost:{free_port()}"]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    settings["env"] = os.environ | {"JAX_PLATFORMS": "cpu"}
    processes = [subprocess.Popen([*command, str(number)], **settings) for number in range(2)]
    try:
        return processes, outputs_of(processes)
    finally:
        for process in processes:
            process.kill()


def test_of_two_processes_that_wait_for_each_other_each_ends_in_time_and_says_so():
    for number, (seconds, process, output) in enumerate(zip((6, 2), *two(AGREE))):
        assert process.returncode == 1, output
        assert f"process {number} has not ended within {seconds} s of SIGTERM (`grace_seconds`)" in output


@pytest.mark.slow
def test_of_two_processes_of_which_one_fails_both_end():
    processes, outputs = two(FAIL)
    assert all(process.returncode for process in processes), outputs
    assert "ValueError: broken" in outputs[1]
