"""--mode=sweep as a real process: shares, interruption, failures, what is skipped; and what it refuses."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import threading
import time

import pytest

from configs import quickstart
from stochconv_jax import default_config
from stochconv_jax.experiment import sweep_processes, sweep_progress, sweep_runs
from stochconv_jax.modes import sweep
from stochconv_jax.reporting import collect
from stochconv_jax.run_folder import RunFolder, locked
from stochconv_jax.runtime.watchdog import STOPPED
from tests.conftest import PATIENCE
from tests.modes.conftest import LONG, TINY
from tests.modes.runs import ablation, assert_same_run, numbers, states, wait_for_step

VARIANTS = {"full_split": {}, "thumbnail_only": {"model.branches": ("thumbnail",)}}
SEEDS = (0, 5)
NAMES = [f"{name}/seed_{seed}" for seed in SEEDS for name in VARIANTS]
SETTINGS = {key.replace(".", "__"): value for key, value in TINY.items()}
SETTINGS |= {"sweep__seeds": SEEDS, "sweep__passes": 2, "checkpoint__every_steps": 2}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return ablation(tmp_path_factory.mktemp("configs"), VARIANTS)


@pytest.fixture(scope="module")
def whole(main, config, tmp_path_factory):
    """A sweep in one go."""
    workdir = tmp_path_factory.mktemp("sweeps") / "whole"
    main(workdir, config, mode="sweep", **SETTINGS)
    return workdir


@pytest.mark.slow
def test_a_sweep_leaves_runs_that_the_report_groups_by_seed(whole):
    assert states(whole) == dict.fromkeys(NAMES, (sweep_progress.FINISHED, ""))
    groups, remarks = collect.collect(whole)
    assert {group.name: [run.seed for run in group.runs] for group in groups} == {name: [0, 5] for name in VARIANTS}
    assert not remarks
    for name in NAMES:
        assert "finished at step 20" in (whole / name / "output.log").read_text()
    assert len({tuple(row["train_loss"] for row in numbers(whole / name)) for name in NAMES}) == len(NAMES)
    for run in (run for group in groups for run in group.runs):  # the last checkpoint is evaluated
        assert run.evaluation["checkpoint_step"] == 20 and len(run.evaluation["roc_auc_by_passes"]) == 2
        assert run.evaluation["roc_auc_by_passes"][0] == run.last() and len(run.predictions.images) == 11


@pytest.mark.slow
def test_shares_at_once_and_killed_in_the_middle_are_the_whole(main, config, whole, tmp_path):
    other = main.start(tmp_path, config, mode="sweep", sweep__shard="2/2", **SETTINGS)
    first, second = tmp_path / NAMES[0], tmp_path / NAMES[1]
    process = main.start(tmp_path, config, mode="sweep", sweep__shard="1/2", **SETTINGS)
    wait_for_step(process, first, step=2)
    kill(process)
    assert len(numbers(first)) < 3 and not second.exists()
    process = main.start(tmp_path, config, mode="sweep", sweep__shard="1/2", **SETTINGS)
    while "--mode=evaluate" not in (first / "output.log").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    kill(process)
    assert not (first / "evaluation.json").exists() and not second.exists()
    # As a task of two, each of which has its own share: their runs must not look for each other.
    task = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "localhost"}
    main(tmp_path, config, mode="sweep", sweep__shard="1/2", environ=task, **SETTINGS)
    output, _ = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, output
    assert set(states(tmp_path, "sweep_1_of_2.csv")) | set(states(tmp_path, "sweep_2_of_2.csv")) == set(NAMES)
    for name in NAMES:
        assert_same_run(tmp_path / name, whole / name)
        for file in ("predictions.csv", "evaluation.json"):
            assert (tmp_path / name / file).read_bytes() == (whole / name / file).read_bytes()


def kill(sweeping):
    """Ends a sweep and the run that it is making, as the machine would."""
    child = child_of(sweeping)
    sweeping.kill()
    os.kill(child, signal.SIGKILL)
    sweeping.communicate()


def child_of(sweeping):
    children = pathlib.Path(f"/proc/{sweeping.pid}/task/{sweeping.pid}/children")
    while not (child := children.read_text()):
        time.sleep(0.01)
    return int(child)


@pytest.fixture
def copy(whole, tmp_path):
    """The sweep, for a test to change."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_finished_runs_are_skipped_and_another_config_is_not_taken_for_finished(main, config, whole, copy):
    before = {file: file.read_bytes() for name in NAMES for file in (whole / name).glob("*.*")}
    with locked(whole, ".sweep.lock"):
        assert f"another process works in {whole}" in main(whole, config, mode="sweep", code=1, **SETTINGS)
    # The sweep itself takes no device: one that it held could not be had by its runs.
    output = main(whole, config, mode="sweep", platform="none_such", **SETTINGS)
    assert "4 runs, of which 4 are finished" in output
    assert before == {file: file.read_bytes() for name in NAMES for file in (whole / name).glob("*.*")}
    output = main(copy, config, mode="sweep", code=1, sweep__shard="1/4", batch_size=4, **drop("batch_size"))
    assert f"{NAMES[0]} failed: {copy / NAMES[0]} holds another run" in output
    assert "batch_size: 8 there, 4 now" in (copy / NAMES[0] / "output.log").read_text()
    assert numbers(copy / NAMES[0])[-1]["epoch"] == "3"


