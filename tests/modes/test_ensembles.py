"""Folds, ensembles and views through the modes, as real processes."""

import json
import shutil

import cv2
import numpy as np
import pytest
import sklearn.metrics

import stochconv_jax
from stochconv_jax.modes import evaluate, predict
from stochconv_jax.run_folder import write_csv
from tests.conftest import ROOT
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


@pytest.fixture
def pair(tmp_path):
    """Two runs in folders of their own, whose networks are equal and whose windows are not, and images beside them."""
    for seed, name in enumerate(("x/first", "y/z/second")):
        shutil.copytree(ROOT / "tests" / "fixtures" / "jax_0_10_2" / "run", tmp_path / name)
        about = json.loads((tmp_path / name / "config.json").read_text())
        about["config"]["seed"] = seed
        (tmp_path / name / "config.json").write_text(json.dumps(about))
    (tmp_path / "pictures").mkdir()
    for index in range(3):
        patches = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"mole_{index}.png"), cv2.resize(patches, (96, 80)))
    return [tmp_path / "x" / "first", tmp_path / "y" / "z" / "second"]


def test_a_list_of_runs_predicts_the_mean_of_each_from_python_and_from_the_command_line(pair, tmp_path):
    ensemble = stochconv_jax.load([pair[0], tmp_path / "y"], "last")
    found = ensemble.predict(tmp_path / "pictures")
    single = [one.predict(tmp_path / "pictures").probability for one in ensemble.members]
    assert [one.folder.path for one in ensemble.members] == pair and ensemble.classes == ()
    assert np.abs(single[0] - single[1]).max() > 1e-4
    np.testing.assert_array_equal(found.probability, np.mean(single, axis=0))
    np.testing.assert_array_equal(found.std, np.std(single, axis=0))
    asked = {"eval.checkpoint": "last", "predict.images": str(tmp_path / "pictures")}
    predict.run(None, asked, ",".join(map(str, pair)))
    written = [float(row["probability"]) for row in rows(tmp_path / "predicted.csv")]
    np.testing.assert_allclose(written, found.probability[:, 1], atol=1e-5)


def test_a_list_of_runs_is_evaluated_as_one_model_in_the_folder_that_both_lie_in(pair, tmp_path):
    before = [(run / "evaluation.json").read_bytes() for run in pair]
    evaluate.run(None, {"eval.checkpoint": "last"}, ",".join(map(str, pair)))
    summary, fitted = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("evaluation", "calibration"))
    assert summary["roc_auc_by_run"].keys() == {"x/first", "y/z/second"} and summary["predictions_per_image"] == 2
    assert fitted["fitted_to"] == "the predictions of the model" and summary["images"] == "validation"
    assert [(run / "evaluation.json").read_bytes() for run in pair] == before
    shutil.copytree(pair[0], tmp_path / "third")
    with pytest.raises(ValueError, match=r"evaluation\.json is of other runs, such as y/z/second: choose another"):
        evaluate.run(None, {"eval.checkpoint": "last"}, f"{pair[0]},{tmp_path / 'third'}")


@pytest.mark.slow
def test_each_image_is_predicted_by_the_run_of_its_fold(main, folds):
    assert states(folds) == {f"split/fold_{k}/seed_0": ("finished", "") for k in (1, 2)}
    main(folds, mode="evaluate", **LAST)
    pooled, summary = rows(folds / "predictions.csv"), json.loads((folds / "evaluation.json").read_text())
    members = [rows(folds / f"split/fold_{k}/seed_0/predictions.csv") for k in (1, 2)]
    own = {row["image"]: row for member in members for row in member}
    assert len(pooled) == len(own) == summary["n"] == 40 and summary["predictions_per_image"] == 1
    fitted_to = json.loads((folds / "calibration.json").read_text())["fitted_to"]
    assert fitted_to.startswith("the mean of 1 of 2 runs") and "approximate" in fitted_to
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
