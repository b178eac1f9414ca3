"""Combines several runs into one model: the mean of their probabilities, and of the ranks of the images.

An ensemble is a folder with several runs below it, such as the folds and seeds of a sweep, or a list of such folders
and of runs. Each image is predicted by the runs that did not train on it: all of them for a test set, those of its own
fold for validation images.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from ml_collections import ConfigDict

from stochconv_jax import metrics
from stochconv_jax.data import sources
from stochconv_jax.experiment import calibrations
from stochconv_jax.run_folder import RunFolder, common_folder, split_workdirs
from stochconv_jax.training.evaluation import Predictions


@dataclasses.dataclass(frozen=True)
class Member:
    """The predictions of one run.

    Attributes:
      name: the run's folder, relative to the ensemble's.
      source: the images.
      predictions: the predictions of those that could be read.
      predicted_by: see `Predictor.predicted_by`.
    """

    name: str
    source: sources.Source
    predictions: Predictions
    predicted_by: dict[str, Any]

    def names(self) -> list[str]:
        """Returns the names of the predicted images."""
        return [self.source.names[index] for index in self.predictions.index]


def find(paths: Sequence[str | os.PathLike]) -> tuple[RunFolder, list[RunFolder]]:
    """Returns the ensemble's folder, the deepest that contains all of `paths`, and the runs in and below `paths`.

    A path without a run is returned as if it were one. Symbolic links are followed, so that a folder of links makes an
    ensemble of any runs. A run counts once, even if several paths or links lead to it.

    Raises ValueError without a path.
    """
    if not paths:
        raise ValueError("an ensemble needs at least one folder of runs")
    folders = [RunFolder(path) for path in paths]
    found = {run.path.resolve(): run for folder in folders for run in _runs_below(folder) or [folder]}
    return RunFolder(common_folder([folder.path for folder in folders])), list(found.values())


def of_workdir(workdir: str) -> tuple[RunFolder, list[RunFolder]]:
    """Returns what `find` does for the folders in --workdir, whose results are written into the ensemble's folder.

    Raises ValueError if that is the folder of one of several runs, whose own results would be replaced.
    """
    root, found = find(split_workdirs(workdir))
    if len(found) > 1 and root.path in (run.path for run in found):
        others = ", ".join(name_of(run, root) for run in found if run.path != root.path)
        raise ValueError(
            f"--workdir={workdir}: {others} in the run {root.path}, whose own results an ensemble would replace: move "
            "one of them"
        )
    return root, found


def _runs_below(folder: RunFolder) -> list[RunFolder]:
    """Returns the runs in and below a folder, sorted. Each folder is visited once, even if links form a cycle."""
    found, seen = [], set()
    for path, subfolders, files in os.walk(folder.path, followlinks=True):
        is_new, is_run = os.path.realpath(path) not in seen, "config.json" in files
        seen.add(os.path.realpath(path))
        found += [RunFolder(path)] if is_new and is_run else []
        subfolders[:] = sorted(subfolders) if is_new and not is_run else []
    return found


def name_of(run: RunFolder, ensemble: RunFolder) -> str:
    """Returns the folder of a run, relative to the ensemble's; '.' if they are the same."""
    return run.path.relative_to(ensemble.path).as_posix()


def refuse_other_classes(configs: Mapping[str, ConfigDict]) -> None:
    """Raises ValueError unless all runs, by name, have the classes of the first: as many, with the same names."""
    first, *others = configs
    for name, key in itertools.product(others, ("num_classes", "classes")):
        ours, theirs = configs[first].data[key], configs[name].data[key]
        if ours != theirs:
            raise ValueError(
                f"an ensemble needs runs of the same classes: config.data.{key} is {ours!r} in {first} and {theirs!r} "
                f"in {name}"
            )


def ranks(score: np.ndarray) -> np.ndarray:
    """Returns the rank of each image, as a share between 0 and 1 that grows with `score` `[N]`."""
    return scipy.stats.rankdata(score) / (len(score) + 1)


