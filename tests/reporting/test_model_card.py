"""The model card, from the files of a run."""

import json

import pytest

from configs import quickstart
from stochconv_jax.config import flatten
from stochconv_jax.reporting import model_card
from stochconv_jax.run_folder import RunFolder

MADE = {"checkpoint_step": 20, "passes": 2, "views": 1}
CALIBRATION = {"temperature": 1.5, "thresholds": {"youden": 0.3, "sensitivity": 0.2}, "set_limits": [0.1, 0.2]}
WANTED = {"wanted": {"sensitivity": 0.95, "coverage": 0.9}}
EVALUATION = {"n": 11, "class_counts": [6, 5], "roc_auc": 0.75, "checkpoint_step": 20, "passes": 2}


@pytest.fixture
def folder(tmp_path):
    """A run with an evaluation of an earlier version, which knew no views, and a calibration."""
    run, config = RunFolder(tmp_path), quickstart.get_config()
    data = {side: {"images": number} for side, number in (("train", 52), ("validation", 11))}
    run.write_json("config.json", {"config": json.loads(config.to_json_best_effort()), "data": data})
    run.write_json("evaluation.json", EVALUATION)
    run.write_json("calibration.json", CALIBRATION | WANTED | MADE)
    return run


def change(folder, **values):
    """Changes values of the run's config, by key with '__' for '.'."""
    about = folder.read_config()
    for key, value in values.items():
        section, _, name = key.partition("__")
        about["config"][section][name] = value
    assert {key.replace("__", "."): value for key, value in values.items()}.items() <= flatten(about["config"]).items()
    folder.write_json("config.json", about)


def card(folder, **made):
    return model_card.describe(folder, MADE | made, folder.path, {}, ("cpu",))


def test_classes_have_their_names(folder):
    assert "classes 0 to 1, float32" in card(folder) and "least probability of class 1 | 0.2 |" in card(folder)
    change(folder, data__classes=["dots", "net"])
    assert "classes 0 (dots), 1 (net), float32" in card(folder) and "least probability of net | 0.2 |" in card(folder)


def test_how_the_model_was_made_is_said(folder):
    assert "filters a window" not in card(folder) and "initial run" not in card(folder)
    change(folder, model__filters_per_window=4, init__run="runs/first", data__fold="2/5")
    assert "4 filters a window" in card(folder) and "| initial run | runs/first |" in card(folder)
    assert "11 to validate on (fold 2/5; source" in card(folder)


def test_an_evaluation_of_an_earlier_version_has_one_view(folder):
    assert "Of another checkpoint" not in card(folder) and "temperature" in card(folder)
    text = card(folder, views=4)
    assert "other passes or views, than the files: validation" in text and "temperature" not in text
    assert "mean over 4 flips and turns of each image" in text and "flips" not in card(folder)


@pytest.mark.parametrize(
    ("git", "words"), [(None, f"| commit | {model_card.NONE} |"), ({"commit": "0a1b"}, "| commit | 0a1b |")]
)
def test_a_run_need_not_be_of_a_git_checkout(folder, git, words):
    folder.write_json("config.json", folder.read_config() | {"git": git})
    assert words in card(folder)
