"""The weights with which training starts, from another run."""

import json
import types

import numpy as np
import pytest

from configs import quickstart
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.experiment import initial_state
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.run_folder import RunFolder


@pytest.mark.parametrize(("classes", "warned"), [(("net", "dots"), True), (("dots", "net"), False), ((), False)])
def test_a_last_layer_for_other_classes_is_said(tmp_path, monkeypatch, caplog, classes, warned):
    other, config = quickstart.get_config(), quickstart.get_config()
    other.data.classes = ("dots", "net")
    about = {"config": json.loads(other.to_json_best_effort()), "data": {}}
    RunFolder(tmp_path).write_json("config.json", about)
    there = {"params": {"classifier": {"bias": np.ones(1)}, "thumbnail_stem": {"norm": {"bias": np.ones(8)}}}}
    monkeypatch.setattr(initial_state, "restore_variables", lambda *_: (7, there))
    experiment = Experiment(config)
    experiment.train_source = FolderSource([], [], [], classes=classes)
    here = {"params": {"classifier": {"bias": np.zeros(1)}, "thumbnail_stem": {"norm": {"bias": np.zeros(8)}}}}
    fresh = types.SimpleNamespace(trained=lambda: here)
    _, report = initial_state._from_run(str(tmp_path), experiment, fresh)
    assert report.loaded == 2
    assert ("is for the classes ('dots', 'net'), and those here are ('net', 'dots')" in caplog.text) == warned


def test_a_folder_without_a_run_is_named_with_its_key(tmp_path):
    experiment, fresh = Experiment(quickstart.get_config()), types.SimpleNamespace()
    with pytest.raises(ValueError, match=r"config\.init\.run=.*nowhere: no run in"):
        initial_state._from_run(str(tmp_path / "nowhere"), experiment, fresh)
