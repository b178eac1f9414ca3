"""Intervals of ROC AUC for images in groups, such as patients, against the paper's formula and by simulation."""

import numpy as np
import pytest
import scipy.special

from stochconv_jax import metrics

PATIENTS, IMAGES = 60, 5


def patients(random, count=PATIENTS, *, models=1, label_of="patient"):
    """Returns labels, scores `[models, N]` and patients: `count` patients with 1 to 9 images of similar scores each."""
    sizes = random.integers(1, 2 * IMAGES, count)
    patient = np.repeat(np.arange(count), sizes)
    labels = np.arange(count)[patient] % 2 if label_of == "patient" else random.integers(0, 2, len(patient))
    own = random.normal(size=count)[patient]
    seen = 0.7 * random.normal(size=(models, count))[:, patient]  # by a model
    scores = own + seen + 0.5 * random.normal(size=(models, len(patient)))
    return labels, scores + labels, [f"p{number}" for number in patient]


def sums_of_the_paper(labels, first, second, groups):
    """Returns the covariance of two ROC AUCs by the formula of Obuchowski (1997), with a kernel of all pairs."""
    groups, sums = np.array(groups), []
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    for score in (first, second):
        kernel = (score[positives][:, None] > score[negatives]) + 0.5 * (score[positives][:, None] == score[negatives])
        area, rows, columns = kernel.mean(), kernel.mean(axis=1), kernel.mean(axis=0)
        mine = [
            (
                sum(rows[k] - area for k, image in enumerate(positives) if groups[image] == group),
                sum(columns[k] - area for k, image in enumerate(negatives) if groups[image] == group),
            )
            for group in sorted(set(groups))
        ]
        sums.append(np.array(mine))
    (x, y), (u, v) = sums[0].T, sums[1].T
    m, n, count = len(positives), len(negatives), len(set(groups))
    with_positives, with_negatives = (len(set(groups[side])) for side in (positives, negatives))
    s10 = with_positives / ((with_positives - 1) * m) * (x * u).sum()
    s01 = with_negatives / ((with_negatives - 1) * n) * (y * v).sum()
    s11, s11_swapped = (count / (count - 1) * products.sum() for products in (x * v, u * y))
    return s10 / m + s01 / n + (s11 + s11_swapped) / (m * n)


@pytest.mark.parametrize("label_of", ["patient", "image"])
def test_interval_and_difference_are_the_paper_s(label_of):
    labels, (first, second), groups = patients(np.random.default_rng(0), models=2, label_of=label_of)
    first = np.round(first, 1)  # with ties
    area, *_ = metrics.delong_placements(labels, first)
    half = 1.959964 * np.sqrt(sums_of_the_paper(labels, first, first, groups)) / (area * (1 - area))
    expected = scipy.special.expit(scipy.special.logit(area) + np.array([-half, half]))
    np.testing.assert_allclose(metrics.roc_auc_interval(labels, first, groups=groups), expected, rtol=1e-6)
    pairs = ((first, first, 1), (second, second, 1), (first, second, -2))
    variance = sum(sign * sums_of_the_paper(labels, one, other, groups) for one, other, sign in pairs)
    got = metrics.delong_difference(labels, first, second, groups=groups)
    np.testing.assert_allclose((got.high - got.low) / 2, 1.959964 * np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(got.p, 2 * scipy.special.ndtr(-abs(got.value) / np.sqrt(variance)), rtol=1e-6)


def test_it_is_near_the_jackknife_over_patients():
    labels, (score,), groups = patients(np.random.default_rng(1), 150, label_of="image")
    groups = np.array(groups)
    names = np.unique(groups)
    left_out = [metrics.delong_placements(labels[groups != g], score[groups != g])[0] for g in names]
    jackknife = np.var(left_out, ddof=1) * (len(names) - 1) ** 2 / len(names)
    low, high = scipy.special.logit(metrics.roc_auc_interval(labels, score, groups=groups))
    area, *_ = metrics.delong_placements(labels, score)
    variance = ((high - low) / 2 / 1.959964 * area * (1 - area)) ** 2
    np.testing.assert_allclose(variance, jackknife, rtol=0.05)


def test_groups_of_one_image_are_no_groups():
    labels, (first, second), _ = patients(np.random.default_rng(2), models=2)
    for alone in (["" for _ in labels], [str(i) for i in range(len(labels))]):
        got = metrics.roc_auc_interval(labels, first, groups=alone)
        np.testing.assert_allclose(got, metrics.roc_auc_interval(labels, first), rtol=1e-9)
        got = metrics.delong_difference(labels, first, second, groups=alone)
        np.testing.assert_allclose(got, metrics.delong_difference(labels, first, second), rtol=1e-9)


def test_intervals_of_grouped_images_cover_the_truth_about_95_times_in_100_and_delong_s_do_not():
    """Checks the interval of an area and that of the difference of two equally good models, in 400 simulations."""
    truth = scipy.special.ndtr(1 / np.sqrt(2 * (1 + 0.7**2 + 0.5**2)))
    random, covered = np.random.default_rng(0), np.zeros(4)
    for _ in range(400):
        labels, (first, second), groups = patients(random, models=2)
        intervals = [metrics.roc_auc_interval(labels, first, groups=known) for known in (groups, None)]
        covered[:2] += [low <= truth <= high for low, high in intervals]
        differences = [metrics.delong_difference(labels, first, second, groups=known) for known in (groups, None)]
        covered[2:] += [found.low <= 0 <= found.high for found in differences]
    # Binomial, four standard errors: 380 +- 18; with 30 patients a class the normal distribution is a little narrow.
    assert (covered[[0, 2]] >= 362).all() and (covered[[0, 2]] <= 398).all(), covered
    assert (covered[[1, 3]] < 320).all(), covered


def test_what_few_groups_cannot_say():
    labels, score = np.array([0, 0, 0, 1, 1, 1]), np.array([0.0, 1.0, 4.0, 2.0, 3.0, 5.0])
    groups = ["a", "b", "c", "d", "d", "d"]
    assert np.isnan(metrics.roc_auc_interval(labels, score, groups=groups)).all()
    assert np.isnan(metrics.delong_difference(labels, score, -score, groups=groups)[1:]).all()
    perfect = metrics.roc_auc_interval(labels, labels.astype(float), groups=["a", "b", "c", "d", "d", "e"])
    assert perfect == (pytest.approx(0.025 ** (1 / 2)), 1.0)  # two patients of class 1


def test_the_summary_says_which_images_count_as_independent():
    labels, (score,), groups = patients(np.random.default_rng(3))
    log_p = metrics.log_probabilities(score[:, None])
    plain, grouped = metrics.summary(labels, log_p), metrics.summary(labels, log_p, groups)
    assert "roc_auc_interval_95_clustered" not in plain and "taken as independent" in plain["about_intervals"]
    assert plain["roc_auc_interval_95"] == grouped["roc_auc_interval_95"]
    low, high = grouped["roc_auc_interval_95_clustered"]
    assert high - low > 1.3 * (plain["roc_auc_interval_95"][1] - plain["roc_auc_interval_95"][0])
    assert "Obuchowski" in grouped["about_intervals"]