def drop(name):
    return {key: value for key, value in SETTINGS.items() if key != name}


@pytest.mark.slow
def test_more_passes_evaluate_anew_without_training(main, config, copy):
    checkpoints, metrics = copy / NAMES[2] / "checkpoints", copy / NAMES[2] / "metrics.csv"
    before = sorted(checkpoints.rglob("*")), metrics.stat().st_mtime_ns
    main(copy, config, mode="sweep", sweep__passes=3, sweep__shard="2/4", **drop("sweep__passes"))
    assert len(collect.read(copy / NAMES[2], copy).evaluation["roc_auc_by_passes"]) == 3
    assert before == (sorted(checkpoints.rglob("*")), metrics.stat().st_mtime_ns)


@pytest.mark.slow
def test_a_failed_run_is_recorded_and_the_others_go_on(main, tmp_path):
    config = ablation(tmp_path, {"broken": {"init.weights": "nowhere.h5"}, "fine": {}})
    settings = SETTINGS | {"sweep__seeds": (3,)}
    output = main(tmp_path / "runs", config, mode="sweep", code=1, **settings)
    reason = "config.init.weights='nowhere.h5': there is no such file; names begin with timm/ or keras/"
    assert states(tmp_path / "runs") == {"broken/seed_3": ("failed", reason), "fine/seed_3": ("finished", "")}
    assert f"broken/seed_3 failed: {reason}" in output and "1 runs finished, 1 failed" in output
    assert reason in (tmp_path / "runs" / "broken" / "seed_3" / "output.log").read_text()


