"""Ensembles: which predictions count for an image, and their means."""

import json
import types

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

import stochconv_jax
from configs import quickstart
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.experiment import calibrations, ensembles, evaluated_images
from stochconv_jax.experiment.ensembles import Member
from stochconv_jax.experiment.evaluated_images import OTHER, TEST, VALIDATION
from stochconv_jax.experiment.prediction_rows import prediction_rows
from stochconv_jax.loading import Ensemble
from stochconv_jax.modes import evaluate, predict
from stochconv_jax.predictor import ImageProbabilities, mean_over_runs
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training.evaluation import Predictions

MADE = {"checkpoint_step": 20, "passes": 1, "views": 1}


def member(name, images, logits, labels=None, classes=()):
    """Returns a member with these images, of which every second one has class 1, and logits `[passes, N, K]`."""
    labels = np.array([int(image[1:]) % 2 for image in images]) if labels is None else np.asarray(labels)
    columns = {"patient": [f"of {image}" for image in images]}
    source = FolderSource(images, images, labels, columns=columns, classes=classes)
    return Member(
        name, source, Predictions(np.arange(len(images)), labels, np.asarray(logits), np.array([], int)), MADE
    )


def names(first, last):
    return [f"n{k}" for k in range(first, last)]


def test_probabilities_and_ranks_are_means_over_the_runs_that_predict_an_image():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 3, 40, 1))  # two seeds, three passes
    first, second = (member(f"seed_{k}", names(0, 40), one) for k, one in enumerate(logits))
    second = Member(second.name, second.source, second.predictions, MADE)
    source, found, rank = ensembles.pool([first, second])
    p = scipy.special.expit(logits[..., 0]).mean(axis=1)
    assert source.names == names(0, 40) and source.columns["patient"][7] == "of n7"
    np.testing.assert_allclose(np.exp(found.log_p())[:, 1], p.mean(axis=0))
    np.testing.assert_allclose(found.spread()[:, 1], p.std(axis=0))
    places = p.argsort(axis=1).argsort(axis=1) + 1
    np.testing.assert_allclose(rank, places.mean(axis=0) / 41)
    expected = sklearn.metrics.roc_auc_score(source.labels, places.sum(axis=0))
    np.testing.assert_allclose(ensembles.rank_figures(found.label, rank)["roc_auc"], expected)


def test_images_of_all_folds_are_pooled_and_ranks_forgive_a_fold_whose_probabilities_are_higher():
    random = np.random.default_rng(0)
    members = []
    for fold in range(3):
        images = names(100 * fold, 100 * fold + 100)
        score = random.normal(size=100) + 2 * (np.arange(100) % 2) + 5 * fold
        members.append(member(f"fold_{fold}", images, score[None, :, None]))
    source, found, rank = ensembles.pool(members)
    assert source.names == names(0, 300) and len(found.logits) == 1
    np.testing.assert_array_equal(found.label, source.labels)
    own = np.mean([one.predictions.quality()["roc_auc"] for one in members])
    assert found.quality()["roc_auc"] < own - 0.1
    assert abs(ensembles.rank_figures(found.label, rank)["roc_auc"] - own) < 0.02


def test_an_image_is_found_by_its_name_whatever_its_place():
    first = member("a", ["n0", "n1", "n2"], [[[1.0], [2.0], [3.0]]])
    second = member("b", ["n2", "n0", "n1"], [[[3.0], [1.0], [2.0]]])
    _, found, rank = ensembles.pool([first, second])
    np.testing.assert_allclose(np.exp(found.log_p())[:, 1], scipy.special.expit([1, 2, 3]))
    np.testing.assert_allclose(rank, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.spread(), 0, atol=1e-12)


def test_more_classes_have_probabilities_and_no_ranks():
    logits = np.random.default_rng(0).normal(size=(1, 5, 3))
    _, found, rank = ensembles.pool([member("a", names(0, 5), logits, [0, 1, 2, 0, 1])])
    np.testing.assert_allclose(np.exp(found.log_p()), scipy.special.softmax(logits[0], axis=1))
    assert rank is None


