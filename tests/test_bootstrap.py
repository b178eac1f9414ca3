"""The bootstrap over images, folds and seeds, against scikit-learn and in simulated studies."""

import numpy as np
import pytest
import sklearn.metrics

from stochconv_jax import bootstrap, metrics


def test_weighted_areas_are_those_of_scikit_learn_with_ties():
    random = np.random.default_rng(0)
    labels, score = np.arange(60) % 2, random.integers(0, 8, 60) / 8
    weights = random.integers(0, 4, (5, 60))
    expected = [sklearn.metrics.roc_auc_score(labels, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(bootstrap.weighted_roc_auc(labels, score, weights), expected)
    assert np.isnan(bootstrap.weighted_roc_auc(labels, score, weights * labels)).all()


@pytest.mark.parametrize("groups", [None, [f"patient {k // 4}" for k in range(60)]])
def test_images_are_drawn_by_group_and_every_fold_as_often_as_it_is_drawn(groups):
    fold = np.repeat([1, 2, 3], [24, 20, 16])
    cluster = np.arange(60) if groups is None else np.arange(60) // 4
    weights = bootstrap._draw_images(np.random.default_rng(0), fold, cluster, 400)
    share = np.stack([weights[:, fold == k].sum(axis=1) / (fold == k).sum() for k in (1, 2, 3)], axis=1)
    assert (share == share.round()).all() and (share.sum(axis=1) == 3).all() and set(share[:, 0]) == {0, 1, 2, 3}
    alike = weights.reshape(400, 15, 4)
    assert (alike == alike[..., :1]).all() == (groups is not None)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.4)


def test_the_resamples_are_paired_and_repeat_by_seed():
    labels, scores = np.arange(90) % 2, np.random.default_rng(0).random((2, 90))
    fold = np.arange(90) % 3
    first, second = bootstrap.pooled_roc_aucs(labels, [scores, scores], fold, resamples=60)
    np.testing.assert_array_equal(first, second)
    again, _ = bootstrap.pooled_roc_aucs(labels, [scores, scores[::-1]], fold, resamples=60)
    other, _ = bootstrap.pooled_roc_aucs(labels, [scores, scores], fold, resamples=60, seed=1)
    np.testing.assert_array_equal(first, again)
    assert len(first) == 60 and not np.array_equal(first, other)


def test_the_interval_varies_with_the_seeds():
    labels, noise, fold = np.arange(1200) % 2, np.random.default_rng(0).normal(size=1200), np.arange(1200) // 2 % 4
    good, bad = 3 * labels + noise, labels + noise
    alike, apart = (
        np.ptp(bootstrap.interval(0.8, bootstrap.pooled_roc_aucs(labels, [scores], fold, resamples=300)[0]))
        for scores in (np.stack([bad, bad]), np.stack([good, bad]))
    )
    assert apart > 2 * alike


def study(random, *, skill, count=120, folds=4, seeds=2, spread=0.3):
    """Returns labels, scores `[seeds, N]` and folds of a model whose runs differ in skill by `spread`."""
    labels, fold = np.arange(count) % 2, np.arange(count) // 2 % folds
    of_run = skill + spread * random.normal(size=(seeds, folds))
    return labels, random.normal(size=count) + labels * of_run[:, fold], fold


def test_the_interval_covers_the_truth_in_simulated_studies():
    """Counts over 80 studies; the truth is the mean area of models that are trained and evaluated anew."""
    random = np.random.default_rng(0)

    def area(labels, scores):
        return np.mean([metrics.delong_placements(labels, one)[0] for one in scores])

    truth = np.mean([area(*study(random, skill=1.0)[:2]) for _ in range(1000)])
    covered = 0
    for _ in range(80):
        labels, scores, fold = study(random, skill=1.0)
        resampled = bootstrap.pooled_roc_aucs(labels, [scores], fold, resamples=100)[0]
        low, high = bootstrap.interval(area(labels, scores), resampled)
        covered += low < truth < high
    assert covered >= 0.92 * 80, covered


def test_the_interval_is_about_the_value_where_folds_differ_in_height():
    labels, fold = np.arange(600) % 2, np.arange(600) // 2 % 3
    scores = (np.random.default_rng(0).normal(size=600) + labels + 4 * fold)[None]
    value = metrics.delong_placements(labels, scores[0])[0]
    (resampled,) = bootstrap.pooled_roc_aucs(labels, [scores], fold, resamples=300)
    assert resampled.mean() > value + 0.03
    low, high = bootstrap.interval(value, resampled)
    assert 0.5 < (value - low) / (high - value) < 2
    assert bootstrap.interval(0.99, resampled)[1] == 1


def test_a_difference_has_a_p_that_fits_its_interval():
    resampled = np.arange(1000) / 1000
    found = bootstrap.difference(0.45, resampled)
    assert found.value == 0.45 and found.low < 0 < found.high
    assert found.p == pytest.approx(2 * 51 / 1001)  # of -0.0495, -0.0485, ..., fifty are below 0
    assert bootstrap.difference(0.6, resampled).p == pytest.approx(2 / 1001)
    assert bootstrap.difference(-0.6, -resampled).p == pytest.approx(2 / 1001)
    assert bootstrap.difference(0.0, np.zeros(100)).p == 1
