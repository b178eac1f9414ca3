"""main.py in several real processes that train and evaluate together, also when one of them is killed or fails."""

import http.server
import json
import re
import resource
import shutil
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from stochconv_jax.experiment import data_sources, runs
from stochconv_jax.runtime import distributed
from stochconv_jax.runtime.watchdog import STOPPED
from stochconv_jax.training import checksums
from tests.conftest import PATIENCE, free_port
from tests.modes.conftest import SIGKILL, SIGTERM, when
from tests.modes.runs import assert_same_run, rows, wait_for_step
from tests.runtime.processes import ROUNDING, TRAINED, assert_same_to_rounding, finish, outputs_of

pytestmark = pytest.mark.slow
# Makes the devices of the two processes alternate in the mesh, as they do along the torus of a TPU pod.
ALTERNATING = """
import jax
in_order = jax.make_mesh
def alternating(*arguments, devices, **keys):
    return in_order(*arguments, devices=devices[::2] + devices[1::2], **keys)
jax.make_mesh = alternating
"""
# The time of day jumps by minutes, forwards or backwards, each time that it is read. By ten, Orbax would end a save.
JUMPING = """
import itertools, time
minutes, time_of_day = itertools.cycle({minutes}), time.time
time.time = lambda: time_of_day() + 60 * next(minutes)
"""
BOUND = 20  # seconds without a heartbeat after which a process counts as dead, in tests that kill one


@pytest.fixture(scope="session")
def alone(main, tmp_path_factory):
    """Returns the folder of a run by one process with four devices."""
    workdir = tmp_path_factory.mktemp("hosts") / "alone"
    main(workdir, devices=4, **TRAINED)
    return workdir


@pytest.fixture(scope="module")
def start(main):
    """Returns a function that starts processes, which are killed at the end if they still run.

    There are two of two devices each, or those of SLURM's tasks.
    """
    started = []

    def start(workdir, before=("", ""), tasks=(), **settings):
        """Starts the processes; `before` has the code of each that `Main.start` runs first, `tasks` its environment."""
        joined = {"distributed__coordinator": f"localhost:{free_port()}", "distributed__num_processes": 2}
        about = [{"environ": task} for task in tasks] or [{**joined, "distributed__process_id": n} for n in range(2)]
        for code, one in zip(before, about, strict=True):
            started.append(main.start(workdir, before=code, **{"devices": 2} | settings | one))
        return started[-len(before) :]

    yield start
    for process in started:
        process.kill()
        process.stdout.close()
        process.wait()


def own_lines(output):
    """Returns the lines of this program's log, without those of libraries."""
    return re.findall(r"^\d\d:\d\d:\d\d (.*)", output, re.MULTILINE)


def slurm(tasks):
    """Returns the environment that SLURM gives to each of the tasks of a step on this machine."""
    step = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": str(tasks), "SLURM_STEP_NODELIST": "localhost"}
    step["JAX_COORDINATOR_PORT"] = str(free_port())
    return [step | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)} for number in range(tasks)]


@pytest.fixture(scope="module")
def together(start, tmp_path_factory):
    """Returns the folder of a run by two uninterrupted tasks of SLURM, and the output of each."""
    workdir = tmp_path_factory.mktemp("together")
    return workdir, finish(start(workdir, before=[ALTERNATING] * 2, tasks=slurm(2), **TRAINED))


def test_two_processes_train_as_one(together, alone):
    workdir, (first, second) = together
    assert_same_to_rounding(workdir, alone)
    assert "SLURM: process 0 of 2" in first and "finished at step 13" in first
    # Only process 0 logs and writes; the other one logs its number and then nothing.
    assert len(own_lines(second)) == 1
    assert len(list(workdir.glob("events/*"))) == 1
    about = json.loads((workdir / "config.json").read_text())
    assert about["devices"]["hosts"] == 2 and about["config"]["distributed"]["coordinator"] == ""


