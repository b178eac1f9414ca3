"""Decisions by predicted probabilities: classes, thresholds, calibrated probabilities, prediction sets. No JAX.

In all functions `labels` are integer classes `[N]`, and `probability` is float64 `[N, classes]`. A `Calibration` is
fitted to validation images, on which the network was not trained, and applied to other images.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from stochconv_jax import metrics

TEMPERATURES = (0.02, 50.0)  # bounds of the fit: if classes are separate, the lower the temperature the better
PARTS = 5  # of the images in `cross_fit`
NAN = float("nan")


class Outcomes(NamedTuple):
    """The decisions on N images.

    Attributes:
      calibrated: probabilities at the fitted temperature, float64 `[N, classes]`.
      positive: by the name of each threshold, whether an image counts as class 1, bool `[N]`; {} for more classes.
      sets: whether a class is in an image's prediction set, bool `[N, classes]`.
    """

    calibrated: np.ndarray
    positive: Mapping[str, np.ndarray]
    sets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Numbers that were fitted on validation images, by which probabilities of other images become decisions.

    Attributes:
      temperature: divisor of the logits, see `fit_temperature`.
      thresholds: for two classes, the smallest probability that counts as class 1: 'youden' has the highest sum of
        sensitivity and specificity, 'sensitivity' is the highest with the wanted sensitivity.
      set_limits: for each class, the smallest probability with which it is in a prediction set, see `fit_set_limits`.
    """

    temperature: float
    thresholds: Mapping[str, float]
    set_limits: tuple[float, ...]

    @classmethod
    def fit(cls, labels: np.ndarray, probability: np.ndarray, *, sensitivity: float, coverage: float) -> "Calibration":
        """Fits all numbers. `sensitivity` and `coverage` are the wanted shares, between 0 and 1."""
        thresholds = {}
        if probability.shape[1] == 2:
            thresholds = {
                "youden": youden_threshold(labels, probability[:, 1]),
                "sensitivity": sensitivity_threshold(labels, probability[:, 1], sensitivity),
            }
        temperature, limits = fit_temperature(labels, probability), fit_set_limits(labels, probability, coverage)
        return cls(temperature, thresholds, tuple(limits))

    def apply(self, probability: np.ndarray) -> Outcomes:
        """Returns the decisions on images."""
        positive = {name: probability[:, 1] >= limit for name, limit in self.thresholds.items()}
        sets = probability >= np.array(self.set_limits)
        return Outcomes(at_temperature(probability, self.temperature), positive, sets)


