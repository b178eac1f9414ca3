"""Bootstraps ROC AUCs over images, folds and seeds together. Imports no JAX."""

from collections.abc import Iterator, Sequence

import numpy as np

from stochconv_jax import metrics

CHUNK = 50  # resamples that are computed together, which bounds the memory


def weighted_roc_auc(labels: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the ROC AUC of `score` `[N]` for each row of weights of the images `[R, N]`, float64 `[R]`.

    A weight is how often an image counts. Equal scores count half. NaN where a class has no weight.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(score[order]) != 0))  # of equal scores
    weights, positive = weights[:, order], labels[order] == 1
    above, below = (np.add.reduceat(weights * side, starts, axis=1) for side in (positive, ~positive))
    wins = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return wins / (above.sum(axis=1) * below.sum(axis=1))


def pooled_roc_aucs(
    labels: np.ndarray,
    models: Sequence[np.ndarray],
    fold: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Returns the ROC AUC over all folds, as a mean over seeds, of each model in each resample, `[models, resamples]`.

    A resample draws folds, images in each of these folds, and seeds, all with replacement and the same for all models.
    So it varies with the images, with the part of them that a network is trained on, and with the seeds of the
    networks. The result depends on `seed` and the arguments alone.

    Args:
      labels: int `[N]`, 0 or 1.
      models: scores `[seeds, N]` of each model; each image is scored by the network of its fold.
      fold: int `[N]`, the fold of each image.
      groups: as in `metrics.roc_auc_interval`. The images of a group, all in one fold, are drawn together.
      resamples: number of resamples.
      seed: seed of the draws.
    """
    random, seeds, parts = np.random.default_rng(seed), len(models[0]), []
    cluster = metrics.number_groups(groups or [""] * len(labels))
    for count in _chunks(resamples):
        weights = _draw_images(random, fold, cluster, count)
        share = random.multinomial(seeds, np.full(seeds, 1 / seeds), count).T / seeds  # [seeds, count]
        areas = [[weighted_roc_auc(labels, score, weights) for score in scores] for scores in models]
        parts.append((np.array(areas) * share).sum(axis=1))
    return np.concatenate(parts, axis=1)


def _chunks(resamples: int) -> Iterator[int]:
    for start in range(0, resamples, CHUNK):
        yield min(CHUNK, resamples - start)


def _draw_images(random: np.random.Generator, fold: np.ndarray, cluster: np.ndarray, count: int) -> np.ndarray:
    """Returns how often each image is drawn, int `[count, N]`: folds, and in each its clusters, with replacement."""
    numbers = np.unique(fold)
    times = random.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), count)
    weights = np.zeros((count, len(fold)), np.int64)
    for place, number in enumerate(numbers):
        members = np.flatnonzero(fold == number)
        _, own = np.unique(cluster[members], return_inverse=True)
        size = own.max() + 1
        drawn = np.array([random.multinomial(n * size, np.full(size, 1 / size)) for n in times[:, place]])
        weights[:, members] = drawn[:, own]
    return weights


def interval(value: float, resampled: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the interval of a ROC AUC `value` from its resamples `[R]`, within 0..1, see `_centred`."""
    low, high = np.quantile(_centred(value, resampled), [(1 - level) / 2, (1 + level) / 2])
    return max(0.0, float(low)), min(1.0, float(high))


def difference(value: float, resampled: np.ndarray, level: float = 0.95) -> metrics.Difference:
    """Returns a difference `value` with its interval and two-sided p from its resamples `[R]`, see `_centred`."""
    centred = _centred(value, resampled)
    low, high = np.quantile(centred, [(1 - level) / 2, (1 + level) / 2])
    tail = min((centred <= 0).sum(), (centred >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(centred) + 1))
    return metrics.Difference(value, float(low), float(high), float(p))


def _centred(value: float, resampled: np.ndarray) -> np.ndarray:
    """Returns the resamples that are not NaN, moved so that their mean is `value`.

    A resample has more pairs of images of one fold than the data have, so its ROC AUC is too high on average if the
    probabilities of one fold are higher than those of another.
    """
    known = resampled[~np.isnan(resampled)]
    return known - known.mean() + value
