"""Quality of predicted probabilities, with intervals. NumPy, SciPy and scikit-learn; no JAX.

Throughout, `labels` are integer classes `[N]` and `log_p` natural logarithms of class probabilities `[N, classes]`.
"""
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
    """Area under the ROC curve; for more than two classes the mean of one-against-rest. NaN if a class is missing."""
    classes = log_p.shape[1]
    if len(np.unique(labels)) < classes:
        return float("nan")
    if classes == 2:
        return float(sklearn.metrics.roc_auc_score(labels, scores(log_p)))
    one_hot = np.eye(classes)[labels]
    return float(sklearn.metrics.roc_auc_score(one_hot, log_p, average="macro"))


def scores(log_p: np.ndarray) -> np.ndarray:
    """Log-odds of class 1 of two, `[N]`: orders as the probability does, without its rounding near 0 and 1."""
    return log_p[:, 1] - log_p[:, 0]


def roc_auc_interval(labels: np.ndarray, score: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a two-class ROC AUC by DeLong's variance, on the logit scale so that it stays in 0..1.

    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); placements by mid-ranks as in Sun & Xu, IEEE SPL 21 (2014).
    NaN where it is not defined: fewer than two images of a class. Where the classes separate wholly the variance is
    zero, and the interval is the exact binomial-like bound of a perfect result with the smaller class's number.
    """
    area, positive, negative = delong_placements(labels, score)
    if min(len(positive), len(negative)) < 2:
        return float("nan"), float("nan")
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    if area in (0.0, 1.0) or variance == 0:
        bound = ((1 - level) / 2) ** (1 / min(len(positive), len(negative)))
        return (bound, 1.0) if area > 0.5 else (0.0, 1 - bound)
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


def sensitivity_at(labels: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """The highest sensitivity of any threshold whose specificity is at least `specificity`."""
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(labels, score, drop_intermediate=False)
    return float(true_positive[false_positive <= 1 - specificity + 1e-12].max())


def summary(labels: np.ndarray, log_p: np.ndarray) -> dict[str, object]:
    """What `evaluation.json` says about a set of predictions; some of it is for two classes only."""
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
    low, high = roc_auc_interval(labels, score)
    one_class = len(np.unique(labels)) < 2
    nan = float("nan")
    return result | {
        "positives": int(labels.sum()),
        "roc_auc_interval_95": [low, high],
        "average_precision": nan if one_class else float(sklearn.metrics.average_precision_score(labels, score)),
        "sensitivity_at_95_specificity": nan if one_class else sensitivity_at(labels, score, 0.95),
        # Exchanging the classes and the sign of the score exchanges sensitivity and specificity.
        "specificity_at_95_sensitivity": nan if one_class else sensitivity_at(1 - labels, -score, 0.95),
    }
