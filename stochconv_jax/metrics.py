"""Metrics of predicted probabilities with confidence intervals, and differences between models. No JAX.

In all functions `labels` are integer classes `[N]`, `log_p` are natural logarithms of class probabilities
`[N, classes]`, and `score` `[N]` grows with the probability of class 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.special
import scipy.stats
import sklearn.metrics


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities `[..., classes]`, float64; one logit `[..., 1]` is that of class 1 of two."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return scipy.special.log_softmax(logits, axis=-1)


def mean_log_probabilities(log_p: np.ndarray) -> np.ndarray:
    """Averages probabilities over passes: `[P, N, classes]` -> `[N, classes]`, both as logarithms."""
    return scipy.special.logsumexp(log_p, axis=0) - np.log(len(log_p))


def log_loss(labels: np.ndarray, log_p: np.ndarray) -> float:
    """Returns the mean negative log-probability of the true class, in nats."""
    return float(-np.take_along_axis(log_p, np.asarray(labels)[:, None], axis=1).mean())


def roc_auc(labels: np.ndarray, log_p: np.ndarray) -> float:
    """Returns the area under the ROC curve.

    For more than two classes this is the mean of one-against-rest areas over the classes that have an image. NaN if
    fewer than two classes have an image, or if a log-probability is not finite.
    """
    present = np.unique(labels)
    if len(present) < 2 or not np.isfinite(log_p).all():
        return float("nan")
    if log_p.shape[1] == 2:
        return float(sklearn.metrics.roc_auc_score(labels, scores(log_p)))
    one_hot = np.asarray(labels)[:, None] == present
    return float(sklearn.metrics.roc_auc_score(one_hot, log_p[:, present], average="macro"))


def scores(log_p: np.ndarray) -> np.ndarray:
    """Returns the log-odds of class 1 of two, `[N]`, which order images as probabilities do, without their rounding."""
    return log_p[:, 1] - log_p[:, 0]


def roc_auc_interval(
    labels: np.ndarray, score: np.ndarray, level: float = 0.95, *, groups: Sequence[str] | None = None
) -> tuple[float, float]:
    """Returns the confidence interval (low, high) of a two-class ROC AUC by DeLong's variance.

    The interval is symmetric on the logit scale, so that it stays within 0..1. DeLong, DeLong & Clarke-Pearson,
    Biometrics 44 (1988); placements by mid-ranks as in Sun & Xu, IEEE SPL 21 (2014). If the area is 0 or 1 the variance
    is zero, and the interval is the exact binomial bound for as many successes without a failure as the rarer class has
    images. NaN if a class has fewer than two images, if a score is NaN, or if the variance is zero at another area, as
    when all scores are equal.

    `groups` has the group of each image, such as the patient, or '' for an image in no group. Images of a group may
    resemble each other, so groups instead of images count as independent draws, see `_variance`.
    """
    area, positive, negative = delong_placements(labels, score)
    variance, count = _variance(labels, positive, negative, groups)
    if count < 2:
        return float("nan"), float("nan")
    if area in (0.0, 1.0):
        bound = ((1 - level) / 2) ** (1 / count)
        return (bound, 1.0) if area > 0.5 else (0.0, 1 - bound)
    if not variance > 0:
        return float("nan"), float("nan")
    half = scipy.stats.norm.ppf(0.5 + level / 2) * np.sqrt(variance) / (area * (1 - area))
    center = scipy.special.logit(area)
    return float(scipy.special.expit(center - half)), float(scipy.special.expit(center + half))


def delong_placements(labels: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the ROC AUC and the placements of the positive and of the negative images.

    The placement of an image is the share of the other class's images that are ranked correctly relative to it.
    """
    labels, score = np.asarray(labels).astype(bool), np.asarray(score, np.float64)
    positive, negative = score[labels], score[~labels]
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    if not m or not n:
        return float("nan"), np.zeros(m), np.zeros(n)
    positive_placements = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    negative_placements = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
    return float(positive_placements.mean()), positive_placements, negative_placements


