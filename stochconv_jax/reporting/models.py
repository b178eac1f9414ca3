"""Groups the runs below a folder into models, whose runs are replicates that differ by fold and seed."""

import collections
import dataclasses
import itertools
import json
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax import default_config, early_stopping
from stochconv_jax.config import flatten
from stochconv_jax.reporting import evaluations
from stochconv_jax.reporting.evaluations import BY_PASSES, SavedPredictions
from stochconv_jax.run_folder import ALL_FOLDS, FREE_KEYS

SEED = re.compile(r"[-_., /]*(?<![a-z])seeds?[-_= /]?(\d+)", re.IGNORECASE)  # in the name of a folder
FOLD = re.compile(SEED.pattern.replace("seed", "fold"), re.IGNORECASE)
Replicate = tuple[tuple[int, int] | None, int | None]  # fold and seed


def fold_of(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns (2, 5) for data.fold='2/5' in the flattened `settings`; None without folds."""
    found = re.fullmatch(r"(\d+)/(\d+)", str(settings.get("data.fold", "")))
    return (int(found[1]), int(found[2])) if found else None


def without_replicate(name: str, settings: Mapping[str, Any]) -> str:
    """Returns the name of a run's folder without its seed and, if it has one, its fold."""
    name = SEED.sub("", name)
    return FOLD.sub("", name) if fold_of(settings) else name


def _of_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seed" and not key.startswith(FREE_KEYS)}


_DEFAULTS = _of_model(flatten(default_config.get_config().to_dict()))


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder.

    `name` is its path below the root, `about` is the content of config.json, and `settings` is the flattened config, {}
    if there is none. `metrics` has the columns of metrics.csv, float64 `[epochs]`, with NaN for missing numbers.
    `goodput` is the content of goodput.json, {} if there is none. `remarks` are sentences about files and
    values that are not used.
    """

    name: str
    seed: int | None
    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, np.ndarray]
    evaluation: Mapping[str, Any]
    predictions: SavedPredictions | None
    goodput: Mapping[str, Any]
    remarks: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether all epochs of the config, or those up to an early stop, are done; True if no config is known."""
        if self.metrics["epoch"][-1] >= self.settings.get("num_epochs", 0):
            return True
        metric, patience = self.settings.get("checkpoint.best_metric", ""), self.settings.get("checkpoint.patience", 0)
        if metric not in self.metrics:
            return False
        rows = [{"epoch": epoch, metric: value} for epoch, value in zip(self.metrics["epoch"], self.metrics[metric])]
        return early_stopping.is_over(rows, metric, patience)

    @property
    def stopped_early(self) -> bool:
        """Whether the run is finished with fewer epochs than its config has."""
        return self.finished and self.metrics["epoch"][-1] < self.settings.get("num_epochs", 0)

    @property
    def fold(self) -> tuple[int, int] | None:
        """The number of the fold that validates the run, and the number of folds; None without folds."""
        return fold_of(self.settings)

    @property
    def checkpoint(self) -> str:
        """The name of the evaluated checkpoint, see `evaluations.checkpoint_name`."""
        return evaluations.checkpoint_name(self.evaluation, self.metrics)

    @property
    def passes(self) -> str:
        """The number of passes of the evaluation, such as '3 x 4 views' for several views; '?' if not recorded."""
        views = self.evaluation.get("views", 1)
        return str(self.evaluation.get("passes", "?")) + (f" x {views} views" if views != 1 else "")

    @property
    def may_have_selection_bias(self) -> bool:
        """Whether the checkpoint was, or may have been, chosen on the images that it was evaluated on."""
        return evaluations.may_have_selection_bias(self.evaluation, self.metrics)

    def last(self) -> float:
        """Returns the validation ROC AUC of the last epoch, NaN if that epoch has none."""
        return float(self.metrics["val_roc_auc"][-1])

    def maximum(self) -> float:
        """Returns the highest validation ROC AUC of all epochs."""
        return float(np.nanmax(self.metrics["val_roc_auc"]))

    def identity(self) -> str:
        """Returns a text that is equal for runs of one model, whose configs differ by seed and fold only.

        Without a config it is the folder's name without the seed. Folds have different training and validation images,
        but as many together; `group` tells data sets of equally many images apart.
        """
        if not self.settings:
            return "folder " + SEED.sub("", self.name)
        data = self.about.get("data")
        if self.fold and data:
            counts = [side.get("images") for side in data.values() if isinstance(side, Mapping)]
            data = sum(count for count in counts if isinstance(count, numbers.Real))
        # A run from before a key existed used what is now the key's default.
        return json.dumps([_DEFAULTS | self.model_settings(), data], sort_keys=True)

    def model_settings(self) -> dict[str, Any]:
        """Returns the settings that make a model: without the seed, the fold's number and keys without effect."""
        return _of_model(self.settings) | ({"data.fold": f"one of {self.fold[1]}"} if self.fold else {})


@dataclasses.dataclass(frozen=True)
class Group:
    """A model: runs that differ by their seed and, in cross-validation, their fold."""

    name: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def finished(self) -> list[Run]:
        """The finished runs. Only they enter means and comparisons, which are of last epochs."""
        return [run for run in self.runs if run.finished]

    @property
    def folds(self) -> int:
        """The number of folds if the runs are of several of them, else 0."""
        return self.first.fold[1] if self.first.fold and len({run.fold for run in self.runs}) > 1 else 0

    def by_replicate(self) -> dict[Replicate, Run]:
        """Returns the finished runs by fold and seed. A run without a seed is left out if the model has others."""
        return {(run.fold, run.seed): run for run in self.finished if run.seed is not None or len(self.runs) == 1}


def group(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """Groups runs into models, in the order of their first runs.

    Also returns remarks about folders with several models and about repeated runs.
    """
    by_identity, remarks = collections.defaultdict(list), []
    for run in runs:
        by_identity[run.identity()].append(run)
    by_name = collections.defaultdict(list)
    for members in itertools.chain(*map(_by_data, by_identity.values())):
        kept = _one_per_replicate(members, remarks)
        by_name[_common_name(kept)].append(kept)
    groups = []
    for name, parts in by_name.items():
        if len(parts) > 1:
            differing = ", ".join(_differences([part[0] for part in parts]))
            remarks.append(f"{name}: runs of {len(parts)} configs, grouped separately; they differ in {differing}")
        groups += [Group(f"{name} #{k}" if len(parts) > 1 else name, part) for k, part in enumerate(parts, start=1)]
    return groups, remarks


def _by_data(runs: Sequence[Run]) -> list[list[Run]]:
    """Divides runs of folds into those of each data set, in which the runs of a fold have the same images.

    Runs of earlier versions did not record the images of all folds together.
    """
    found: list[tuple[dict[Any, Any], list[Run]]] = []
    for run in runs:
        known: dict[Any, Any] = {run.fold: run.about.get("data")} if run.fold else {}
        if (together := run.about.get(ALL_FOLDS)) is not None:
            known["all folds"] = together
        for data, members in found:
            if all(data.get(part, images) == images for part, images in known.items()):
                data |= known
                members.append(run)
                break
        else:
            found.append((known, [run]))
    return [members for _, members in found]


def _one_per_replicate(runs: Sequence[Run], remarks: list[str]) -> list[Run]:
    """Returns one run for each fold and seed: the longest, of equally long ones that evaluated with most passes.

    Repeated runs would count as independent ones.
    """
    kept: dict[Any, Run] = {}
    for run in runs:
        key = run.name if run.seed is None else (run.fold, run.seed)
        other = kept.get(key)
        if other is not None:
            longest = max(other, run, key=lambda r: (len(r.metrics["epoch"]), len(r.evaluation.get(BY_PASSES, ()))))
            same = "seed, and the same fold" if run.fold else "seed"
            remarks.append(f"{other.name} and {run.name} have the same config and {same}; only {longest.name} counts")
            run = longest
        kept[key] = run
    return list(kept.values())


def _common_name(runs: Sequence[Run]) -> str:
    """Returns what the folders' names share, without seeds and folds: folders at either end, else the first words."""
    names = [without_replicate(run.name, run.settings) for run in runs]
    first = SEED.sub("", runs[0].name) if runs[0].fold else runs[0].name
    if len(set(names)) > 1:
        parts = [name.split("/") for name in names]
        start, end = _common_start(parts), _common_start([part[::-1] for part in parts])[::-1]
        if start or end:
            return "/".join([*start, *end])
    words = _common_start([re.split(r"([-_=./, ]+)", name) for name in names])
    return "".join(words).rstrip("-_=./, ").lstrip("-=./, ") or "".join(_common_start(names)) or first


def _common_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    return [items[0] for items in itertools.takewhile(lambda items: len(set(items)) == 1, zip(*sequences))]


def _differences(runs: Sequence[Run]) -> list[str]:
    """Returns the keys in which the configs differ, with their values, or ['the data'] if the configs are equal."""
    missing, found = "none", [run.model_settings() for run in runs]
    values = {key: [one.get(key, missing) for one in found] for key in sorted({key for one in found for key in one})}
    return [
        f"{key} ({' / '.join(map(str, of_run))})"
        for key, of_run in values.items()
        if any(v != of_run[0] for v in of_run)
    ] or ["the data"]
