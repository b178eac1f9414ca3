"""The numbers of the report: means over seeds, costs and comparisons. Of the text and the pictures it knows nothing."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stochconv_jax import metrics
from stochconv_jax.reporting import published
from stochconv_jax.reporting.collect import Group, Run

NAN = float("nan")


class Mean(NamedTuple):
    """Over runs; NaN interval for fewer than two. `best` is the highest of the `count` values."""

    value: float
    low: float
    high: float
    best: float
    count: int


class Quality(NamedTuple):
    """Of predictions.csv, means over the runs that have one; of two classes. `evaluated`: see `_evaluated`."""

    runs: int
    images: int
    evaluated: frozenset[tuple[str, str]]
    roc_auc: float
    brier_score: float
    calibration_error: float


@dataclasses.dataclass(frozen=True)
class Result:
    """A line of the table, of the finished runs. `parameters`, and `multiply_adds` of one image; NaN where unknown."""

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


def summarise(group: Group) -> Result:
    """The numbers of a model."""
    first, runs = group.first, group.finished
    return Result(
        group=group,
        last=mean([run.last() for run in runs]),
        maximum=mean([run.maximum() for run in runs]),
        parameters=first.about.get("parameters", NAN),
        multiply_adds=first.about.get("multiply_adds", NAN),
        # The median over epochs, for the first compiles and an interrupted one may last long.
        minutes_per_epoch=_average(np.median(_defined(run.metrics["seconds"])) for run in runs) / 60,
        minutes=_average(run.metrics["seconds"].sum() for run in runs) / 60,
        images_per_second=_average(np.median(_defined(run.metrics["images_per_second"])) for run in runs),
        quality=_quality(group),
        published=published.figure(first.settings),
    )


def mean(values: Sequence[float]) -> Mean:
    """Of the values that are numbers."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return Mean(NAN, NAN, NAN, NAN, 0)
    return Mean(float(np.mean(values)), *metrics.mean_interval(values), max(values), len(values))


def _defined(values: np.ndarray) -> np.ndarray:
    """Without NaN, unless there is nothing else."""
    kept = values[~np.isnan(values)]
    return kept if len(kept) else np.array([NAN])


def _average(values) -> float:
    return float(np.mean(list(values) or [NAN]))


def _quality(group: Group) -> Quality | None:
    runs = [run for run in group.finished if run.predictions]
    if not runs:
        return None
    found = [run.predictions for run in runs]
    return Quality(
        len(found),
        len(found[0].images),
        _evaluated(runs),
        _average(metrics.delong_placements(p.label, p.probability)[0] for p in found),
        _average(np.square(p.probability - p.label).mean() for p in found),
        _average(metrics.reliability(p.label, p.probability).error() for p in found),
    )


