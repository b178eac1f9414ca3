"""Trackers: what they are told, that a resumed run goes on in the same one, and that none ends a training."""

import contextlib
import importlib
import importlib.machinery
import logging
import math
import sys
import types
from unittest import mock

import pytest

from configs import quickstart
from stochconv_jax.modes import train
from stochconv_jax.run_folder import METRICS, RunFolder
from stochconv_jax.training import trackers
from stochconv_jax.training.metrics_log import MetricsLog
from stochconv_jax.training.trackers import Trackers

CONFIG = {f"key{number}": number for number in range(150)}


class Wandb(types.ModuleType):
    """Stands for the package: runs by identity, with what they were told."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.__spec__ = {}, importlib.machinery.ModuleSpec("wandb", None)

    def init(self, *, id, resume, dir, **about):
        assert resume == "allow"
        told = self.runs.setdefault(id, {"rows": [], "ends": [], "dir": dir, **about})
        return types.SimpleNamespace(
            log=lambda values, step: told["rows"].append((step, values)),
            finish=lambda exit_code: told["ends"].append(exit_code),
        )


class Mlflow(types.ModuleType):
    """Stands for the package: a client whose runs are kept here."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs, self.places, self.__spec__ = {}, [], importlib.machinery.ModuleSpec("mlflow", None)
        self.entities = types.SimpleNamespace(Param=lambda key, value: (key, value))

    def MlflowClient(self, place):
        self.places.append(place)
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment, run_name):
        self.runs[run := f"run{len(self.runs)}"] = {"rows": [], "params": {}, "name": run_name}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run))

    def log_batch(self, run, params):
        assert len(params) <= 100  # more is refused
        self.runs[run]["params"] |= dict(params)

    def log_metric(self, run, name, value, step):
        self.runs[run]["rows"].append((step, {name: value}))

    def update_run(self, run, status):
        self.runs[run]["status"] = status

    set_terminated = update_run


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the packages."""
    found = {"wandb": Wandb(), "mlflow": Mlflow()}
    for name, package in found.items():
        monkeypatch.setitem(sys.modules, name, package)
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return found


def row(epoch):
    return dict.fromkeys(METRICS, 0.5) | {"epoch": epoch, "step": 10 * epoch}


def test_a_resumed_run_goes_on_in_the_run_of_each_tracker(packages, tmp_path):
    folder = RunFolder(tmp_path / "mine").create()
    trackers.check_packages(("tensorboard", "wandb", "mlflow"))
    for first, finished in ((1, False), (11, True)):
        told = Trackers(("tensorboard", "wandb", "mlflow"), folder, CONFIG, first)
        MetricsLog(folder, first, trackers=told)(row(1 + first // 10))
        told.close(finished)
    ((_, wandb),), ((_, mlflow),) = packages["wandb"].runs.items(), packages["mlflow"].runs.items()
    figures = dict.fromkeys(METRICS[2:], 0.5)
    assert wandb["rows"] == [(10, figures), (20, figures)] and wandb["ends"] == [1, 0]
    assert wandb["project"] == "stochconv_jax" and wandb["name"] == "mine" and wandb["config"] == CONFIG
    assert {step: {k: v for s, one in mlflow["rows"] if s == step for k, v in one.items()} for step in (10, 20)} == {
        10: figures,
        20: figures,
    }
    assert mlflow["status"] == "FINISHED" and mlflow["name"] == "mine"
    assert mlflow["params"] == {key: str(value) for key, value in CONFIG.items()}
    assert packages["mlflow"].places == [f"sqlite:///{folder.path}/mlflow.db"] * 2
    assert any(folder.events.iterdir())


@pytest.mark.parametrize("call", ["init", "log"])
def test_one_that_fails_is_left_out_with_one_line_and_the_others_go_on(packages, tmp_path, monkeypatch, caplog, call):
    def fail(*_, **__):
        raise ConnectionError("no network")

    if call == "init":
        monkeypatch.setattr(packages["wandb"], "init", fail)
    else:
        monkeypatch.setattr(packages["wandb"], "init", lambda **_: types.SimpleNamespace(log=fail))
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        told = Trackers(("wandb", "mlflow"), RunFolder(tmp_path), CONFIG, 1)
        for step in (1, 2):
            told.log(step, {"val_loss": 0.5})
        told.close(True)
    assert len(caplog.messages) == 1 and "wandb has failed" in caplog.text and "no network" in caplog.text
    (mlflow,) = packages["mlflow"].runs.values()
    assert mlflow["rows"] == [(1, {"val_loss": 0.5}), (2, {"val_loss": 0.5})]


def test_events_that_cannot_be_written_do_not_end_a_run(tmp_path, monkeypatch, caplog):
    folder = RunFolder(tmp_path)
    told = Trackers(("tensorboard",), folder, {}, 1)
    log = MetricsLog(folder, 1, trackers=told)

    def full():
        raise OSError(28, "No space left on device")

    writer = told._trackers["tensorboard"]._writer
    monkeypatch.setattr(writer, "flush", full)
    for epoch in (1, 2):
        log(row(epoch))
    monkeypatch.undo()
    writer.close()
    assert caplog.text.count("No space left on device") == 1 and len(folder.read_metrics()) == 2


def test_clu_writes_the_figures_for_tensorboard(tmp_path):
    pytest.importorskip("tensorflow", reason="TensorFlow, which clu's writers need, is not installed")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    as_array = importlib.import_module("tensorboard.util.tensor_util").make_ndarray
    folder = RunFolder(tmp_path).create()
    for step in (10, 20):
        told = Trackers(("clu",), folder, CONFIG | {"name": ("a", "b")}, step - 9)
        told.log(step, {"val_loss": 5 / step, "val_roc_auc": math.nan})
        told.close(step == 20)
    found = reader(str(tmp_path / "clu")).Reload().Tensors("val_loss")
    assert [(event.step, float(as_array(event.tensor_proto))) for event in found] == [(10, 0.5), (20, 0.25)]


def test_a_package_that_is_missing_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    trackers.check_packages(("tensorboard",))
    advice = {"mlflow": r"mlflow: pip install 'stochconv_jax\[mlflow\]'", "clu": "tensorflow and tensorboard: pip"}
    for name, words in advice.items():
        with pytest.raises(RuntimeError, match=rf"`trackers` has {name}, which needs {words}"):
            trackers.check_packages(("tensorboard", name))


def test_trackers_end_after_the_last_save(monkeypatch, tmp_path):
    ended, state = [], types.SimpleNamespace(step=1)

    @contextlib.contextmanager
    def checkpoints(*_, **__):
        yield mock.MagicMock()
        ended.append("saves")

    for name in ("initial_state", "runs", "preemption", "loop", "mesh", "progress", "MetricsLog"):
        monkeypatch.setattr(train, name, mock.MagicMock())
    train.initial_state.restore_or_create.return_value = state, mock.MagicMock()
    train.loop.train.return_value = state, True
    monkeypatch.setattr(train, "Checkpoints", checkpoints)
    monkeypatch.setattr(
        trackers, "Trackers", lambda *_: types.SimpleNamespace(close=lambda finished: ended.append(finished))
    )
    experiment = mock.MagicMock(config=quickstart.get_config())
    experiment.epochs.total_steps = 1
    with contextlib.ExitStack() as stack:
        assert train._train(RunFolder(tmp_path), experiment, mock.MagicMock(), stack) == 0
    assert ended == ["saves", True]
