"""The recipes for SLURM under a real one of two nodes: jobs, arrays, the end of their time, requeueing, lost nodes."""

import re
import time

import pytest

from stochconv_jax.experiment import sweep_progress
from tests.clusters.hosts import Hosts
from tests.clusters.runs import ENVIRON, LAUNCHERS, assert_same_results, flags, mode_flags, slow_python
from tests.clusters.slurm import Slurm
from tests.modes.runs import ablation, assert_same_run, last_step, states
from tests.runtime.processes import assert_same_to_rounding

pytestmark = pytest.mark.clusters
RUN, ARRAY = LAUNCHERS / "slurm.sh", LAUNCHERS / "slurm_array.sh"
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED")
UNLESS_RESTARTED = 'test -n "$SLURM_RESTART_COUNT"'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes."""
    with Hosts(2) as hosts, Slurm(hosts, tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def done(cluster, tmp_path_factory):
    """A job of one task a node that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("slurm_run") / "run"
    submit_and_wait(cluster, *flags(workdir))
    return workdir


def submit_and_wait(cluster, *words, options=("--nodes=2",), expected="COMPLETED", environ=ENVIRON):
    """The log of a job that ends as expected."""
    job = cluster.submit(*options, RUN, *words, environ=environ)
    about = cluster.wait(job, *ENDED)
    assert about["JobState"] == expected, cluster.log(job)
    return cluster.log(job)


def test_one_task_a_node_trains_evaluates_and_predicts_as_one_process(cluster, done, alone):
    submit_and_wait(cluster, *mode_flags(done, "evaluate"))
    output = submit_and_wait(cluster, *mode_flags(done, "predict", predict__images=alone.parent / "pictures"))
    assert "SLURM: process 0 of 2, coordinator n1:" in output
    assert_same_results(done, alone)


def test_two_tasks_a_node_train_as_one_process(cluster, alone, tmp_path):
    output = submit_and_wait(cluster, *flags(tmp_path), options=("--nodes=2", "--ntasks-per-node=2"))
    assert "SLURM: process 3 of 4" in output
    assert_same_to_rounding(tmp_path, alone)


def test_an_array_makes_the_shares_of_an_ablation(cluster, tmp_path):
    config = ablation(tmp_path, {"full_split": {}, "thumbnail_only": {"model.branches": ("thumbnail",)}})
    keys = {"sweep__seeds": "(0,)", "num_epochs": 1, "model__merge_after": "0"}
    others = [flag for flag in flags(tmp_path / "runs", **keys) if not flag.startswith(("--config=", "--mode"))]
    job = cluster.submit("--array=1-2", ARRAY, config, *others, environ=ENVIRON)
    for task in (f"{job}_1", f"{job}_2"):
        assert cluster.wait(task, "COMPLETED", "FAILED")["JobState"] == "COMPLETED", cluster.log(job)
    for number, name in enumerate(("full_split", "thumbnail_only"), start=1):
        assert states(tmp_path / "runs", f"sweep_{number}_of_2.csv") == {
            f"{name}/seed_0": (sweep_progress.FINISHED, "")
        }
        assert (tmp_path / "runs" / name / "seed_0" / "evaluation.json").exists()


def test_a_job_that_fails_is_not_requeued(cluster, tmp_path):
    output = submit_and_wait(cluster, *flags(tmp_path, batch_size=9), expected="FAILED")
    assert "config.batch_size=9 cannot be split evenly over 2 devices" in output


def slow_job(cluster, tmp_path, *options, **more):
    """A job whose first start is slow, and its run's folder; `more`: variables."""
    environ = ENVIRON | {"PYTHON": slow_python(tmp_path, UNLESS_RESTARTED)} | more
    words = flags(tmp_path / "run", checkpoint__every_steps=1)
    job = cluster.submit("--nodes=2", *options, RUN, *words, environ=environ)
    cluster.wait(job, "RUNNING")
    return job, tmp_path / "run"


def ends_like(cluster, job, workdir, done):
    """Waits for the second start and the end of a job, which must have gone on bit for bit. Returns its log."""
    cluster.wait_for_next_turn(job)
    about = cluster.wait(job, *ENDED)
    output = cluster.log(job)
    assert (about["JobState"], about["Restarts"]) == ("COMPLETED", "1"), output
    gone_on = [int(step) for step in re.findall(r"run: starting at step (\d+) of 13", output)]
    assert gone_on[0] == 0 < gone_on[-1], output
    assert_same_run(workdir, done)
    return output


def test_a_job_whose_time_is_over_saves_and_is_requeued(cluster, done, tmp_path):
    # SLURM looks at times by the minute: the signal comes up to as much earlier.
    job, workdir = slow_job(cluster, tmp_path, "--time=2", "--signal=TERM@60", SLOW_STEP="10")
    assert "stopped and saved at step" in ends_like(cluster, job, workdir, done)


def test_a_job_that_is_requeued_saves_and_goes_on(cluster, done, tmp_path):
    job, workdir = slow_job(cluster, tmp_path)
    wait_for_saved(workdir, 2)
    cluster.ask("scontrol", "requeue", job)
    assert "stopped and saved at step" in ends_like(cluster, job, workdir, done)


def test_a_job_that_loses_a_node_goes_on_when_there_are_two_again(cluster, done, tmp_path):
    job, workdir = slow_job(cluster, tmp_path)
    wait_for_saved(workdir, 2)
    cluster.kill_node("n2")
    cluster.wait(job, "PENDING", seconds=120)
    cluster.start_node("n2")
    assert "stopped and saved" not in ends_like(cluster, job, workdir, done)


def wait_for_saved(workdir, step, seconds=120):
    """Until a checkpoint of `step` or later is complete."""
    deadline = time.monotonic() + seconds
    while last_step(workdir) < step:
        assert time.monotonic() < deadline, f"no checkpoint of step {step} in {workdir}"
        time.sleep(0.1)