def cross_fit(
    labels: np.ndarray, probability: np.ndarray, *, groups: Sequence[str] | None = None, **wanted: float
) -> Outcomes:
    """Returns the decisions on the validation images themselves, each by a `Calibration` of the other images.

    The images are dealt out into parts, see `deal_out`; the decisions on a part are by a calibration that is fitted on
    the other parts. So no decision is judged on the images that it was fitted to, nor on others of their groups.
    `wanted` is as in `Calibration.fit`.
    """
    part = deal_out(labels, groups)
    calibrations = (
        Calibration.fit(labels[part != number], probability[part != number], **wanted) for number in range(PARTS)
    )
    found = [calibration.apply(probability) for calibration in calibrations]

    def own(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack(arrays)[part, np.arange(len(labels))]

    positive = {name: own([one.positive[name] for one in found]) for name in found[0].positive}
    return Outcomes(own([one.calibrated for one in found]), positive, own([one.sets for one in found]))


def deal_out(labels: np.ndarray, groups: Sequence[str] | None = None) -> np.ndarray:
    """Returns the part of each image, int `[N]`, 0 to `PARTS` - 1; each part has its share of each class.

    `groups` has the group of each image, such as the patient, or '' for an image in no group; None means that none is
    known. The images of a group are in the same part. A group counts as of the rarest class among its images.
    """
    group = metrics.number_groups(groups or [""] * len(labels))
    first = np.unique(group, return_index=True)[1]
    rarity = np.bincount(labels).argsort(kind="stable").argsort()  # 0 for the rarest class
    kind = np.full(len(first), len(rarity))
    np.minimum.at(kind, group, rarity[labels])
    part = np.zeros(len(first), int)
    for k in np.unique(kind):
        members = np.flatnonzero(kind == k)
        members = members[first[members].argsort()]  # in the order of their first images
        part[members] = np.arange(len(members)) % PARTS
    return part[group]


def at_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities for logits that are divided by `temperature`, float64 `[N, classes]`."""
    return scipy.special.softmax(_log(probability) / temperature, axis=1)


def _log(probability: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probability, np.finfo(np.float64).tiny))


def fit_temperature(labels: np.ndarray, probability: np.ndarray) -> float:
    """Returns the temperature within `TEMPERATURES` that minimises the log loss, or 1 if none makes it smaller.

    It is 1 without an image.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    if not len(labels):
        return 1.0

    def loss(log_temperature: float) -> float:
        return metrics.log_loss(labels, _log(at_temperature(probability, np.exp(log_temperature))))

    found = scipy.optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def youden_threshold(labels: np.ndarray, probability: np.ndarray) -> float:
    """Returns the image's probability of class 1 at which sensitivity + specificity is highest, the highest of equals.

    It is 0.5 if a class has no image. Source: Youden, Cancer 3 (1950).
    """
    positive, negative = np.sort(probability[labels == 1]), np.sort(probability[labels == 0])
    if not (len(positive) and len(negative)):
        return 0.5
    thresholds = np.unique(probability)[::-1]
    false = 1 - np.searchsorted(negative, thresholds) / len(negative)
    true = 1 - np.searchsorted(positive, thresholds) / len(positive)
    return float(thresholds[np.argmax(true - false)])


def sensitivity_threshold(labels: np.ndarray, probability: np.ndarray, sensitivity: float) -> float:
    """Returns the highest threshold on the probability of class 1 with this sensitivity at least.

    It is 0.5 if class 1 has no image.
    """
    positive = np.sort(probability[labels == 1])
    if not len(positive):
        return 0.5
    missed = int(np.floor((1 - sensitivity) * len(positive) + 1e-9))
    return float(positive[min(missed, len(positive) - 1)])


def fit_set_limits(labels: np.ndarray, probability: np.ndarray, coverage: float) -> list[float]:
    """Returns for each class the smallest probability with which it is in a prediction set.

    These are split conformal sets, class by class: a new image of class k, exchangeable with the n images of class k
    here, has k in its set with a probability of at least `coverage`, and of at most `coverage` + 1 / (n + 1) if no two
    probabilities are equal. The limit is 0, so that every set has the class, if n is too small to promise more.

    Source: Sadinle, Lei & Wasserman, JASA 114 (2019), section 2.1; Vovk, Gammerman & Shafer (2005).
    """
    limits = []
    for k in range(probability.shape[1]):
        own = np.sort(probability[labels == k, k])
        rank = int(np.floor((len(own) + 1) * (1 - coverage) + 1e-9))
        limits.append(float(own[rank - 1]) if rank else 0.0)
    return limits


def classification(labels: np.ndarray, decided: np.ndarray, classes: int) -> dict[str, Any]:
    """Returns accuracy, balanced accuracy, F1 and the confusion matrix of `decided`, integer classes `[N]`.

    Balanced accuracy is the mean over the classes that have an image of the share that is found. F1 is that of class 1
    of two, and the mean over these classes of more. The confusion matrix has a row for each true class.
    """
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, decided), 1)
    found, own, taken = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    there = own > 0
    f1 = 2 * found / np.maximum(own + taken, 1)
    return {
        "accuracy": float(found.sum() / len(labels)),
        "balanced_accuracy": float((found[there] / own[there]).mean()),
        "f1": float(f1[1] if classes == 2 else f1[there].mean()),
        "confusion_matrix": confusion.tolist(),
    }