def _variance(
    labels: np.ndarray, positive: np.ndarray, negative: np.ndarray, groups: Sequence[str] | None
) -> tuple[float, int]:
    """Returns the variance of an area, or of a difference of two, and the number of draws of the rarer class.

    `positive` and `negative` are placements, or differences of placements. Without `groups` each image is a draw, and
    this is DeLong's variance. With `groups` each group is a draw, whatever the classes of its images: Obuchowski,
    Biometrics 53 (1997), which equals DeLong's variance if each group has one image. The variance is NaN if a class has
    fewer than two draws.
    """
    if groups is None:
        count = min(len(positive), len(negative))
        if count < 2:
            return float("nan"), count
        return positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative), count
    labels, group = np.asarray(labels).astype(bool), number_groups(groups)
    number = group.max(initial=-1) + 1
    sides = [(group[labels], positive), (group[~labels], negative)]
    counts = [len(np.unique(members)) for members, _ in sides]
    if min(counts) < 2:
        return float("nan"), min(counts)
    # How far each group moves the area from its mean, by its positive images and by its negative images.
    first, second = (
        np.bincount(members, values - values.mean(), minlength=number) / len(values) for members, values in sides
    )
    own = sum(count / (count - 1) * (side**2).sum() for count, side in zip(counts, (first, second)))
    return own + 2 * number / (number - 1) * (first * second).sum(), min(counts)


def number_groups(groups: Sequence[str]) -> np.ndarray:
    """Returns the number of each image's group, int `[N]`, from 0; an image in no group, '', has its own number."""
    return np.unique([f"+{name}" if name else f"-{i}" for i, name in enumerate(groups)], return_inverse=True)[1]


