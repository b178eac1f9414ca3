"""Quality of predicted probabilities, with intervals, and differences between models. No JAX.

Throughout, `labels` are integer classes `[N]` and `log_p` natural logarithms of class probabilities `[N, classes]`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
import sklearn.metrics


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities `[..., classes]`, float64; one logit `[..., 1]` is that of class 1 of two."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return scipy.special.log_softmax(logits, axis=-1)


def mean_log_probabilities(log_p: np.ndarray) -> np.ndarray:
    """Logarithm of the mean probability over the first axis (passes): `[P, N, classes]` -> `[N, classes]`."""
    return scipy.special.logsumexp(log_p, axis=0) - np.log(len(log_p))


def log_loss(labels: np.ndarray, log_p: np.ndarray) -> float:
    """Mean negative log-probability of the true class, in nats."""
    return float(-np.take_along_axis(log_p, np.asarray(labels)[:, None], axis=1).mean())


def roc_auc(labels: np.ndarray, log_p: np.ndarray) -> float:
    """Area under the ROC curve; for more than two classes the mean of one-against-rest over those that have an image.

    NaN if fewer than two have, or a probability is not a number or so near zero that its logarithm is not finite.
    """
    there = np.unique(labels)
    if len(there) < 2 or not np.isfinite(log_p).all():
        return float("nan")
    if log_p.shape[1] == 2:
        return float(sklearn.metrics.roc_auc_score(labels, scores(log_p)))
    one_hot = np.asarray(labels)[:, None] == there
    return float(sklearn.metrics.roc_auc_score(one_hot, log_p[:, there], average="macro"))


def scores(log_p: np.ndarray) -> np.ndarray:
    """Log-odds of class 1 of two, `[N]`: orders as the probability does, without its rounding near 0 and 1."""
    return log_p[:, 1] - log_p[:, 0]


def roc_auc_interval(
    labels: np.ndarray, score: np.ndarray, level: float = 0.95, *, groups: Sequence[str] | None = None
) -> tuple[float, float]:
    """Confidence interval of a two-class ROC AUC by DeLong's variance, on the logit scale so that it stays in 0..1.

    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); placements by mid-ranks as in Sun & Xu, IEEE SPL 21 (2014).
    Where the classes separate wholly the variance is zero, and the interval is the exact binomial-like bound of a
    perfect result with the smaller class's number. NaN where it is not defined: fewer than two images of a class, a
    score that is not a number, or no variance at another area, as when all scores are equal.

    `groups`: of each image its group, such as the patient, '' for one of its own: images of a group may resemble each
    other, and groups take the place of images in all of this, see `_variance`.
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
    """ROC AUC, and for each positive (negative) the share of the other class that it is ranked right against."""
    labels, score = np.asarray(labels).astype(bool), np.asarray(score, np.float64)
    positive, negative = score[labels], score[~labels]
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    if not m or not n:
        return float("nan"), np.zeros(m), np.zeros(n)
    of_positive = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    of_negative = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
    return float(of_positive.mean()), of_positive, of_negative


def _variance(
    labels: np.ndarray, positive: np.ndarray, negative: np.ndarray, groups: Sequence[str] | None
) -> tuple[float, int]:
    """Variance of an area, or of a difference of two, and the number of independent draws of the rarer class.

    `positive`, `negative`: placements, or their differences. Without `groups` every image is a draw: DeLong's variance.
    With them a group is, whichever classes its images are of: Obuchowski, Biometrics 53 (1997), whose variance is
    DeLong's where each image is a group of its own. NaN for fewer than two draws of a class.
    """
    if groups is None:
        count = min(len(positive), len(negative))
        if count < 2:
            return float("nan"), count
        return positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative), count
    labels = np.asarray(labels).astype(bool)
    _, group = np.unique([f"+{name}" if name else f"-{i}" for i, name in enumerate(groups)], return_inverse=True)
    number = group.max(initial=-1) + 1
    sides = [(group[labels], positive), (group[~labels], negative)]
    counts = [len(np.unique(members)) for members, _ in sides]
    if min(counts) < 2:
        return float("nan"), min(counts)
    # What each group adds to the area beyond the mean, as the owner of positives and as that of negatives.
    first, second = (
        np.bincount(members, values - values.mean(), minlength=number) / len(values) for members, values in sides
    )
    own = sum(count / (count - 1) * (side**2).sum() for count, side in zip(counts, (first, second)))
    return own + 2 * number / (number - 1) * (first * second).sum(), min(counts)