@pytest.mark.slow
def test_a_signal_is_handed_on_and_ends_the_sweep_once_the_run_has_saved(main, config, tmp_path):
    folder = tmp_path / NAMES[0]
    with locked(folder):
        process = main.start(tmp_path, config, mode="sweep", **SETTINGS | LONG)
        for line in process.stdout:
            if "waiting for the process that works there" in line:
                break
        assert states(tmp_path)[NAMES[0]] == ("running", "") and not (folder / "config.json").exists()
    wait_for_step(process, folder, step=2)
    # As a job's launcher does, which signals every process: what the sweep hands on is then a second one.
    os.kill(child_of(process), signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == STOPPED, output
    assert re.search(r"^.*stopped and saved at step \d+$", (folder / "output.log").read_text(), re.MULTILINE)
    assert [state for state, _ in states(tmp_path).values()] == ["stopped", "waiting", "waiting", "waiting"]
    assert not (tmp_path / NAMES[1]).exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.csv", b"epoch,step\nx,1\n"),
        ("metrics.csv", b"\xff\xfe\n\x00"),
        ("metrics.csv", b"epoch,step\n1\n"),
        ("metrics.csv", b"a,b\n1,2\n"),
        ("config.json", b"[1]"),
        ("config.json", b'{"config": []}'),
        ("config.json", b'{"config": {"num_epochs": "x"}}'),
        ("evaluation.json", b"[1]"),
    ],
)
def test_a_run_with_a_damaged_file_is_to_be_made_and_stops_no_other(file, content, tmp_path):
    config = quickstart.get_config()
    ablated = ablation(tmp_path, VARIANTS).removeprefix("--config=")
    planned = sweep_runs.plan(config, {}, ablated, tmp_path / "runs")
    folder = planned[0].folder.create()
    folder.write_json("config.json", {"config": config.to_dict()})
    folder.write_metrics([{"epoch": config.num_epochs, "step": 1}])
    folder.write_json("evaluation.json", {"checkpoint_step": 1, "passes": config.sweep.passes})
    assert planned[0].finished()
    (folder.path / file).write_bytes(content)
    waiting = sweep_progress.SweepStates(tmp_path / "sweep.csv", planned).those(sweep_progress.WAITING)
    assert waiting == planned and sweep_progress.SweepProgress(waiting, every=1)


def test_a_run_that_another_sweep_was_quicker_to_take_is_waited_for(tmp_path, monkeypatch):
    class FakeRun:
        def __init__(self):
            self.folder, self.config, self.commands = RunFolder(tmp_path / "run"), quickstart.get_config(), []

        def train_command(self):
            return ["train"]

        def trained(self):
            return len(self.commands) == 2

        finished = trained

    def process(command, log, received, tick):
        run.commands.append(command)
        if len(run.commands) == 1:  # the other has begun just before
            (held := contextlib.ExitStack()).enter_context(locked(run.folder.path))
            threading.Timer(0.2, held.close).start()
        return 1

    run = FakeRun()
    run.config.sweep.passes = 0
    monkeypatch.setattr(sweep_processes, "_run_process", process)
    assert sweep_processes.make(run, [], None) == (sweep_progress.FINISHED, "")
    run.commands.clear()
    monkeypatch.setattr(sweep_processes, "_run_process", lambda command, log, received, tick: 1)
    assert sweep_processes.make(run, [], None) == (sweep_progress.FAILED, "exit code 1")


def test_a_config_without_a_sweep_is_refused(tmp_path):
    file = default_config.__file__
    with pytest.raises(ValueError, match=r"default_config\.py describes one run and no sweep: take a file of"):
        sweep.run(default_config.get_config(), {}, tmp_path, config_file=file)


def test_the_line_for_the_whole_counts_the_epochs_that_will_come():
    class FakeRun:
        def __init__(self, name, epochs):
            self.name, self.done, self.config = name, epochs, quickstart.get_config()  # of ten epochs

        def epochs(self):
            return self.done

        def work_left(self):
            return 10 - self.done

    now, lines, (begun, fails, last) = 0.0, [], (FakeRun("begun", 6), FakeRun("fails", 0), FakeRun("last", 0))
    progress = sweep_progress.SweepProgress([begun, fails, last], every=10, clock=lambda: now, emit=lines.append)
    now, begun.done = 30.0, 8
    progress.tick(begun)
    now, begun.done = 35.0, 9  # too soon for another line
    progress.tick(begun)
    now, begun.done = 60.0, 10
    progress.end(begun, "finished")
    now, fails.done = 75.0, 1
    progress.end(fails, "failed")
    now, last.done = 150.0, 10
    progress.end(last, "finished")
    assert lines == [
        "0 of 3 runs over; begun at epoch 8 of 10; 5:30 left",  # 2 epochs in 30 s; 2 + 20 are left
        "1 of 3 runs over; begun finished; 5:00 left",  # 4 in 60 s
        "2 of 3 runs over; fails failed; 2:30 left",  # 5 in 75 s, and 10 are left
        "3 of 3 runs over; last finished; 0:00 left",
    ]