def _evaluated(runs: Sequence[Run]) -> frozenset[tuple[str, str]]:
    """Which checkpoints predicted, with how many passes; '?' where evaluation.json does not say."""
    return frozenset((run.checkpoint, str(run.evaluation.get("passes", "?"))) for run in runs)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Of the last epochs of `result` minus those of `baseline`, by common seed; `images`: of the same predictions.

    `groups`: likewise, with the images of a group, such as a patient, as one draw; None where no groups are known.
    """

    result: Result
    baseline: Result
    pairs: int
    seeds: metrics.Difference
    bootstrap: tuple[float, float]
    images: metrics.Difference
    groups: metrics.Difference | None
    image_count: int
    image_pairs: int
    evaluated_alike: bool
    flattered: bool  # whether predictions are not compared for the choice of their checkpoints

    def verdict(self) -> str:
        """In plain words, at the 5 % level."""
        name = self.baseline.group.name
        if not self.pairs:
            return "no finished runs of a common seed, or other validation images: not compared"
        if math.isnan(self.seeds.p):
            one = "one pair of runs: what other seeds would give is not known"
            words = one if self.pairs == 1 else "the same difference in every seed: no test"
        elif self.seeds.p < 0.05:
            words = f"{_better(self.seeds.value)} than {name}"
        else:
            words = f"cannot be told apart from {name} by {self.pairs} seeds"
        if self.flattered and not self.image_pairs:
            return f"{words}; checkpoints chosen on the predicted images, as the best are, are not compared on them"
        images = self.groups or self.images
        if math.isnan(images.p):
            return words
        told = _better(images.value) if images.p < 0.05 else "not told apart"
        how = "" if self.evaluated_alike else ", but of other checkpoints or passes"
        return f"{words}; on the predicted images {told}{how}"


def _better(difference: float) -> str:
    return "better" if difference > 0 else "worse"


def compare(result: Result, baseline: Result) -> Comparison:
    """Pairs the runs of equal seeds, and of those with predictions of the same images the images."""
    seeds = metrics.Difference(NAN, NAN, NAN, NAN)
    pairs = _pairs(result.group, baseline.group)
    areas = np.array([[run.last() for run in pair] for pair in pairs]).reshape(-1, 2).T
    if len(pairs):
        seeds = metrics.student_difference(*areas)
    images, groups, predicted = _compare_predictions(pairs)
    image_count = len(predicted[0][0].predictions.images) if predicted else 0
    alike = len({_evaluated(side) for side in zip(*predicted)}) < 2
    interval = metrics.bootstrap_interval(*areas)
    flattered = any(run.predictions and run.flattered for pair in pairs for run in pair)
    counts = (image_count, len(predicted))
    return Comparison(result, baseline, len(pairs), seeds, interval, images, groups, *counts, alike, flattered)


def _pairs(group: Group, other: Group) -> list[tuple[Run, Run]]:
    """Finished runs of equal seeds whose last epoch has an area; none where validation images are known to differ."""
    data, other_data = (g.first.about.get("data", {}).get("validation") for g in (group, other))
    if data != other_data and None not in (data, other_data):
        return []
    mine, theirs = group.by_seed(), other.by_seed()
    pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    return [pair for pair in pairs if not any(math.isnan(run.last()) for run in pair)]


def _compare_predictions(pairs) -> tuple[metrics.Difference, metrics.Difference | None, list[tuple[Run, Run]]]:
    """DeLong's difference, that by groups, and the pairs that they are the mean of: those of the same images.

    Not of checkpoints that were chosen by these images: of two models of no worth, one would be better too often.
    """
    found = [pair for pair in pairs if all(run.predictions and not run.flattered for run in pair)]
    found = [pair for pair in found if all(run.predictions.same_images(found[0][0].predictions) for run in pair)]
    if not found:
        return metrics.Difference(NAN, NAN, NAN, NAN), None, []
    scores = [[pair[side].predictions.probability for pair in found] for side in (0, 1)]
    label = found[0][0].predictions.label
    known = [run.predictions.groups for pair in found for run in pair if run.predictions.groups]
    groups = metrics.delong_difference(label, *scores, groups=known[0]) if known else None
    return metrics.delong_difference(label, *scores), groups, found


def baseline(results: Sequence[Result], name: str) -> Result:
    """The result called `name`. ValueError if there is none.

    If it is '' that which the runs' own config.report.baseline names, as those of an ablation do; else the smallest
    thumbnail-only one, else the first. There those with finished runs come before others.
    """
    if name:
        for result in results:
            if result.group.name == name:
                return result
        names = ", ".join(result.group.name for result in results)
        raise ValueError(f"config.report.baseline={name!r}: no such model; there are {names}")
    wished = {result.group.first.settings.get("report.baseline") or "" for result in results} - {""}

    def rank(result: Result):
        folder = result.group.name.rpartition("/")[2]
        plain = result.group.first.settings.get("model.branches") == ["thumbnail"]
        return not result.last.count, {folder} != wished, not plain, result.parameters if plain else 0

    return min(results, key=rank)