def test_the_names_of_the_classes_are_those_of_the_runs():
    named = [member(name, names(0, 4), np.zeros((1, 4, 1)), classes=("dots", "net")) for name in "ab"]
    source, found, rank = ensembles.pool(named)
    row = prediction_rows(source, found, None, rank)[1]
    assert row["class"] == "net" and row["probability_dots"] == pytest.approx(0.5)


@pytest.mark.parametrize("key, value", [("classes", ("net", "dots")), ("num_classes", 3)])
def test_runs_of_other_classes_are_refused(key, value):
    configs = {name: quickstart.get_config() for name in ("a", "b")}
    for config in configs.values():
        config.data.classes = ("dots", "net")
    ensembles.refuse_other_classes(configs)
    configs["b"].data[key] = value
    with pytest.raises(ValueError, match=rf"same classes: config\.data\.{key} is .* in a and .* in b"):
        ensembles.refuse_other_classes(configs)


def test_images_that_cannot_be_read_are_named():
    predictions = Predictions(np.array([0]), np.array([0]), np.zeros((1, 1, 1)), np.array([1]))
    source = FolderSource(["n0", "n1"], ["n0", "n1"], [0, 1])
    assert ensembles.skipped([Member(name, source, predictions, MADE) for name in "ab"]) == ["n1"]


def test_what_differs_between_the_runs_is_recorded_by_run():
    made = ensembles.predicted_by([("a", MADE), ("b", MADE | {"passes": 3})])
    assert made == {"checkpoint_step": {"a": 20, "b": 20}, "passes": {"a": 1, "b": 3}, "views": 1}
    assert ensembles.predicted_by([("a", MADE), ("b", MADE)])["passes"] == 1


def test_images_that_only_some_runs_validated_on_are_no_validation_images():
    assert evaluated_images.kind_of_all([VALIDATION, VALIDATION]) == VALIDATION
    assert evaluated_images.kind_of_all([TEST, TEST]) == TEST
    assert evaluated_images.kind_of_all([VALIDATION, OTHER]) == OTHER


def test_an_image_that_one_run_cannot_use_has_its_reason():
    p = np.array([[0.4, 0.6], [0.1, 0.9]])
    first = ImageProbabilities(["x", "y"], p, 0 * p, ["", ""])
    second = ImageProbabilities(["x", "y"], np.array([[np.nan, np.nan], [0.3, 0.7]]), 0 * p, ["too small", ""])
    found, rank = mean_over_runs([first, second]), predict.mean_rank([first, second])
    assert found.reasons == ["too small", ""]
    np.testing.assert_allclose(found.probability[1], [0.2, 0.8])
    np.testing.assert_allclose(rank, [np.nan, 0.5])


def test_what_is_no_ensemble_is_refused():
    whole, half = member("a", names(0, 4), np.zeros((1, 4, 1))), member("b", names(0, 2), np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="some images are predicted by 1 and others by 2 of the runs"):
        ensembles.pool([whole, half])
    other = member("c", names(0, 4), np.zeros((1, 4, 1)), [1, 1, 1, 1])
    with pytest.raises(ValueError, match="c has class 1 for n0, and another run has 0"):
        ensembles.pool([whole, other])


@pytest.fixture
def sweep(tmp_path):
    """A folder with the runs a/fold_1/seed_0 and seed_1, beside a run in other/run."""
    for name in ("sweep/a/fold_1/seed_0", "sweep/a/fold_1/seed_1", "other/run", "sweep/a/fold_1/seed_0/test_x"):
        RunFolder(tmp_path / name).create()
        if not name.endswith("test_x"):
            (tmp_path / name / "config.json").write_text("{}")
    return tmp_path / "sweep"


def found(*paths):
    """Returns the folder of the ensemble and the paths of its runs in it."""
    root, runs = ensembles.find(paths)
    return root.path, [run.path.relative_to(root.path).as_posix() for run in runs]


def test_runs_are_found_below_a_folder_and_through_links(sweep):
    assert found(sweep) == (sweep, ["a/fold_1/seed_0", "a/fold_1/seed_1"])
    (sweep / "linked").symlink_to(sweep.parent / "other" / "run")
    assert found(sweep) == (sweep, ["a/fold_1/seed_0", "a/fold_1/seed_1", "linked"])
    for alone in (sweep.parent / "other" / "run", sweep / "a" / "fold_1" / "seed_0", sweep / "nowhere"):
        assert found(alone) == (alone, ["."])