def at_threshold(labels: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """Returns sensitivity and specificity of `positive`, bool `[N]`, with exact binomial intervals, and the rest."""
    result = {}
    for name, right in (("sensitivity", positive[labels == 1]), ("specificity", ~positive[labels == 0])):
        interval = scipy.stats.binomtest(int(right.sum()), len(right)).proportion_ci() if len(right) else (NAN, NAN)
        result |= {name: float(right.mean()) if len(right) else NAN, f"{name}_interval_95": list(map(float, interval))}
    return result | classification(labels, positive.astype(int), 2)


def calibration_error(labels: np.ndarray, probability: np.ndarray) -> float:
    """Returns the expected calibration error in ten bins of equal width.

    It is that of the probability of class 1 of two, and of the probability of the most probable class of more.
    """
    if probability.shape[1] == 2:
        return metrics.reliability(labels, probability[:, 1]).error()
    return metrics.reliability(probability.argmax(axis=1) == labels, probability.max(axis=1)).error()


def roc_auc_by_class(labels: np.ndarray, probability: np.ndarray) -> list[float]:
    """Returns the ROC AUC of each class against the rest; NaN for a class of no or of all images."""
    others = (metrics.delong_placements(labels == k, probability[:, k])[0] for k in range(probability.shape[1]))
    return [float(area) for area in others]


def accuracy_by_coverage(labels: np.ndarray, probability: np.ndarray, steps: int = 10) -> dict[str, list[float]]:
    """Returns the accuracy on the most confident shares 1/`steps`, 2/`steps`, ..., 1 of the images.

    Confidence is the probability of the most probable class. The other images are those that are left to a person.
    """
    right = probability.argmax(axis=1) == labels
    ordered = right[np.argsort(-probability.max(axis=1), kind="stable")]
    counts = np.maximum(1, np.ceil(np.arange(1, steps + 1) / steps * len(labels) - 1e-9).astype(int))
    accuracy = np.cumsum(ordered)[counts - 1] / counts
    return {"coverage": (counts / len(labels)).tolist(), "accuracy": accuracy.tolist()}


def error_detection(labels: np.ndarray, probability: np.ndarray, spread: np.ndarray) -> dict[str, Any]:
    """Returns how well wrong decisions are told from right ones by the spread over passes, and by low confidence.

    Each is a ROC AUC with DeLong's interval, of which 0.5 is chance. The difference, spread minus low confidence, says
    whether the passes tell more than the probability itself. `spread` is the standard deviation over passes `[N]`;
    where it is NaN, for one pass, the figures that need it are NaN too.
    """
    wrong, doubt = probability.argmax(axis=1) != labels, -probability.max(axis=1)
    result: dict[str, Any] = {"errors": int(wrong.sum())}
    known = not np.isnan(spread).any()
    for name, score in (("spread", spread), ("low_confidence", doubt)):
        area, interval = NAN, (NAN, NAN)
        if known or score is doubt:
            area, interval = metrics.delong_placements(wrong, score)[0], metrics.roc_auc_interval(wrong, score)
        result |= {f"roc_auc_of_{name}": area, f"roc_auc_of_{name}_interval_95": list(interval)}
    defined = known and 0 < wrong.sum() < len(wrong)
    difference = metrics.delong_difference(wrong, spread, doubt) if defined else [NAN] * 4
    return result | {"difference": difference[0], "difference_interval_95": list(difference[1:3])}


def set_figures(labels: np.ndarray, sets: np.ndarray) -> dict[str, Any]:
    """Returns the coverage of prediction sets, bool `[N, classes]`, over all and by class, and shares by size."""
    covered = sets[np.arange(len(labels)), labels]
    by_class = [float(covered[labels == k].mean()) if (labels == k).any() else NAN for k in range(sets.shape[1])]
    size = sets.sum(axis=1)
    single = size == 1
    return {
        "coverage": float(covered.mean()),
        "coverage_by_class": by_class,
        "mean_size": float(size.mean()),
        "share_by_size": (np.bincount(size, minlength=sets.shape[1] + 1) / len(size)).tolist(),
        "accuracy_of_single": float(covered[single].mean()) if single.any() else NAN,
    }


def summary(
    labels: np.ndarray, probability: np.ndarray, spread: np.ndarray, outcomes: Outcomes | None
) -> dict[str, Any]:
    """Returns the entries of evaluation.json about decisions; fewer without `outcomes`.

    `spread` is the standard deviation over passes of the probability of the most probable class, `[N]`.
    """
    classes = probability.shape[1]
    result = classification(labels, probability.argmax(axis=1), classes)
    if classes > 2:
        result["roc_auc_by_class"] = roc_auc_by_class(labels, probability)
    result |= {
        "calibration_error": calibration_error(labels, probability),
        "accuracy_by_coverage": accuracy_by_coverage(labels, probability),
        "error_detection": error_detection(labels, probability, spread),
    }
    if outcomes is None:
        return result
    calibrated = outcomes.calibrated
    return result | {
        "calibrated": {
            "log_loss": metrics.log_loss(labels, _log(calibrated)),
            "calibration_error": calibration_error(labels, calibrated),
        },
        "at_thresholds": {name: at_threshold(labels, positive) for name, positive in outcomes.positive.items()},
        "prediction_sets": set_figures(labels, outcomes.sets),
    }
