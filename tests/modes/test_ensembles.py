"""Folds, ensembles and views through the modes, as real processes."""

import json

import cv2
import numpy as np
import pytest
import sklearn.metrics

from stochconv_jax.run_folder import write_csv
from tests.modes.conftest import TINY
from tests.modes.runs import ablation, rows, states

SETTINGS = {key.replace(".", "__"): value for key, value in TINY.items()}
SETTINGS |= {"num_epochs": 1, "sweep__folds": 2, "sweep__seeds": 0, "data__source": "folder"}
LAST = {"eval__checkpoint": "last"}


@pytest.fixture(scope="module")
def folds(main, tmp_path_factory):
    """The runs of two folds of 40 images, which are in files beside them."""
    folder, random = tmp_path_factory.mktemp("folds"), np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for index in range(40):
        patches = random.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / "pictures" / f"mole_{index}.png"), cv2.resize(patches, (96, 80)))
    table = [{"image": f"mole_{index}", "target": index % 2, "site": f"s{index}"} for index in range(40)]
    write_csv(folder / "labels.csv", list(table[0]), table)
    data = {"data__path": folder / "pictures", "data__labels": folder / "labels.csv"}
    main(folder / "runs", ablation(folder, {"split": {}}), mode="sweep", **SETTINGS | data)
    return folder / "runs"


@pytest.mark.slow
def test_each_image_is_predicted_by_the_run_of_its_fold(main, folds):
    assert states(folds) == {f"split/fold_{k}/seed_0": ("finished", "") for k in (1, 2)}
    main(folds, mode="evaluate", **LAST)
    pooled, summary = rows(folds / "predictions.csv"), json.loads((folds / "evaluation.json").read_text())
    members = [rows(folds / f"split/fold_{k}/seed_0/predictions.csv") for k in (1, 2)]
    own = {row["image"]: row for member in members for row in member}
    assert len(pooled) == len(own) == summary["n"] == 40 and summary["predictions_per_image"] == 1
    for row in pooled:
        assert abs(float(row["probability"]) - float(own[row["image"]]["probability"])) < 1e-5
        assert row["site"] == own[row["image"]]["site"] and row["target"] == own[row["image"]]["target"]
    target = [int(row["target"]) for row in pooled]
    for name, found in (("probability", summary), ("rank", summary["mean_of_ranks"])):
        expected = sklearn.metrics.roc_auc_score(target, [float(row[name]) for row in pooled])
        assert found["roc_auc"] == pytest.approx(expected)
    for k, member in enumerate(members, start=1):
        expected = sklearn.metrics.roc_auc_score(*zip(*((int(r["target"]), float(r["probability"])) for r in member)))
        assert summary["roc_auc_by_run"][f"split/fold_{k}/seed_0"] == pytest.approx(expected)


@pytest.mark.slow
def test_an_ensemble_predicts_the_mean_of_its_runs_and_decides_by_its_own_calibration(main, folds):
    pictures, settings = folds.parent / "pictures", LAST | {"eval__views": 2, "eval__passes": 2}
    main(folds, mode="evaluate", **settings)
    main(folds, mode="predict", predict__images=pictures, **settings)
    found = rows(folds / "predicted.csv")
    columns = ["image", "probability", "std", "rank", "calibrated", "at_youden", "at_sensitivity", "set", "reason"]
    assert list(found[0]) == columns
    single = []
    for k in (1, 2):
        run = folds / f"split/fold_{k}/seed_0"
        output = main(run, mode="predict", predict__images=pictures, **settings)
        assert "views" in output and "calibration.json is not used" in output  # it is for one view and one pass
        single.append([float(row["probability"]) for row in rows(run / "predicted.csv")])
    np.testing.assert_allclose([float(row["probability"]) for row in found], np.mean(single, axis=0), atol=1e-6)
    np.testing.assert_allclose([float(row["std"]) for row in found], np.std(single, axis=0), atol=1e-6)
    places = np.argsort(np.argsort(single, axis=1), axis=1) + 1
    np.testing.assert_allclose([float(row["rank"]) for row in found], places.mean(axis=0) / 41)
