"""Decisions against scikit-learn, brute force and simulation."""

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from stochconv_jax import decisions
from stochconv_jax.decisions import Calibration

WANTED = {"sensitivity": 0.9, "coverage": 0.9}


def simulated(random, n, shift=1.5, share=0.3):
    """Returns labels and calibrated probabilities `[n, 2]` of two classes whose normal scores differ by `shift`."""
    labels = (random.random(n) < share).astype(int)
    score = random.normal(size=n) + shift * labels
    log_odds = shift * (score - shift / 2) + scipy.special.logit(share)
    return labels, both(scipy.special.expit(log_odds))


def both(probability):
    return np.stack([1 - probability, probability], axis=1)


def several(random, n, classes=4):
    labels, logits = random.integers(0, classes, n), random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1
    return labels, scipy.special.softmax(logits, axis=1)


@pytest.mark.parametrize("classes", [2, 4])
def test_decided_classes_agree_with_scikit_learn(classes):
    random = np.random.default_rng(0)
    labels, decided = random.integers(0, classes, (2, 200))
    got = decisions.classification(labels, decided, classes)
    average = {"average": "binary" if classes == 2 else "macro"}
    assert got["confusion_matrix"] == sklearn.metrics.confusion_matrix(labels, decided).tolist()
    np.testing.assert_allclose(got["accuracy"], sklearn.metrics.accuracy_score(labels, decided))
    np.testing.assert_allclose(got["balanced_accuracy"], sklearn.metrics.balanced_accuracy_score(labels, decided))
    np.testing.assert_allclose(got["f1"], sklearn.metrics.f1_score(labels, decided, **average))