def test_four_processes_evaluate_as_one(main, start, alone, tmp_path):
    parted = shutil.copytree(alone, tmp_path / "parted")
    main(alone, mode="evaluate", eval__batch_size=3)
    first, *_ = finish(start(parted, before=[""] * 4, tasks=slurm(4), devices=1, mode="evaluate"))
    assert "SLURM: process 0 of 4" in first
    (one, first), (four, second) = (
        (json.loads((workdir / "evaluation.json").read_text()), rows(workdir / "predictions.csv"))
        for workdir in (alone, parted)
    )
    assert four.keys() == one.keys() and four["n"] == 11
    for name in ("roc_auc", "log_loss", "average_precision"):
        np.testing.assert_allclose(four[name], one[name], rtol=ROUNDING)
    assert [row["image"] for row in first] == [row["image"] for row in second]
    probabilities = ([float(row["probability"]) for row in each] for each in (first, second))
    np.testing.assert_allclose(*probabilities, atol=ROUNDING)


def test_sigterm_in_one_process_stops_all_at_a_step_and_one_alone_and_two_go_on(main, start, alone, tmp_path):
    processes = start(tmp_path, **TRAINED)
    wait_for_step(processes[0], tmp_path, step=1)
    processes[1].send_signal(signal.SIGTERM)
    output = finish(processes, STOPPED)[0]
    assert "the given values: process 0 of 2" in output
    stopped = int(re.search(r"stopped and saved at step (\d+)", output)[1])
    saved = {int(path.name.removeprefix("step_")): path for path in tmp_path.glob("checkpoints/step_*")}
    assert 1 < stopped < 13 and max(saved) == stopped
    assert checksums.exist(saved[stopped]) and checksums.fault(saved[stopped]) is None
    interrupted = {"before": when("training.steps.train_step", SIGTERM), "code": STOPPED}
    output = main(tmp_path, devices=4, **interrupted, **TRAINED)
    assert f"stopped and saved at step {stopped + 1}" in output
    assert f": starting at step {stopped + 1} of 13" in finish(start(tmp_path, **TRAINED))[0]
    assert_same_to_rounding(tmp_path, alone)


def test_two_stopped_in_an_evaluation_and_killed_in_a_save_go_on_bit_for_bit_as_clocks_jump(start, together, tmp_path):
    begun = time.monotonic()
    endless = "from stochconv_jax.data import pipeline; pipeline.num_batches = lambda *_: 10**6\n"
    signalled = endless + when("training.evaluation.predict", SIGTERM)
    stopped = finish(start(tmp_path, before=(endless, signalled), **TRAINED), STOPPED)
    assert "stopped and saved at step 7" in stopped[0]
    assert not rows(tmp_path / "metrics.csv")
    # The evaluation of step 7 adds to its checkpoint, step 8 is saved, and step 9 is not.
    killed = when("training.checksums.write", SIGKILL, call=3)
    first, second = start(tmp_path, before=(killed, ""), distributed__timeout_seconds=BOUND, **TRAINED)
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == -signal.SIGKILL, output
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode > 0 or second.returncode == -signal.SIGABRT, output
    assert list(tmp_path.glob("checkpoints/step_9.*tmp*")) and not (tmp_path / "checkpoints" / "step_9").exists()
    # Clocks that jump, each its own way, change nothing.
    jumping = (JUMPING.format(minutes=minutes) for minutes in ((0, 1, -1), (-2, 1)))
    assert "step 8 of 13" in finish(start(tmp_path, before=tuple(jumping), **TRAINED))[0]
    seconds = json.loads((tmp_path / "goodput.json").read_text())["seconds"]
    assert min(seconds.values()) >= 0 and sum(seconds.values()) < time.monotonic() - begun
    assert_same_run(tmp_path, together[0])


