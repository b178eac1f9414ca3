"""Statistics against scikit-learn, brute force and simulation."""
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from stochconv_jax import statistics


def simulated(random, n, shift=1.0):
    """Labels and a score whose true ROC AUC is known: normal, the positives moved by `shift`."""
    labels = np.arange(n) % 2
    return labels, random.normal(size=n) + shift * labels


def log_p(score):
    return statistics.log_probabilities(np.asarray(score)[:, None])


@pytest.mark.parametrize("ties", [False, True])
def test_roc_auc_and_placements_agree_with_scikit_learn_and_with_counting_pairs(ties):
    labels, score = simulated(np.random.default_rng(), 60)
    score = np.round(score) if ties else score
    area, of_positive, of_negative = statistics.delong_placements(labels, score)
    np.testing.assert_allclose(area, sklearn.metrics.roc_auc_score(labels, score))
    np.testing.assert_allclose(area, statistics.roc_auc(labels, log_p(score)))
    pairs = np.sign(score[labels == 1][:, None] - score[labels == 0]) / 2 + 0.5
    np.testing.assert_allclose(of_positive, pairs.mean(axis=1))
    np.testing.assert_allclose(of_negative, pairs.mean(axis=0))


def test_the_interval_covers_the_true_area_about_95_times_in_100():
    random, truth = np.random.default_rng(), scipy.special.ndtr(1 / np.sqrt(2))
    covered = 0
    for _ in range(1000):
        low, high = statistics.roc_auc_interval(*simulated(random, 120))
        covered += low <= truth <= high
    # Binomial, five standard errors: 950 +- 35.
    assert 915 <= covered <= 985


def test_the_interval_of_a_perfect_result_is_not_a_point():
    low, high = statistics.roc_auc_interval(np.array([0] * 10 + [1] * 10), np.arange(20.0))
    assert 0.5 < low < 0.9 and high == 1.0
    assert np.isnan(statistics.roc_auc_interval(np.array([0, 0, 1]), np.arange(3.0))).all()


def test_multi_class_area_is_the_mean_of_one_against_rest():
    random = np.random.default_rng()
    labels, logits = random.integers(0, 4, 200), random.normal(size=(200, 4))
    p = scipy.special.softmax(logits, axis=1)
    got = statistics.roc_auc(labels, statistics.log_probabilities(logits))
    expected = np.mean([sklearn.metrics.roc_auc_score(labels == k, p[:, k]) for k in range(4)])
    np.testing.assert_allclose(got, expected)
    assert np.isnan(statistics.roc_auc(labels % 3, statistics.log_probabilities(logits)))


def test_probabilities_of_extreme_logits_do_not_tie_or_overflow():
    labels, logits = np.array([0, 1, 1, 0]), np.array([800.0, 900.0, 1000.0, -900.0])
    assert statistics.roc_auc(labels, log_p(logits)) == 1.0
    np.testing.assert_allclose(statistics.log_loss(labels, log_p(logits)), 200.0)


def test_the_mean_over_passes_is_of_probabilities():
    logits = np.random.default_rng().normal(size=(5, 7, 1)) * 4
    mean = np.exp(statistics.mean_log_probabilities(statistics.log_probabilities(logits)))
    np.testing.assert_allclose(mean[:, 1], scipy.special.expit(logits[..., 0]).mean(axis=0))
    np.testing.assert_allclose(mean.sum(axis=1), 1.0)


def test_summary_against_scikit_learn_and_by_hand():
    labels, score = simulated(np.random.default_rng(), 400)
    got, p = statistics.summary(labels, log_p(score)), scipy.special.expit(score)
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
