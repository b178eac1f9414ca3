"""Pools the out-of-fold predictions of cross-validated models: those of each image by runs that did not train on it."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stochconv_jax import bootstrap, metrics
from stochconv_jax.reporting.evaluations import SavedPredictions
from stochconv_jax.reporting.models import Group, Run

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """Holds the predictions of all images of a data set by the runs of a model.

    Attributes:
      runs: the runs of all folds for each seed, `[seeds][folds]`.
      seeds: the seeds that have predictions of every fold.
      images: N names of images, unique within each fold.
      label: int `[N]`, 0 or 1.
      probability: float64 `[seeds, N]`, of class 1.
      fold: int `[N]`, from 1.
      groups: the group of each image, or None if no groups are known.
    """

    runs: Sequence[Sequence[Run]]
    seeds: tuple[int, ...]
    images: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    fold: np.ndarray
    groups: tuple[str, ...] | None

    def areas(self) -> np.ndarray:
        """Returns the ROC AUC over all folds for each seed, `[seeds]`."""
        return np.array([metrics.delong_placements(self.label, one)[0] for one in self.probability])

    def of_seeds(self, seeds: Sequence[int]) -> np.ndarray:
        """Returns the probabilities for these seeds, `[len(seeds), N]`."""
        return self.probability[[self.seeds.index(seed) for seed in seeds]]

    def by_seed(self) -> list[SavedPredictions]:
        """Returns the predictions of all images for each seed."""
        return [SavedPredictions(self.images, self.label, one, self.groups) for one in self.probability]

    @property
    def may_have_selection_bias(self) -> bool:
        """Whether a checkpoint was, or may have been, chosen on the images that it predicts here."""
        return any(run.may_have_selection_bias for runs in self.runs for run in runs)


def pool(group: Group) -> OutOfFold | None:
    """Returns the out-of-fold predictions of a model for the seeds that have predictions of every fold.

    Returns None if there is no such seed, or if the seeds have predictions of different images.
    """
    runs, numbers = group.by_replicate(), range(1, group.folds + 1)
    whole: dict[int, list[Run]] = {}
    tables: list[list[SavedPredictions]] = []
    for seed in {seed: None for _, seed in runs if seed is not None}:
        found = [run for number in numbers if (run := runs.get(((number, group.folds), seed)))]
        predictions = [run.predictions for run in found if run.predictions]
        if predictions and len(predictions) == group.folds:
            whole[seed] = found
            tables.append(predictions)
    alike = all(one.same_images(other) for table in tables for one, other in zip(table, tables[0]))
    if not tables or not alike:
        return None
    first = tables[0]
    known = all(one.groups is not None for one in first)
    return OutOfFold(
        runs=list(whole.values()),
        seeds=tuple(whole),
        images=tuple(image for one in first for image in one.images),
        label=np.concatenate([one.label for one in first]),
        probability=np.array([np.concatenate([one.probability for one in table]) for table in tables]),
        fold=np.repeat(numbers, [len(one.images) for one in first]),
        groups=tuple(name for one in first for name in one.groups or ()) if known else None,
    )


class Pooled(NamedTuple):
    """Holds the ROC AUC of a model over the images of all folds, as a mean over seeds, with its 95 % interval.

    The interval is NaN if a checkpoint may have been chosen on these images. `over_seeds` is the standard deviation of
    the ROC AUC over seeds. `over_folds` is the standard deviation over folds of each fold's own ROC AUC, as a mean over
    seeds. A standard deviation over one value is NaN.
    """

    value: float
    low: float
    high: float
    over_seeds: float
    over_folds: float


def pooled(found: OutOfFold) -> Pooled:
    """Computes the ROC AUC over all folds. The interval is by bootstrap, see `bootstrap.pooled_roc_aucs`."""
    areas, low, high = found.areas(), NAN, NAN
    if not found.may_have_selection_bias:
        resampled = bootstrap.pooled_roc_aucs(found.label, [found.probability], found.fold, groups=found.groups)
        low, high = bootstrap.interval(float(areas.mean()), resampled[0])
    by_fold = [
        np.mean([metrics.delong_placements(found.label[own], one[own])[0] for one in found.probability])
        for own in (found.fold == number for number in np.unique(found.fold))
    ]
    return Pooled(float(areas.mean()), low, high, _deviation(areas), _deviation(np.array(by_fold)))


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else NAN


def compare(first: OutOfFold | None, second: OutOfFold | None) -> tuple[metrics.Difference, int, list[int]]:
    """Returns the difference of two models' ROC AUCs over all folds, the number of images, and the common seeds.

    Interval and p are by bootstrap, with the same draws for both models. If the models have no common seed or different
    images, or if a checkpoint may have been chosen on the images, returns NaN, 0 images and no seed.
    """
    undefined = metrics.Difference(NAN, NAN, NAN, NAN), 0, []
    if first is None or second is None or first.may_have_selection_bias or second.may_have_selection_bias:
        return undefined
    alike = first.images == second.images and np.array_equal(first.fold, second.fold)
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not (alike and seeds and np.array_equal(first.label, second.label)):
        return undefined
    scores = [first.of_seeds(seeds), second.of_seeds(seeds)]
    areas = [np.mean([metrics.delong_placements(first.label, one)[0] for one in side]) for side in scores]
    groups = first.groups or second.groups
    resampled = bootstrap.pooled_roc_aucs(first.label, scores, first.fold, groups=groups)
    difference = bootstrap.difference(float(areas[0] - areas[1]), resampled[0] - resampled[1])
    return difference, len(first.label), seeds