def sensitivity_at(labels: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """The highest sensitivity of any threshold whose specificity is at least `specificity`."""
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(labels, score, drop_intermediate=False)
    return float(true_positive[false_positive <= 1 - specificity + 1e-12].max())


INDEPENDENT = "images are taken as independent of each other: no column is known that groups them"
CLUSTERED = (
    "roc_auc_interval_95 takes images as independent of each other; roc_auc_interval_95_clustered takes those of a "
    "group, such as a patient, as one draw (Obuchowski 1997)"
)


def summary(labels: np.ndarray, log_p: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, object]:
    """What `evaluation.json` says about a set of predictions; some of it is for two classes only.

    `groups`: see `roc_auc_interval`; None where none are known.
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
        # For two classes the Brier score is that of class 1 alone, as is usual.
        "brier_score": float((squares[:, 1] if classes == 2 else squares.sum(axis=1)).mean()),
    }
    if classes != 2:
        return result | {"accuracy": float((log_p.argmax(axis=1) == labels).mean())}
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
    """Of two models, the first minus the second; the p-value is two-sided. NaN where not defined."""

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
    """Difference of two models' ROC AUCs on the same images, by DeLong's paired variance (see `roc_auc_interval`).

    `first`, `second`: scores `[seeds, N]` or `[N]`; the areas, and so the placements, are averaged over the seeds. What
    varies is which images were drawn: the trained networks are taken as given. NaN interval and p where the variance
    is zero or a class has fewer than two images. `groups`: see `roc_auc_interval`.
    """
    sides = [[delong_placements(labels, score) for score in np.atleast_2d(scores)] for scores in (first, second)]
    means = [[np.mean(part, axis=0) for part in zip(*side)] for side in sides]
    (area, positive, negative), (other_area, other_positive, other_negative) = means
    value = float(area - other_area)
    variance, _ = _variance(labels, positive - other_positive, negative - other_negative, groups)
    return _difference(value, np.sqrt(max(variance, 0.0)), scipy.stats.norm(), level)


def student_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Mean of the differences of paired values, such as those of equal seeds, by Student's paired t-test.

    NaN interval and p of fewer than two pairs, or where all differences are the same.
    """
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return Difference(float(differences.mean()), *[float("nan")] * 3)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return _difference(float(differences.mean()), error, scipy.stats.t(len(differences) - 1), level)


def _difference(value: float, error: float, distribution, level: float) -> Difference:
    """Interval and p of `value`, whose error in units of the standard error `error` has `distribution`."""
    # Differences that are equal but for rounding say nothing of how they vary.
    if not error > 1e-12:
        return Difference(value, *[float("nan")] * 3)
    half = distribution.ppf(0.5 + level / 2) * error
    return Difference(value, float(value - half), float(value + half), float(2 * distribution.sf(abs(value) / error)))


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of values in 0..1, such as ROC AUCs over seeds, cut off at 0 and 1.

    NaN for fewer than two values, or where all are the same: they say nothing of how others would vary.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2 or np.ptp(values) < 1e-12:
        return float("nan"), float("nan")
    half = scipy.stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def bootstrap_interval(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean difference of paired values; the same arguments, the same result.

    It makes no assumption about the distribution, but cannot reach beyond the differences at hand: of three pairs the
    truth is outside one time in four, of ten about one in ten (Hesterberg, Am. Stat. 69 (2015), on small samples).
    NaN for fewer than two pairs.
    """
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Reliability(NamedTuple):
    """Of each bin of predicted probability that holds an image: mean prediction, share of class 1, images."""

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    def error(self) -> float:
        """Expected calibration error: the bins' distance from the diagonal, weighted by their images."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))


def reliability(labels: np.ndarray, probability: np.ndarray, bins: int = 10) -> Reliability:
    """Calibration of the probability of class 1 of two, `[N]`, in bins of equal width."""
    index = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    predicted, observed = (
        np.bincount(index, weights=values, minlength=bins)[filled] / count[filled] for values in (probability, labels)
    )
    return Reliability(predicted, observed, count[filled])