@pytest.mark.parametrize("place", [".", "a", "a/fold_1", "a/fold_1/seed_0", "a/fold_1/seed_0/test_x"])
@pytest.mark.parametrize("to_itself", [True, False])
def test_links_in_a_circle_are_followed_once(sweep, place, to_itself):
    (sweep / place / "again").symlink_to(sweep / place if to_itself else sweep, target_is_directory=True)
    assert found(sweep) == (sweep, ["a/fold_1/seed_0", "a/fold_1/seed_1"])


def test_a_list_of_folders_lies_in_the_deepest_common_one_and_has_each_run_once(sweep):
    other = sweep.parent / "other" / "run"
    names = ["other/run", "sweep/a/fold_1/seed_1", "sweep/a/fold_1/seed_0"]
    one = sweep / "a" / "fold_1" / "seed_1"
    assert found(other, one, sweep) == (sweep.parent, names)
    assert found(one, one) == (one, ["."]) and found(one, sweep / "nowhere")[1] == ["a/fold_1/seed_1", "nowhere"]
    with pytest.raises(ValueError, match="at least one folder"):
        ensembles.find([])


def test_one_of_several_folders_that_is_no_run_is_named(sweep):
    about = {"config": json.loads(quickstart.get_config().to_json_best_effort()), "data": {}}
    for seed in (0, 1):
        RunFolder(sweep / "a" / "fold_1" / f"seed_{seed}").write_json("config.json", about)
    with pytest.raises(ValueError, match=rf"no run in {sweep.parent}/nowhere: it has no config\.json"):
        evaluate.run(None, {}, f"{sweep},{sweep.parent / 'nowhere'}")
    with pytest.raises(ValueError, match=rf"no run in {sweep.parent}/nowhere"):
        predict.run(None, {}, f"{sweep.parent / 'nowhere'}, {sweep}")
    with pytest.raises(ValueError, match=rf"no run in {sweep.parent}/nowhere"):
        stochconv_jax.load([sweep, sweep.parent / "nowhere"])


def test_an_ensemble_is_not_written_over_one_of_its_runs(sweep):
    run = sweep / "a" / "fold_1" / "seed_0"
    (run / "more").mkdir()
    (run / "more" / "config.json").write_text("{}")
    for mode in (evaluate, predict):
        with pytest.raises(ValueError, match=rf"--workdir=.*: more in the run {run}, whose own results an ensemble"):
            mode.run(None, {}, f"{run},{run / 'more'}")
    assert ensembles.of_workdir(f"{run},{run}")[1][0].path == run


def test_metadata_go_to_the_runs_of_an_ensemble_that_take_them():
    class Run:
        def __init__(self, takes):
            self.experiment = types.SimpleNamespace(metadata=takes or None)

        def predict(self, images, passes, names, metadata):
            if metadata and not self.experiment.metadata:
                raise ValueError("metadata: the run was trained without")
            p = np.full((len(images), 2), 0.9 if metadata else 0.1)
            return ImageProbabilities(images, p, 0 * p, [""] * len(images))

    found = Ensemble([Run(False), Run(True)]).predict(["a", "b"], metadata={"age": [1, 2]})
    np.testing.assert_allclose(found.probability, 0.5)
    with pytest.raises(ValueError, match="trained without"):
        Ensemble([Run(False), Run(False)]).predict(["a"], metadata={"age": [1]})


def test_a_calibration_says_to_which_predictions_of_an_ensemble_it_is_fitted(tmp_path):
    labels = np.arange(40) % 2
    p = np.stack([1 - labels * 0.5, labels * 0.5], axis=1)
    for number, words in ((3, "the predictions of the model"), (1, "the mean of 1 of 3 runs")):
        wanted = {"sensitivity": 0.9, "coverage": 0.9}
        used = ensembles.fitted_to(number, 3)
        calibrations.decide(labels, p, 0 * p, RunFolder(tmp_path), MADE, wanted, fitted_to=used)
        assert json.loads((tmp_path / "calibration.json").read_text())["fitted_to"].startswith(words)
        assert calibrations.read(RunFolder(tmp_path), MADE) is not None