def sensitivity_at(labels: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """Returns the highest sensitivity of all thresholds whose specificity is at least `specificity`."""
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(labels, score, drop_intermediate=False)
    return float(true_positive[false_positive <= 1 - specificity + 1e-12].max())


INDEPENDENT = "images are taken as independent of each other: no column is known that groups them"
CLUSTERED = (
    "roc_auc_interval_95 takes images as independent of each other; roc_auc_interval_95_clustered takes those of a "
    "group, such as a patient, as one draw (Obuchowski 1997)"
)


def summary(labels: np.ndarray, log_p: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns the metrics that evaluation.json holds; several of them are for two classes only.

    `groups` is as in `roc_auc_interval`, or None if no groups are known.
    """
    classes = log_p.shape[1]
    probability = np.exp(log_p)
    one_hot = np.eye(classes)[labels]
    squares = (probability - one_hot) ** 2
    result = {
        "n": len(labels),
        "class_counts": np.bincount(labels, minlength=classes).tolist(),
        "roc_auc": roc_auc(labels, log_p),
        "log_loss": log_loss(labels, log_p),
        # For two classes the Brier score is usually that of class 1 alone.
        "brier_score": float((squares[:, 1] if classes == 2 else squares.sum(axis=1)).mean()),
    }
    if classes != 2:
        return result
    score = scores(log_p)
    intervals = {"roc_auc_interval_95": list(roc_auc_interval(labels, score)), "about_intervals": INDEPENDENT}
    if groups is not None:
        clustered = list(roc_auc_interval(labels, score, groups=groups))
        intervals |= {"roc_auc_interval_95_clustered": clustered, "about_intervals": CLUSTERED}
    undefined = len(np.unique(labels)) < 2 or not np.isfinite(score).all()
    nan = float("nan")
    return result | {
        "positives": int(labels.sum()),
        **intervals,
        "average_precision": nan if undefined else float(sklearn.metrics.average_precision_score(labels, score)),
        "sensitivity_at_95_specificity": nan if undefined else sensitivity_at(labels, score, 0.95),
        # Exchanging the classes and the sign of the score exchanges sensitivity and specificity.
        "specificity_at_95_sensitivity": nan if undefined else sensitivity_at(1 - labels, -score, 0.95),
    }


class Difference(NamedTuple):
    """A difference, the first model minus the second, with its interval and two-sided p-value; NaN if undefined."""

    value: float
    low: float
    high: float
    p: float


def delong_difference(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    level: float = 0.95,
    *,
    groups: Sequence[str] | None = None,
) -> Difference:
    """Compares the ROC AUCs of two models on the same images, by DeLong's paired variance (see `roc_auc_interval`).

    `first` and `second` are scores `[seeds, N]` or `[N]`; areas and placements are averaged over the seeds. The
    interval covers the choice of images and takes the trained networks as given. Interval and p are NaN if the variance
    is zero or a class has fewer than two images. `groups` is as in `roc_auc_interval`.
    """
    sides = [[delong_placements(labels, score) for score in np.atleast_2d(scores)] for scores in (first, second)]
    means = [[np.mean(part, axis=0) for part in zip(*side)] for side in sides]
    (area, positive, negative), (other_area, other_positive, other_negative) = means
    value = float(area - other_area)
    variance, _ = _variance(labels, positive - other_positive, negative - other_negative, groups)
    return _difference(value, np.sqrt(max(variance, 0.0)), scipy.stats.norm(), level)


def student_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, level: float = 0.95, *, folds: int = 0
) -> Difference:
    """Compares paired values, such as those of equal seeds, by Student's paired t-test on their mean difference.

    Interval and p are NaN for fewer than two pairs, or if all differences are equal. `folds` is as in `mean_interval`.
    """
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return Difference(float(differences.mean()), *[float("nan")] * 3)
    error = differences.std(ddof=1) / np.sqrt(_independent(len(differences), folds))
    return _difference(float(differences.mean()), error, scipy.stats.t(len(differences) - 1), level)


def _difference(value: float, error: float, distribution, level: float) -> Difference:
    """Returns `value` with its interval and p; (`value` - truth) / `error` follows `distribution`."""
    # A standard error this small is rounding: the differences are equal, and their spread is unknown.
    if not error > 1e-12:
        return Difference(value, *[float("nan")] * 3)
    half = distribution.ppf(0.5 + level / 2) * error
    return Difference(value, float(value - half), float(value + half), float(2 * distribution.sf(abs(value) / error)))


def mean_interval(values: Sequence[float], level: float = 0.95, *, folds: int = 0) -> tuple[float, float]:
    """Returns Student's interval of the mean of values in 0..1, such as ROC AUCs of several seeds, clipped to 0..1.

    NaN for fewer than two values, or if all are equal: then nothing is known of their spread. `folds` is the number of
    folds that the values are of, 0 without: runs of several folds share training images, for which the variance is
    corrected (Nadeau & Bengio, Machine Learning 52 (2003)).
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2 or np.ptp(array) < 1e-12:
        return float("nan"), float("nan")
    half = (
        scipy.stats.t.ppf(0.5 + level / 2, len(array) - 1)
        * array.std(ddof=1)
        / np.sqrt(_independent(len(array), folds))
    )
    return max(0.0, float(array.mean() - half)), min(1.0, float(array.mean() + half))


def _independent(count: int, folds: int) -> float:
    """Returns how many independent values `count` values of runs with folds are worth."""
    return 1 / (1 / count + 1 / (folds - 1)) if folds > 1 else count


def bootstrap_interval(
    first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Returns the percentile-bootstrap interval of the mean difference of paired values; deterministic by `seed`.

    It assumes nothing about the distribution, but cannot reach beyond the differences at hand: with three pairs it
    misses the truth one time in four, with ten about one time in ten (Hesterberg, Am. Stat. 69 (2015), on small
    samples). NaN for fewer than two pairs.
    """
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Reliability(NamedTuple):
    """The calibration in bins of predicted probability: mean prediction, share of class 1 and number of images.

    Bins without images are left out.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    def error(self) -> float:
        """Returns the expected calibration error: mean |predicted - observed|, weighted by the images of each bin."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))


def reliability(labels: np.ndarray, probability: np.ndarray, bins: int = 10) -> Reliability:
    """Returns the calibration of the probability of class 1 of two, `[N]`, in `bins` bins of equal width."""
    index = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    predicted, observed = (
        np.bincount(index, weights=values, minlength=bins)[filled] / count[filled] for values in (probability, labels)
    )
    return Reliability(predicted, observed, count[filled])
