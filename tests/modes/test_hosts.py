"""main.py as several real processes that train and evaluate as one, and what happens when one of them goes."""
import json
import re
import signal
import socket

import jax
import numpy as np
import pytest

from stochconv_jax.training import checksums
from tests.modes.test_main import rows, variables, wait_for_step

# A rate at which the network learns, and rounding is not blown up from step to step as by Adam's division.
TRAINED = {
    "model__merge_after": 0,
    "optimizer__name": "sgd",
    "optimizer__learning_rate": 3e-3,
    "checkpoint__every_steps": 1,
    "num_epochs": 2,
}
ROUNDING = 1e-5


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def alone(main, tmp_path_factory):
    """One process with four devices."""
    workdir = tmp_path_factory.mktemp("hosts") / "alone"
    main(workdir, devices=4, **TRAINED)
    return workdir


@pytest.fixture
def start(main):
    """Starts two processes of two devices each; what still runs at the end of the test is killed."""
    started = []

    def start(workdir, **settings):
        settings |= {"distributed__coordinator": f"localhost:{free_port()}", "distributed__num_processes": 2}
        pair = [main.start(workdir, devices=2, distributed__process_id=i, **settings) for i in range(2)]
        started.extend(pair)
        return pair

    yield start
    for process in started:
        process.kill()
        process.stdout.close()
        process.wait()


def finish(processes):
    """What each printed; all must end with 0."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


def own_lines(output):
    """The lines of our own log."""
    return re.findall(r"^\d\d:\d\d:\d\d (.*)", output, re.MULTILINE)


def assert_same_to_rounding(first, second):
    for one, other in zip(rows(first / "metrics.csv"), rows(second / "metrics.csv"), strict=True):
        for name in one.keys() - {"images_per_second", "seconds"}:
            np.testing.assert_allclose(float(one[name]), float(other[name]), rtol=ROUNDING, err_msg=name)
    both = variables(first), variables(second)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=ROUNDING), *both)


def test_two_processes_train_as_one(start, alone, tmp_path):
    first, second = finish(start(tmp_path, **TRAINED))
    assert_same_to_rounding(tmp_path, alone)
    assert "config.distributed: process 0 of 2" in first and "finished at step 13" in first
    # Only the first writes and tells; the other says where it belongs, and then nothing.
    assert len(own_lines(second)) == 1
    assert len(list(tmp_path.glob("events/*"))) == 1
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["devices"]["hosts"] == 2 and about["config"]["distributed"]["coordinator"] == ""


def test_what_slurm_starts_evaluates_as_one(main, alone):
    main(alone, mode="evaluate", eval__batch_size=3)
    summary, table = json.loads((alone / "evaluation.json").read_text()), rows(alone / "predictions.csv")
    step = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}
    step["JAX_COORDINATOR_PORT"] = str(free_port())
    tasks = [step | {"SLURM_PROCID": str(number)} for number in range(4)]
    outputs = finish([main.start(alone, mode="evaluate", environ=task) for task in tasks])
    assert "SLURM: process 0 of 4" in outputs[0]
    together = json.loads((alone / "evaluation.json").read_text())
    assert together.keys() == summary.keys() and together["n"] == 11
    for name in ("roc_auc", "log_loss", "average_precision"):
        np.testing.assert_allclose(together[name], summary[name], rtol=ROUNDING)
    got = rows(alone / "predictions.csv")
    assert [row["image"] for row in got] == [row["image"] for row in table]
    probabilities = ([float(row["probability"]) for row in each] for each in (got, table))
    np.testing.assert_allclose(*probabilities, atol=ROUNDING)


def test_sigterm_in_one_process_stops_all_at_the_same_step_and_one_alone_goes_on(main, start, alone, tmp_path):
    processes = start(tmp_path, **TRAINED)
    wait_for_step(processes[0], tmp_path, step=1)
    processes[1].send_signal(signal.SIGTERM)
    stopped = int(re.search(r"stopped and saved at step (\d+)", finish(processes)[0])[1])
    saved = {int(path.name.removeprefix("step_")): path for path in tmp_path.glob("checkpoints/step_*")}
    assert 1 < stopped < 13 and max(saved) == stopped
    assert checksums.exist(saved[stopped]) and checksums.fault(saved[stopped]) is None
    main(tmp_path, devices=4, **TRAINED)
    assert_same_to_rounding(tmp_path, alone)


def test_a_killed_process_leaves_none_behind(start, tmp_path):
    bound = 20
    processes = start(tmp_path, distributed__timeout_seconds=bound, **TRAINED)
    wait_for_step(processes[0], tmp_path, step=1)
    processes[1].kill()
    output, _ = processes[0].communicate(timeout=3 * bound)
    # JAX's words differ with what process 0 was waiting for; the number of the dead one is in both.
    named = re.search(r"Task 1 heartbeat timeout|\(stopped sending heartbeats\):\n1\n", output)
    assert processes[0].returncode and named, output


def test_a_missing_process_is_named(main, tmp_path):
    where = f"localhost:{free_port()}"
    keys = {"coordinator": where, "num_processes": 3, "process_id": 0, "timeout_seconds": 1}
    output = main(tmp_path, code=1, **{f"distributed__{name}": value for name, value in keys.items()})
    assert f"main.py: processes 1, 2 of 3 have not come to {where} within 1 s" in output
    assert "Traceback" not in output and not list(tmp_path.iterdir())
