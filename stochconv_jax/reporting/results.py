"""Computes the numbers of the report: means over seeds, costs and comparisons of models."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stochconv_jax import bootstrap, metrics
from stochconv_jax.reporting import cross_validation, published
from stochconv_jax.reporting.models import Group, Run

NAN = float("nan")
UNDEFINED = metrics.Difference(NAN, NAN, NAN, NAN)


class Mean(NamedTuple):
    """The mean of `count` runs with its 95 % interval, NaN for fewer than two runs, and the best of the runs."""

    value: float
    low: float
    high: float
    best: float
    count: int


class Quality(NamedTuple):
    """Metrics of the predictions.csv of a two-class model, averaged over its `runs` runs that have this file.

    `evaluated` has the pairs (checkpoint, passes) with which the runs were evaluated.
    """

    runs: int
    images: int
    evaluated: frozenset[tuple[str, str]]
    roc_auc: float
    brier_score: float
    calibration_error: float


@dataclasses.dataclass(frozen=True)
class Result:
    """A model's row in the table, from its finished runs. Numbers are NaN if unknown; multiply-adds are per image."""

    group: Group
    last: Mean
    maximum: Mean
    parameters: float
    multiply_adds: float
    minutes_per_epoch: float
    minutes: float  # of all epochs
    images_per_second: float
    quality: Quality | None
    published: published.Published | None
    out_of_fold: cross_validation.OutOfFold | None
    pooled: cross_validation.Pooled | None  # of out_of_fold


def summarise(group: Group) -> Result:
    """Computes the numbers of a model."""
    first, runs, out_of_fold = group.first, group.finished, cross_validation.pool(group)
    return Result(
        group=group,
        last=mean([run.last() for run in runs], group.folds),
        maximum=mean([run.maximum() for run in runs], group.folds),
        parameters=first.about.get("parameters", NAN),
        multiply_adds=first.about.get("multiply_adds", NAN),
        # The median over epochs: the first epoch, which includes compilation, and an interrupted one take longer.
        minutes_per_epoch=_average(_median(run.metrics["seconds"]) for run in runs) / 60,
        minutes=_average(run.metrics["seconds"].sum() for run in runs) / 60,
        images_per_second=_average(_median(run.metrics["images_per_second"]) for run in runs),
        quality=_quality(group),
        # Published figures are of all epochs.
        published=None if any(run.stopped_early for run in runs) else published.lookup(first.settings),
        out_of_fold=out_of_fold,
        pooled=cross_validation.pooled(out_of_fold) if out_of_fold else None,
    )


def mean(values: Sequence[float], folds: int = 0) -> Mean:
    """Returns the mean of the values that are not NaN, which are of runs with so many folds, 0 without."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return Mean(NAN, NAN, NAN, NAN, 0)
    low, high = metrics.mean_interval(values, folds=folds)
    return Mean(float(np.mean(values)), low, high, max(values), len(values))


def _median(values: np.ndarray) -> float:
    """Returns the median of the values that are not NaN, or NaN if there are none."""
    kept = values[~np.isnan(values)]
    return float(np.median(kept)) if len(kept) else NAN


def _average(values) -> float:
    return float(np.mean(list(values) or [NAN]))


def _quality(group: Group) -> Quality | None:
    runs = [run for run in group.finished if run.predictions]
    found = [run.predictions for run in runs if run.predictions]
    if not found:
        return None
    return Quality(
        runs=len(found),
        images=len(found[0].images) if not group.folds else sum(_images_by_fold(runs).values()),
        evaluated=_evaluated(runs),
        roc_auc=_average(metrics.delong_placements(p.label, p.probability)[0] for p in found),
        brier_score=_average(np.square(p.probability - p.label).mean() for p in found),
        calibration_error=_average(metrics.reliability(p.label, p.probability).error() for p in found),
    )


def _images_by_fold(runs: Sequence[Run]) -> dict[tuple[int, int] | None, int]:
    return {run.fold: len(run.predictions.images) for run in runs if run.predictions}


def _evaluated(runs: Sequence[Run]) -> frozenset[tuple[str, str]]:
    return frozenset((run.checkpoint, run.passes) for run in runs)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of a model with the baseline: differences are `result` minus `baseline`.

    `pairs` is the number of seeds, or pairs of fold and seed, that both have. `seeds` compares their last epochs with
    Student's test, and `bootstrap` is the interval of the same difference by bootstrap. `images` compares predictions
    of the same images, `image_count` of them by `image_pairs` pairs of runs, with DeLong's test. `groups` does that
    too, with the images of a group, such as a patient, as one draw; None if no groups are known. `both` has the same
    difference with interval and p by a bootstrap that draws seeds and images, or groups of them; NaN for one seed.

    With folds, `images` is the difference over the images of all folds, see `cross_validation.compare`, `image_pairs`
    is the number of seeds, and `bootstrap` and `both` are NaN.
    """

    result: Result
    baseline: Result
    pairs: int
    seeds: metrics.Difference
    bootstrap: tuple[float, float]
    images: metrics.Difference
    groups: metrics.Difference | None
    both: metrics.Difference
    image_count: int
    image_pairs: int
    evaluated_alike: bool  # with equal checkpoints, passes and views
    selection_bias: bool  # whether a checkpoint was, or may have been, chosen on the predicted images

    def verdict(self) -> str:
        """Returns the comparison in words, at the 5 % level."""
        name = self.baseline.group.name
        if not self.pairs:
            return "no finished runs of a common seed, or other validation images: not compared"
        if math.isnan(self.seeds.p):
            one = "one pair of runs: results of other seeds are not known"
            words = one if self.pairs == 1 else "the same difference in every seed: no test"
        elif self.seeds.p < 0.05:
            words = f"{_better(self.seeds.value)} than {name}"
        else:
            unit = "pairs of fold and seed" if self.result.group.folds else "seeds"
            words = f"no significant difference from {name} with {self.pairs} {unit}"
        if self.selection_bias and not self.image_pairs:
            return f"{words}; checkpoints chosen on the predicted images, as the best are, are not compared on them"
        images = self.groups or self.images
        if math.isnan(images.p):
            return words
        on_images = _better(images.value) if images.p < 0.05 else "no significant difference"
        how = "" if self.evaluated_alike else ", but with other checkpoints, passes or views"
        return f"{words}; on the predicted images {on_images}{how}"