def mean_of_ranks(places: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Returns the mean of `ranks` over the runs, `[runs, N]` -> `[N]`; equal means stay equal in spite of rounding."""
    return np.mean(places, axis=0).round(12)


def pool(members: Sequence[Member]) -> tuple[sources.Source, Predictions, np.ndarray | None]:
    """Returns the images of all members, their predictions and, for two classes, the mean of their ranks `[N]`.

    The predictions have a member in place of each pass. Ranks are among the images that one member predicted, so that
    they do not change if one member's probabilities are all higher than another's.

    Raises ValueError if members have different labels for an image, or if one image has more predictions than another.
    """
    probability, rank, labels, first = {}, {}, {}, {}
    for member in members:
        predictions = member.predictions
        log_p = predictions.log_p()
        place = ranks(metrics.scores(log_p)) if log_p.shape[1] == 2 else np.zeros(len(log_p))
        for row, name in enumerate(member.names()):
            label = int(predictions.label[row])
            if labels.setdefault(name, label) != label:
                raise ValueError(
                    f"{member.name} has class {label} for {name}, and another run has {labels[name]}: evaluate all "
                    "runs with the same labels"
                )
            first.setdefault(name, (member.source, int(predictions.index[row])))
            probability.setdefault(name, []).append(log_p[row])
            rank.setdefault(name, []).append(place[row])
    names, counts = list(first), {len(found) for found in probability.values()}
    if len(counts) > 1:
        raise ValueError(
            f"some images are predicted by {min(counts)} and others by {max(counts)} of the runs: an ensemble needs "
            "equally many runs for each fold; finish the sweep, or name a test set"
        )
    logits = np.stack([np.stack(probability[name]) for name in names], axis=1)
    pooled = Predictions(np.arange(len(names)), np.array([labels[name] for name in names]), logits, np.array([], int))
    mean_rank = mean_of_ranks(np.array([rank[name] for name in names]).T) if logits.shape[2] == 2 else None
    return _source(names, pooled.label, list(first.values())), pooled, mean_rank


def _source(names: list[str], labels: np.ndarray, places: list[tuple[sources.Source, int]]) -> sources.Source:
    """Returns a source of the images at (source, index); it has the columns that all their sources have.

    The names of the classes are those of the first source.
    """
    columns = [column for column in places[0][0].columns if all(column in source.columns for source, _ in places)]
    return sources.FolderSource(
        [pathlib.Path(name) for name in names],
        names,
        labels,
        texts=[source.texts[index] for source, index in places],
        columns={column: [source.columns[column][index] for source, index in places] for column in columns},
        classes=places[0][0].classes,
    )


def skipped(members: Iterable[Member]) -> list[str]:
    """Returns the names of the images that no member could read; `pool` refuses those that only some could."""
    return sorted({one.source.names[index] for one in members for index in one.predictions.skipped})


def predicted_by(members: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns how an ensemble predicts, from the names of its runs and how each of them predicts.

    The checkpoint's step, and every entry that differs between runs, is a dict {name of the run: value}.
    """
    by_run = dict(members)
    result = {}
    for key in next(iter(by_run.values())):
        values = {name: made[key] for name, made in by_run.items()}
        differ = key == "checkpoint_step" or len(set(values.values())) > 1
        result[key] = values if differ else next(iter(values.values()))
    return result


def fitted_to(predictions_per_image: int, runs: int) -> str:
    """Returns in words to which predictions of an ensemble of so many runs a calibration is fitted.

    With folds, only the runs of an image's own fold may predict it.
    """
    all_of_them = predictions_per_image == runs
    return calibrations.OWN if all_of_them else calibrations.SOME_RUNS.format(predictions_per_image, runs)


def rank_figures(labels: np.ndarray, mean_rank: np.ndarray) -> dict[str, Any]:
    """Returns the ROC AUC of the mean of ranks, and its interval."""
    area = metrics.delong_placements(labels, mean_rank)[0]
    return {"roc_auc": area, "roc_auc_interval_95": list(metrics.roc_auc_interval(labels, mean_rank))}
