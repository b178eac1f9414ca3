"""Metrics against scikit-learn, brute force and simulation."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from stochconv_jax import metrics


def simulated(random, n, shift=1.0):
    """Returns labels and normal scores; those of positives are higher by `shift`, so that the true ROC AUC is known."""
    labels = np.arange(n) % 2
    return labels, random.normal(size=n) + shift * labels


def log_p(score):
    return metrics.log_probabilities(np.asarray(score)[:, None])


@pytest.mark.parametrize("ties", [False, True])
def test_roc_auc_and_placements_agree_with_scikit_learn_and_with_counting_pairs(ties):
    labels, score = simulated(np.random.default_rng(0), 60)
    score = np.round(score) if ties else score
    area, of_positive, of_negative = metrics.delong_placements(labels, score)
    np.testing.assert_allclose(area, sklearn.metrics.roc_auc_score(labels, score))
    np.testing.assert_allclose(area, metrics.roc_auc(labels, log_p(score)))
    pairs = np.sign(score[labels == 1][:, None] - score[labels == 0]) / 2 + 0.5
    np.testing.assert_allclose(of_positive, pairs.mean(axis=1))
    np.testing.assert_allclose(of_negative, pairs.mean(axis=0))


def test_the_interval_covers_the_true_area_about_95_times_in_100():
    random, truth = np.random.default_rng(0), scipy.special.ndtr(1 / np.sqrt(2))
    covered = 0
    for _ in range(1000):
        low, high = metrics.roc_auc_interval(*simulated(random, 120))
        covered += low <= truth <= high
    # Binomial, five standard errors: 950 +- 35.
    assert 915 <= covered <= 985


def test_the_interval_of_a_perfect_result_is_not_a_point():
    low, high = metrics.roc_auc_interval(np.array([0] * 10 + [1] * 10), np.arange(20.0))
    # As if each of ten were a success of chance p: p to the tenth is 0.025.
    assert low == pytest.approx(0.025 ** (1 / 10)) and high == 1.0
    assert np.isnan(metrics.roc_auc_interval(np.array([0, 0, 1]), np.arange(3.0))).all()


def test_multi_class_area_is_the_mean_of_one_against_rest():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 4, 200), random.normal(size=(200, 4))
    p = scipy.special.softmax(logits, axis=1)
    got = metrics.roc_auc(labels, metrics.log_probabilities(logits))
    expected = np.mean([sklearn.metrics.roc_auc_score(labels == k, p[:, k]) for k in range(4)])
    np.testing.assert_allclose(got, expected)


@pytest.mark.parametrize("there", [(0, 1, 3), (1, 2)])
def test_multi_class_area_is_over_the_classes_that_have_an_image(there):
    """Averages over the classes that have an image: ISIC 2019, for example, has none of its last category."""
    random = np.random.default_rng(0)
    labels, logits = random.choice(there, 200), random.normal(size=(200, 4))
    p = scipy.special.softmax(logits, axis=1)
    got = metrics.roc_auc(labels, metrics.log_probabilities(logits))
    expected = np.mean([sklearn.metrics.roc_auc_score(labels == k, p[:, k]) for k in there])
    np.testing.assert_allclose(got, expected)
    assert np.isnan(metrics.roc_auc(np.full(200, 2), metrics.log_probabilities(logits)))


def test_probabilities_of_extreme_logits_do_not_tie_or_overflow():
    labels, logits = np.array([0, 1, 1, 0]), np.array([800.0, 900.0, 1000.0, -900.0])
    assert metrics.roc_auc(labels, log_p(logits)) == 1.0
    np.testing.assert_allclose(metrics.log_loss(labels, log_p(logits)), 200.0)


def test_the_mean_over_passes_is_of_probabilities():
    logits = np.random.default_rng(0).normal(size=(5, 7, 1)) * 4
    mean = np.exp(metrics.mean_log_probabilities(metrics.log_probabilities(logits)))
    np.testing.assert_allclose(mean[:, 1], scipy.special.expit(logits[..., 0]).mean(axis=0))
    np.testing.assert_allclose(mean.sum(axis=1), 1.0)


def test_summary_against_scikit_learn_and_by_hand():
    labels, score = simulated(np.random.default_rng(0), 400)
    got, p = metrics.summary(labels, log_p(score)), scipy.special.expit(score)
    assert (got["n"], got["positives"], got["class_counts"]) == (400, 200, [200, 200])
    np.testing.assert_allclose(got["brier_score"], sklearn.metrics.brier_score_loss(labels, p))
    np.testing.assert_allclose(got["log_loss"], sklearn.metrics.log_loss(labels, p))
    np.testing.assert_allclose(got["average_precision"], sklearn.metrics.average_precision_score(labels, p))
    negatives, positives = np.sort(score[labels == 0]), np.sort(score[labels == 1])
    # 95 % specificity of 200 negatives: at most 10 above the threshold; likewise for the positives.
    np.testing.assert_allclose(got["sensitivity_at_95_specificity"], (positives > negatives[-11]).mean())
    np.testing.assert_allclose(got["specificity_at_95_sensitivity"], (negatives < positives[10]).mean())
    low, high = got["roc_auc_interval_95"]
    assert low < got["roc_auc"] < high


def test_what_is_not_defined_is_nan_and_not_an_error():
    labels = np.array([0, 0, 1, 1])
    assert np.isnan(metrics.roc_auc_interval(labels, np.zeros(4))).all()
    bad = np.array([0.0, 1.0, np.nan, 2.0])
    assert np.isnan(metrics.roc_auc(labels, np.stack([bad, -bad], axis=1)))
    assert np.isnan(metrics.roc_auc_interval(labels, bad)).all()
    assert np.isnan(metrics.summary(labels, np.stack([bad, -bad], axis=1))["average_precision"])


def two_models(random, n):
    """Returns labels and the correlated scores of two models with equal true ROC AUC."""
    labels, shared = simulated(random, n)
    return labels, *(shared + random.normal(size=(2, n)))


def jackknife_variance(labels, value):
    """Returns the jackknife variance of `value`, a function of a mask of the images that are kept.

    It equals DeLong's variance for a ROC AUC.
    """
    variance = 0
    for k in (0, 1):
        left_out = [value(np.arange(len(labels)) != i) for i in np.flatnonzero(labels == k)]
        variance += np.var(left_out, ddof=1) * (len(left_out) - 1) ** 2 / len(left_out)
    return variance


def test_the_interval_of_an_area_agrees_with_the_jackknife():
    labels, score = simulated(np.random.default_rng(0), 80)
    area = sklearn.metrics.roc_auc_score(labels, score)
    variance = jackknife_variance(labels, lambda keep: sklearn.metrics.roc_auc_score(labels[keep], score[keep]))
    half = 1.959964 * np.sqrt(variance) / (area * (1 - area))  # on the scale of the log-odds
    expected = scipy.special.expit(scipy.special.logit(area) + np.array([-half, half]))
    np.testing.assert_allclose(metrics.roc_auc_interval(labels, score), expected, rtol=1e-6)


def test_paired_delong_agrees_with_the_jackknife_and_counts_seeds_as_a_mean():
    labels, first, second = two_models(np.random.default_rng(0), 80)
    got = metrics.delong_difference(labels, first, second)

    def difference(keep):
        areas = [sklearn.metrics.roc_auc_score(labels[keep], score[keep]) for score in (first, second)]
        return areas[0] - areas[1]

    np.testing.assert_allclose(got.value, difference(np.arange(80)), atol=1e-12)
    variance = jackknife_variance(labels, difference)
    np.testing.assert_allclose(got.high - got.value, 1.959964 * np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(got.p, 2 * scipy.special.ndtr(-abs(got.value) / np.sqrt(variance)), rtol=1e-6)
    swapped = metrics.delong_difference(labels, [second, second], [first, first])
    np.testing.assert_allclose(swapped, (-got.value, -got.high, -got.low, got.p), atol=1e-12)
    assert np.isnan(metrics.delong_difference(labels, first, first)[1:]).all()


def test_intervals_of_differences_cover_the_truth_about_95_times_in_100():
    random = np.random.default_rng(0)
    covered, small = np.zeros(4), 0
    for _ in range(1000):
        labels, first, second = two_models(random, 120)
        image = metrics.delong_difference(labels, first, second)
        areas = 0.9 + 0.01 * random.normal(size=5)
        mean = metrics.mean_interval(areas)
        seeds = random.normal(size=30)  # of every seed, in common to both models
        pair = seeds + 0.3 + 0.5 * random.normal(size=30), seeds
        student, bootstrap = metrics.student_difference(*pair), metrics.bootstrap_interval(*pair, resamples=500)
        inside = [image.low <= 0 <= image.high, mean[0] <= 0.9 <= mean[1]]
        inside += [student.low <= 0.3 <= student.high, bootstrap[0] <= 0.3 <= bootstrap[1]]
        covered += inside
        assert (image.p > 0.05) == inside[0]
        three = metrics.bootstrap_interval(random.normal(size=3), np.zeros(3), resamples=500)
        small += three[0] <= 0 <= three[1]
    # Binomial, five standard errors: 950 +- 35; the bootstrap of 30 is a little narrow: 935.
    assert (covered >= [915, 915, 915, 895]).all() and (covered <= 985).all()
    # As the docstring says: the truth lies beyond all three with chance 1/4.
    assert 680 <= small <= 820


def test_paired_differences_against_scipy_and_what_few_seeds_cannot_say():
    random = np.random.default_rng(0)
    first, second = random.random(6), random.random(6)
    got, expected = metrics.student_difference(first, second), scipy.stats.ttest_rel(first, second)
    np.testing.assert_allclose(got.p, expected.pvalue)
    np.testing.assert_allclose(got[1:3], expected.confidence_interval(0.95))
    low, high = metrics.bootstrap_interval(first, second)
    assert low < got.value < high and (low, high) == metrics.bootstrap_interval(first, second)
    drawn = {"method": "percentile", "rng": np.random.default_rng(1)}
    other = scipy.stats.bootstrap((first - second,), np.mean, **drawn).confidence_interval
    np.testing.assert_allclose((low, high), other, atol=0.05)
    assert metrics.mean_interval([0.99, 0.9, 0.999])[1] == 1.0
    assert np.isnan([*metrics.mean_interval([0.9]), *metrics.mean_interval([0.1 + 0.2, 0.3])]).all()
    assert np.isnan(metrics.student_difference([0.9], [0.8])[1:]).all()
    assert np.isnan(metrics.bootstrap_interval([0.9], [0.8])).all()
    assert np.isnan(metrics.student_difference([0.9, 0.8], [0.8, 0.7])[1:]).all()


def test_calibration_by_hand_and_of_a_calibrated_prediction():
    got = metrics.reliability(np.array([0, 1, 1, 1]), np.array([0.11, 0.19, 0.95, 1.0]))
    np.testing.assert_allclose(got, [[0.15, 0.975], [0.5, 1.0], [2, 2]])
    np.testing.assert_allclose(got.error(), 0.5 * 0.35 + 0.5 * 0.025)
    random = np.random.default_rng(0)
    p = random.random(50_000)
    labels = (random.random(50_000) < p).astype(int)
    assert metrics.reliability(labels, p).error() < 0.02 < metrics.reliability(labels, p**2).error()