def test_prediction_by_two_processes_is_that_of_one(main, start, alone, tmp_path):
    _, config = runs.read_run(alone, {})
    _, source = data_sources.training_and_validation(config)
    for index, name in enumerate(source.names):
        cv2.imwrite(str(tmp_path / f"{name}.png"), source.read(index)[..., ::-1])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    settings = {"mode": "predict", "predict__images": tmp_path, "eval__batch_size": 4}
    main(alone, devices=4, predict__output=tmp_path / "one.csv", **settings)
    first, _ = finish(start(alone, predict__output=tmp_path / "two.csv", **settings))
    one, two = (rows(tmp_path / f"{name}.csv") for name in ("one", "two"))
    assert [row["image"] for row in one] == [row["image"] for row in two] and len(one) == len(source) + 1
    assert [row["image"] for row in two if row["reason"]] == ["broken.jpg"]
    probabilities = ([float(row["probability"] or 2) for row in each] for each in (one, two))
    np.testing.assert_allclose(*probabilities, atol=ROUNDING)
    assert "broken.jpg" in first and "11 of 12 images predicted" in first


def test_a_killed_process_leaves_none_behind(start, tmp_path):
    processes = start(tmp_path, distributed__timeout_seconds=BOUND, **TRAINED)
    wait_for_step(processes[0], tmp_path, step=1)
    processes[1].kill()
    output, _ = processes[0].communicate(timeout=PATIENCE)
    # JAX's message depends on what process 0 was waiting for; both messages have the number of the dead process.
    named = re.search(r"Task 1 heartbeat timeout|\(stopped sending heartbeats\):\n1\n", output)
    assert processes[0].returncode and named, output


@pytest.mark.parametrize("fails", [0, 1])
def test_a_save_that_fails_in_one_process_ends_both_in_time_and_is_named(start, tmp_path, fails):
    full = when("training.checksums.write", "raise OSError(28, 'No space left on device')", call=3)
    processes = start(tmp_path, before=("" if fails else full, ""), checkpoint__grace_seconds=10, **TRAINED)
    wait_for_step(processes[0], tmp_path, step=1)
    if fails:  # a disk or a quota of its own
        resource.prlimit(processes[1].pid, resource.RLIMIT_FSIZE, (0, 0))
    outputs = outputs_of(processes)
    assert all(process.returncode for process in processes), outputs
    where = f"of step \\d+ in {tmp_path}/checkpoints: "
    reason = "File too large" if fails else f"cannot save the checkpoint {where}.*No space left"
    assert re.search(reason, outputs[fails]), outputs[fails]
    # JAX may abort the second process before its watchdog does, so one such message is enough.
    told = r"process [01] has not ended within 10 s of the wait for (a|the last) save.*: it waits in .*checkpoints\.py"
    assert any(re.search(told, output) for output in outputs), outputs
    complete = [path for path in tmp_path.glob("checkpoints/step_*") if path.name[5:].isdigit()]
    assert complete and all(checksums.exist(path) and checksums.fault(path) is None for path in complete)


def test_a_missing_process_is_named(main, tmp_path):
    where = f"localhost:{free_port()}"
    keys = {"coordinator": where, "num_processes": 3, "process_id": 0, "timeout_seconds": 1}
    output = main(tmp_path, code=1, **{f"distributed__{name}": value for name, value in keys.items()})
    assert f"stochconv_jax: processes 1, 2 of 3 have not come to {where} within 1 s" in output
    assert "Traceback" not in output and not list(tmp_path.iterdir())


@pytest.mark.parametrize("answers, expected", [([503, 503, 200], "3"), ([404], None), ([503] * 9, OSError)])
def test_a_busy_metadata_server_is_asked_again(answers, expected, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path.endswith("/attributes/agent-worker-number") and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(answers.pop(0))
            self.end_headers()
            self.wfile.write(b"3")

        def log_message(self, *_):
            pass

    monkeypatch.setattr(distributed, "PAUSES", (0, 0, 0))
    with http.server.HTTPServer(("localhost", 0), Handler) as server:
        monkeypatch.setenv("GCE_METADATA_IP", f"localhost:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            if expected is OSError:
                with pytest.raises(OSError, match=r"cannot be told: http://localhost.*503"):
                    distributed._metadata("agent-worker-number")
            else:
                assert distributed._metadata("agent-worker-number") == expected
        finally:
            server.shutdown()
            thread.join()