def test_a_class_without_an_image_counts_in_no_mean():
    labels, decided = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    got = decisions.classification(labels, decided, 4)
    assert got["balanced_accuracy"] == 0.75 and got["f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert decisions.classification(np.zeros(3, int), np.zeros(3, int), 2)["f1"] == 0


@pytest.mark.parametrize("ties", [False, True])
def test_thresholds_agree_with_the_roc_curve_of_scikit_learn(ties):
    labels, probability = simulated(np.random.default_rng(0), 300)
    one = np.round(probability[:, 1], 1) if ties else probability[:, 1]
    false, true, thresholds = sklearn.metrics.roc_curve(labels, one, drop_intermediate=False)
    assert decisions.youden_threshold(labels, one) == thresholds[np.argmax(true - false)]
    for wanted in (0.3, 0.9, 0.95, 1.0):
        assert decisions.sensitivity_threshold(labels, one, wanted) == thresholds[np.argmax(true >= wanted - 1e-12)]


def test_of_equally_good_thresholds_the_highest_is_taken():
    labels, one = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert decisions.youden_threshold(labels, one) == 0.4
    assert (
        decisions.youden_threshold(labels[:1], one[:1])
        == 0.5
        == decisions.sensitivity_threshold(labels[:1], one[:1], 1)
    )


def test_sensitivity_and_specificity_have_exact_intervals():
    labels = np.array([1] * 10 + [0] * 40)
    got = decisions.at_threshold(labels, np.arange(50) < 18)
    assert (got["sensitivity"], got["specificity"]) == (1.0, 0.8)
    # As if each of ten were a success of chance p: p to the tenth is 0.025.
    np.testing.assert_allclose(got["sensitivity_interval_95"], [0.025 ** (1 / 10), 1.0])
    assert np.isnan(decisions.at_threshold(np.zeros(3, int), np.ones(3, bool))["sensitivity"])


@pytest.mark.parametrize("draw", [simulated, several])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_by_which_logits_were_sharpened_is_found_again(draw, temperature):
    random = np.random.default_rng(0)
    labels, probability = draw(random, 20_000)
    if draw is several:  # the softmax of these scores is calibrated at the temperature 1, as simulated() is
        labels = (np.cumsum(probability, axis=1) < random.random((len(labels), 1))).sum(axis=1)
    sharp = scipy.special.softmax(np.log(probability) * temperature, axis=1)
    assert decisions.fit_temperature(labels, sharp) == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(decisions.at_temperature(sharp, temperature), probability, atol=1e-12)
    assert decisions.calibration_error(labels, probability) < 0.02 < decisions.calibration_error(labels, sharp)


def test_probabilities_of_0_and_1_and_no_error_at_all_give_finite_numbers():
    labels = np.array([0, 1] * 20)
    found = Calibration.fit(labels, both(labels.astype(float)), **WANTED)
    assert found.temperature == 1 and found.thresholds == {"youden": 1.0, "sensitivity": 1.0}
    outcomes = found.apply(both(np.array([0.0, 1.0])))
    np.testing.assert_allclose(outcomes.calibrated, [[1, 0], [0, 1]], atol=1e-300)
    np.testing.assert_array_equal(outcomes.sets, [[True, False], [False, True]])


@pytest.mark.parametrize(("draw", "count"), [(simulated, 100), (several, 120)])
def test_sets_cover_each_class_as_often_as_wanted_in_simulated_studies(draw, count):
    """Counts over 400 studies: each fits limits to `count` images and applies them to 400 others."""
    random, coverage = np.random.default_rng(0), 0.9
    covered, upper = [], []
    for _ in range(400):
        labels, probability = draw(random, count)
        limits = decisions.fit_set_limits(labels, probability, coverage)
        new_labels, new = draw(random, 400)
        sets = Calibration(1.0, {}, tuple(limits)).apply(new).sets
        covered.append(decisions.set_figures(new_labels, sets)["coverage_by_class"])
        counts = np.bincount(labels, minlength=new.shape[1])
        upper.append(coverage + 1 / (counts + 1))
    mean, error = np.mean(covered, axis=0), np.std(covered, axis=0) / np.sqrt(len(covered))
    assert (mean > coverage - 4 * error).all() and (mean < np.mean(upper, axis=0) + 4 * error).all(), (mean, error)


def test_a_class_of_few_images_is_in_every_set():
    labels, probability = np.array([0] * 50 + [1] * 8), both(np.linspace(0.1, 0.9, 58))
    limits = decisions.fit_set_limits(labels, probability, 0.9)
    assert limits[1] == 0.0 and limits[0] > 0
    assert decisions.fit_set_limits(np.append(labels, 1), both(np.linspace(0.1, 0.9, 59)), 0.9)[1] > 0


def test_cross_fitted_decisions_are_judged_as_new_images_are():
    """Where there is nothing to learn, thresholds look useful on the images that they were fitted to."""
    random, fitted, crossed, covered = np.random.default_rng(0), [], [], []
    for _ in range(200):
        labels, probability = np.arange(80) % 2, both(random.random(80))
        own = Calibration.fit(labels, probability, **WANTED).apply(probability)
        other = decisions.cross_fit(labels, probability, **WANTED)
        for found, outcomes in ((fitted, own), (crossed, other)):
            found.append(decisions.at_threshold(labels, outcomes.positive["youden"])["balanced_accuracy"])
        covered.append(decisions.set_figures(labels, other.sets)["coverage"])
    assert np.mean(fitted) > 0.55 and abs(np.mean(crossed) - 0.5) < 0.02
    assert 0.9 - 0.01 < np.mean(covered) < 0.9 + 1 / 33 + 0.01  # 32 images of each class are fitted to


def test_cross_fitting_leaves_out_the_image_that_is_judged():
    labels, probability = simulated(np.random.default_rng(0), 40)
    before = decisions.cross_fit(labels, probability, **WANTED)
    image = int(np.flatnonzero(labels == 1)[0])
    flipped = labels.copy()
    flipped[image] = 0
    part = np.zeros(40, int)  # of the images of each class, as they are dealt out
    for k in (0, 1):
        part[labels == k] = np.arange((labels == k).sum()) % decisions.PARTS
    kept = part != part[image]
    limits = Calibration.fit(labels[kept], probability[kept], **WANTED)
    np.testing.assert_array_equal(before.sets[image], probability[image] >= np.array(limits.set_limits))
    np.testing.assert_allclose(before.calibrated[~kept], limits.apply(probability[~kept]).calibrated)


def test_the_images_of_a_group_are_in_the_same_part():
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.3).astype(int)
    groups = [f"patient {k}" if k else "" for k in random.integers(0, 30, 200)]
    part = decisions.deal_out(labels, groups)
    for name in set(groups) - {""}:
        assert len({part[k] for k in range(200) if groups[k] == name}) == 1
    assert len({part[k] for k in range(200) if not groups[k]}) > 1
    counts = np.array([np.bincount(labels[part == k], minlength=2) for k in range(decisions.PARTS)])
    assert (counts.min(axis=0) > 0).all() and len(set(part)) == decisions.PARTS
    np.testing.assert_array_equal(decisions.deal_out(labels), decisions.deal_out(labels, [""] * 200))