def _better(difference: float) -> str:
    return "better" if difference > 0 else "worse"


def compare(result: Result, baseline: Result) -> Comparison:
    """Compares runs of equal seeds by their last epochs, and their predictions if these are of the same images."""
    pairs = _pairs(result.group, baseline.group)
    ours, theirs = np.array([[run.last() for run in pair] for pair in pairs]).reshape(-1, 2).T
    folds = result.group.folds
    if folds:
        images, image_count, common = cross_validation.compare(result.out_of_fold, baseline.out_of_fold)
        groups, both, image_pairs = None, UNDEFINED, len(common)
        predicted = [pair for pair in pairs if pair[0].seed in common]
    else:
        images, groups, both, predicted = _compare_predictions(pairs)
        shared = predicted[0][0].predictions if predicted else None
        image_count, image_pairs = len(shared.images) if shared else 0, len(predicted)
    return Comparison(
        result=result,
        baseline=baseline,
        pairs=len(pairs),
        seeds=metrics.student_difference(ours, theirs, folds=folds) if pairs else UNDEFINED,
        bootstrap=(NAN, NAN) if folds else metrics.bootstrap_interval(ours, theirs),
        images=images,
        groups=groups,
        both=both,
        image_count=image_count,
        image_pairs=image_pairs,
        evaluated_alike=len({_evaluated(side) for side in zip(*predicted)}) < 2,
        selection_bias=any(run.predictions and run.may_have_selection_bias for pair in pairs for run in pair),
    )


def _pairs(group: Group, other: Group) -> list[tuple[Run, Run]]:
    """Returns the pairs of finished runs of equal folds and seeds whose last epochs have a validation ROC AUC.

    Pairs that are known to have different validation images are left out. The metadata of the images may differ.
    """
    mine, theirs = group.by_replicate(), other.by_replicate()
    pairs = [(mine[replicate], theirs[replicate]) for replicate in mine if replicate in theirs]
    pairs = [pair for pair in pairs if not any(math.isnan(run.last()) for run in pair)]
    data = [[_validation_images(run) for run in pair] for pair in pairs]
    return [pair for pair, (own, other) in zip(pairs, data) if own == other or None in (own, other)]


def _validation_images(run: Run) -> list[Any] | None:
    """Returns the number and the checksum of the run's validation images; None if they are not known."""
    found = run.about.get("data", {}).get("validation")
    return [found.get(key) for key in ("images", "crc32")] if isinstance(found, Mapping) else None


def _compare_predictions(
    pairs,
) -> tuple[metrics.Difference, metrics.Difference | None, metrics.Difference, list[tuple[Run, Run]]]:
    """Returns DeLong's difference, that by groups, that over seeds too, and the pairs with predictions of equal images.

    The differences are means over these pairs. Checkpoints that were chosen on these images are left out: with them the
    test finds differences between equally good models too often.
    """
    found = [pair for pair in pairs if all(run.predictions and not run.may_have_selection_bias for run in pair)]
    found = [pair for pair in found if all(run.predictions.same_images(found[0][0].predictions) for run in pair)]
    if not found:
        return UNDEFINED, None, UNDEFINED, []
    ours, theirs = (np.stack([pair[side].predictions.probability for pair in found]) for side in (0, 1))
    label = found[0][0].predictions.label
    images = metrics.delong_difference(label, ours, theirs)
    known = [run.predictions.groups for pair in found for run in pair if run.predictions.groups]
    groups = metrics.delong_difference(label, ours, theirs, groups=known[0]) if known else None
    if len(found) == 1 or math.isnan(images.p):
        return images, groups, UNDEFINED, found
    one_fold, together = np.zeros(len(label), int), known[0] if known else None
    areas = bootstrap.pooled_roc_aucs(label, [ours, theirs], one_fold, groups=together)
    return images, groups, bootstrap.difference(images.value, areas[0] - areas[1]), found


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number (Holm, 1979); NaN stays NaN and does not count."""
    corrected, largest = [NAN] * len(p), 0.0
    known = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[place] = largest
    return corrected


def choose_baseline(results: Sequence[Result], name: str = "") -> Result:
    """Returns the result of the model called `name`. Raises ValueError if there is none.

    If `name` is '', returns the model that the runs' own configs name as baseline, as those of ablations do; else
    the smallest model with a thumbnail only, else the first. Models with finished runs come before others.
    """
    if name:
        for result in results:
            if result.group.name == name:
                return result
        names = ", ".join(result.group.name for result in results)
        raise ValueError(f"`baseline`={name!r}: no such model; there are {names}")
    named = {result.group.first.settings.get("report.baseline") or "" for result in results} - {""}

    def rank(result: Result):
        folder = result.group.name.rpartition("/")[2]
        plain = result.group.first.settings.get("model.branches") == ["thumbnail"]
        return not result.last.count, {folder} != named, not plain, result.parameters if plain else 0

    return min(results, key=rank)
