"""Decisions through the modes: fitted by evaluate on validation images, applied by evaluate and predict to others."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest

from configs import quickstart
from stochconv_jax import decisions
from stochconv_jax.decisions import Calibration
from stochconv_jax.experiment import calibrations, data_sources, runs
from stochconv_jax.experiment.prediction_rows import decision_cells
from stochconv_jax.modes import evaluate
from stochconv_jax.run_folder import RunFolder, write_csv
from stochconv_jax.training.evaluation import Predictions
from tests.modes.runs import rows

FITTED = Calibration(2.0, {"youden": 0.4, "sensitivity": 0.1}, (0.3, 0.25))
MADE = {"checkpoint_step": 20, "passes": 2}


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A copy of a trained run, with a test set of its own validation images in files."""
    folder = tmp_path_factory.mktemp("decisions")
    shutil.copytree(finished, folder / "run")
    _, config = runs.read_run(folder / "run", {})
    _, source = data_sources.training_and_validation(config)
    (folder / "pictures").mkdir()
    for index, name in enumerate(source.names):
        cv2.imwrite(str(folder / "pictures" / f"{name}.png"), source.read(index)[..., ::-1])
    table = [{"image": name, "target": int(label)} for name, label in zip(source.names, source.labels)]
    write_csv(folder / "all.csv", ["image", "target"], table)
    return folder / "run"


@pytest.mark.slow
def test_what_is_fitted_on_the_validation_images_decides_on_others(main, run):
    files = {"eval__path": run.parent / "pictures", "eval__labels": run.parent / "all.csv"}
    last = {"eval__checkpoint": "last", "eval__passes": 2}
    assert "no thresholds and prediction sets" in main(run, mode="evaluate", **files, **last)
    before = json.loads((run / "test_all" / "evaluation.json").read_text())
    assert "at_thresholds" not in before and 0 <= before["balanced_accuracy"] <= 1
    main(run, mode="evaluate", eval__sensitivity=0.8, **last)
    own, fitted = (json.loads((run / name).read_text()) for name in ("evaluation.json", "calibration.json"))
    assert own["cross_fitted"] and fitted["wanted"] == {"sensitivity": 0.8, "coverage": 0.9}
    main(run, mode="evaluate", **files, **last)
    test = json.loads((run / "test_all" / "evaluation.json").read_text())
    assert test["calibration"] == own["calibration"] and not test["cross_fitted"]
    # The test set has the images that were fitted to, so the fit keeps its promises there.
    assert test["at_thresholds"]["sensitivity"]["sensitivity"] >= 0.8
    assert test["calibrated"]["log_loss"] <= test["log_loss"] + 1e-9
    output = main(run, mode="predict", predict__images=run.parent / "pictures", **last)
    predicted = rows(run / "predicted.csv")
    columns = ["image", "probability", "std", "calibrated", "at_youden", "at_sensitivity", "set", "reason"]
    assert list(predicted[0]) == columns, output
    labels = np.array([int(row["target"]) for row in rows(run / "predictions.csv")])
    for name in ("youden", "sensitivity"):
        above = np.array([int(row[f"at_{name}"]) for row in predicted])
        assert above[labels == 1].mean() == test["at_thresholds"][name]["sensitivity"]
        assert 1 - above[labels == 0].mean() == pytest.approx(test["at_thresholds"][name]["specificity"])
    covered = [str(label) in row["set"].split() for label, row in zip(labels, predicted)]
    assert np.mean(covered) == test["prediction_sets"]["coverage"]
    output = main(run, mode="predict", predict__images=run.parent / "pictures", eval__checkpoint="last")
    assert "calibration.json is not used, because it is for passes 2 and not for passes 1" in output
    assert list(rows(run / "predicted.csv")[0]) == ["image", "probability", "std", "reason"]


def test_validation_images_of_a_group_judge_no_decision_on_each_other(tmp_path):
    score = np.repeat(np.random.default_rng(0).normal(size=20), 5)
    groups, index = [f"patient {k // 5}" for k in range(100)], np.arange(3, 100)
    labels = (index // 5 % 2).astype(int)
    found = Predictions(index, labels, score[None, index, None], np.arange(3))
    config = quickstart.get_config()
    p = np.exp(found.log_p())
    expected = [
        decisions.cross_fit(labels, p, groups=known, sensitivity=0.95, coverage=0.9)
        for known in ([groups[k] for k in index], None)
    ]
    got = evaluate._decide(found, groups, RunFolder(tmp_path), MADE, config, "validation")["at_thresholds"]["youden"]
    assert got == decisions.at_threshold(labels, expected[0].positive["youden"])
    assert got != decisions.at_threshold(labels, expected[1].positive["youden"])


def test_a_calibration_is_read_as_it_was_written_for_the_same_predictions_only(tmp_path, caplog):
    folder = RunFolder(tmp_path)
    calibrations.write(folder, FITTED, MADE, {"sensitivity": 0.95, "coverage": 0.9})
    assert calibrations.read(folder, MADE) == FITTED
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        assert calibrations.read(folder, MADE | {"checkpoint_step": 40}) is None
    assert "it is for checkpoint_step 20 and not for checkpoint_step 40" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0}, {"temperature": "hot"}, {"thresholds": [0.5]}, {"set_limits": None}, {"set_limits": ["nan"]}],
)
def test_a_damaged_calibration_is_named(tmp_path, change):
    folder = RunFolder(tmp_path)
    calibrations.write(folder, FITTED, MADE, {})
    folder.write_json("calibration.json", json.loads((tmp_path / "calibration.json").read_text()) | change)
    with pytest.raises(ValueError, match=r"calibration\.json is damaged.*remove it"):
        calibrations.read(folder, MADE)


@pytest.mark.parametrize(
    ("probability", "above", "classes"),
    [
        ((0.75, 0.25), (0, 1), "0 1"),
        ((0.6, 0.4), (1, 1), "0 1"),
        ((0.95, 0.05), (0, 0), "0"),
        ((0.2, 0.8), (1, 1), "1"),
    ],
)
def test_a_row_says_what_the_numbers_decide(probability, above, classes):
    cells = decision_cells(np.array(probability), FITTED)
    assert (cells["at_youden"], cells["at_sensitivity"]) == above and cells["set"] == classes
    odds = (probability[1] / probability[0]) ** 0.5  # the logit halved
    assert cells["calibrated"] == pytest.approx(odds / (1 + odds))


def test_names_with_spaces_can_be_told_apart_in_a_set():
    names = ("basal cell", "nevus")
    assert decision_cells(np.array([0.75, 0.25]), FITTED, names)["set"] == "basal cell; nevus"


def test_more_classes_have_a_column_each_and_no_threshold():
    cells = decision_cells(np.array([0.2, 0.5, 0.3]), Calibration(1.0, {}, (0.5, 0.5, 0.3)))
    assert cells == pytest.approx({"calibrated_0": 0.2, "calibrated_1": 0.5, "calibrated_2": 0.3, "set": "1 2"})