def test_copies_of_an_image_do_not_judge_its_decision():
    """Where there is nothing to learn, copies of the judged images make thresholds look useful."""
    random, apart, together = np.random.default_rng(0), [], []
    for _ in range(25):
        labels, probability = np.repeat(np.arange(20) % 2, 5), np.repeat(random.random(20), 5)
        groups = [str(k // 5) for k in range(100)]
        for found, known in ((apart, None), (together, groups)):
            outcomes = decisions.cross_fit(labels, both(probability), groups=known, **WANTED)
            found.append(decisions.at_threshold(labels, outcomes.positive["youden"])["balanced_accuracy"])
    assert np.mean(apart) > 0.56 and np.mean(together) < 0.53, (np.mean(apart), np.mean(together))


def test_images_of_one_group_are_judged_by_no_other():
    labels, probability = simulated(np.random.default_rng(0), 20)
    found = decisions.cross_fit(labels, probability, groups=["the same"] * 20, **WANTED)
    np.testing.assert_allclose(found.calibrated, probability)
    assert found.sets.all()


def test_accuracy_rises_with_the_share_that_is_left_to_a_person():
    labels, probability = simulated(np.random.default_rng(0), 500)
    got = decisions.accuracy_by_coverage(labels, probability)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == labels
    for coverage, accuracy in zip(got["coverage"], got["accuracy"], strict=True):
        least = np.sort(confidence)[::-1][round(coverage * 500) - 1]
        np.testing.assert_allclose(accuracy, right[confidence >= least].mean())
    assert got["coverage"] == pytest.approx(np.arange(1, 11) / 10)
    assert got["accuracy"][-1] == right.mean() < got["accuracy"][2]
    assert decisions.accuracy_by_coverage(labels[:3], probability[:3])["coverage"][0] == pytest.approx(1 / 3)


def test_errors_are_told_by_the_spread_only_if_it_knows_them():
    random = np.random.default_rng(1)
    labels, probability = simulated(random, 400)
    wrong = probability.argmax(axis=1) != labels
    noise = decisions.error_detection(labels, probability, random.random(400))
    low, high = noise["roc_auc_of_spread_interval_95"]
    assert noise["errors"] == wrong.sum() and low < 0.5 < high and noise["difference_interval_95"][1] < 0
    expected = sklearn.metrics.roc_auc_score(wrong, 1 - probability.max(axis=1))
    np.testing.assert_allclose(noise["roc_auc_of_low_confidence"], expected)
    assert decisions.error_detection(labels, probability, wrong + 0.1 * random.random(400))["roc_auc_of_spread"] == 1
    assert decisions.error_detection(labels, probability, np.zeros(400))["roc_auc_of_spread"] == 0.5
    unknown = decisions.error_detection(labels, probability, np.full(400, np.nan))
    assert np.isnan(unknown["roc_auc_of_spread"]) and np.isnan(unknown["difference"])
    assert unknown["roc_auc_of_low_confidence"] == noise["roc_auc_of_low_confidence"]
    assert np.isnan(decisions.error_detection(labels, both(labels.astype(float)), np.zeros(400))["difference"])


def test_the_areas_of_classes_are_those_of_one_against_the_rest():
    labels, probability = several(np.random.default_rng(0), 200)
    expected = [sklearn.metrics.roc_auc_score(labels == k, probability[:, k]) for k in range(4)]
    np.testing.assert_allclose(decisions.roc_auc_by_class(labels, probability), expected)
    summary = decisions.summary(labels, probability, np.zeros(200), None)
    assert summary["roc_auc_by_class"] == decisions.roc_auc_by_class(labels, probability)
    assert "prediction_sets" not in summary
