"""Finds and reads the runs below a folder and groups them into models.

A run is any folder with a metrics.csv that has the columns of `REQUIRED`. config.json, evaluation.json,
predictions.csv and goodput.json are read if they exist.
"""

import collections
import dataclasses
import itertools
import json
import numbers
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax import default_config, early_stopping
from stochconv_jax.config import flatten
from stochconv_jax.csv_cells import escape_surrogates
from stochconv_jax.reporting import damaged_files, evaluations
from stochconv_jax.reporting.evaluations import BY_PASSES, SavedPredictions
from stochconv_jax.run_folder import FREE_KEYS, METRICS, RunFolder

REQUIRED = ("epoch", "val_roc_auc")
CONFIG = "config.json"
GOODPUT = "goodput.json"
# The entries of config.json, and of the config in it, that the report uses, with their types.
TYPES = {"config": Mapping, "data": Mapping, "parameters": numbers.Real, "multiply_adds": numbers.Real}
GOODPUT_TYPES = {"wall_seconds": numbers.Real, "seconds": Mapping, "starts": list}
SETTING_TYPES = {
    "seed": int,
    "num_epochs": numbers.Real,
    "model.branches": list,
    "report.baseline": str,
    "data.classes": list,
    "checkpoint.best_metric": str,
    "checkpoint.patience": int,
}
DEFAULTS = flatten(default_config.get_config().to_dict())
SEED = re.compile(r"[-_., /]*(?<![a-z])seeds?[-_= /]?(\d+)", re.IGNORECASE)


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
    def checkpoint(self) -> str:
        """The name of the evaluated checkpoint, see `evaluations.checkpoint_name`."""
        return evaluations.checkpoint_name(self.evaluation, self.metrics)

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
        """Returns a text that is equal for runs of one model, whose configs differ by the seed only.

        Without a config it is the folder's name without the seed.
        """
        if not self.settings:
            return "folder " + SEED.sub("", self.name)
        # A run from before a key existed used what is now the key's default.
        settings = {**DEFAULTS, **self.settings}
        kept = {k: v for k, v in settings.items() if k != "seed" and not k.startswith(FREE_KEYS)}
        return json.dumps([kept, self.about.get("data")], sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Group:
    """A model: runs that differ by their seed only."""

    name: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def finished(self) -> list[Run]:
        """The finished runs. Only they enter means and comparisons, which are of last epochs."""
        return [run for run in self.runs if run.finished]

    def by_seed(self) -> dict[int | None, Run]:
        """Returns the finished runs by seed. A run without a seed is included only if it is the model's only run."""
        return {run.seed: run for run in self.finished if run.seed is not None or len(self.runs) == 1}


def collect(root: pathlib.Path) -> tuple[list[Group], list[str]]:
    """Returns the models of all runs in and below `root`, and sentences about runs and values that are not used.

    Raises ValueError, with the reasons, if no run can be used.
    """
    runs, remarks = [], _without_an_epoch(root)
    for file in sorted(root.rglob("metrics.csv")):
        try:
            run = read(file.parent, root)
        except (ValueError, OSError) as error:
            remarks.append(f"left out: {error}")
        else:
            runs.append(run)
            remarks += run.remarks
    if not runs:
        reasons = "".join(f"\n  {remark}" for remark in remarks)
        raise ValueError(f"no run with a finished epoch in or below {root}: no metrics.csv that can be used{reasons}")
    groups, more = group(runs)
    return groups, remarks + more


def _without_an_epoch(root: pathlib.Path) -> list[str]:
    """Returns sentences about folders of runs that started, perhaps in a sweep, and finished no epoch."""
    started = {file.parent for name in (CONFIG, "output.log") for file in root.rglob(name)}
    folders = sorted(folder for folder in started if not (folder / "metrics.csv").exists() and _is_run(folder))
    logs = {folder: "; output.log says more" if (folder / "output.log").exists() else "" for folder in folders}
    return [f"left out: {folder} was begun but has no metrics.csv, so no epoch{logs[folder]}" for folder in folders]


def _is_run(folder: pathlib.Path) -> bool:
    """Returns whether a folder may be that of a run; False if its config.json is another program's."""
    try:
        about = RunFolder(folder).read_config()
    except (ValueError, OSError):
        return True
    return about is None or "config" in about


def read(path: pathlib.Path, root: pathlib.Path) -> Run:
    """Returns the run in the folder `path`, whose name is relative to `root`.

    Raises ValueError if metrics.csv cannot be read or has no validation ROC AUC.
    """
    folder = RunFolder(path)
    name = escape_surrogates(path.relative_to(root).as_posix())
    if not SEED.sub("", name).strip("."):
        name = f"{root.resolve().name}/{name}".removesuffix("/.")
    metrics, remarks = _metrics(folder)
    about = damaged_files.read_json(TYPES, folder, CONFIG, remarks)
    settings = damaged_files.drop_wrong_types(SETTING_TYPES, flatten(about.get("config", {})), path / CONFIG, remarks)
    if not settings:
        remarks.append(f"{path}: no config in config.json; its model is identified by the folder's name only")
    in_name = SEED.search(name)
    seed = settings.get("seed", int(in_name[1]) if in_name else None)
    evaluation, predictions = evaluations.read(folder, about, metrics, remarks)
    goodput = _goodput(folder, remarks)
    run = Run(name, seed, about, settings, metrics, evaluation, predictions, goodput, tuple(remarks))
    return dataclasses.replace(run, remarks=(*remarks, *_shortcomings(run, path)))


def _shortcomings(run: Run, path: pathlib.Path) -> Iterator[str]:
    if not run.finished:
        done, planned = run.metrics["epoch"][-1], run.settings["num_epochs"]
        yield f"{path}: unfinished, {done:g} of {planned:g} epochs; only the curves show it"
    if np.isnan(run.last()):
        yield f"{path}: the last epoch has no validation ROC AUC; means of last epochs are without it"


def _goodput(folder: RunFolder, remarks: list[str]) -> dict[str, Any]:
    """Returns the content of goodput.json, {} if the file or one of the entries GOODPUT_TYPES is missing."""
    content = damaged_files.read_json(GOODPUT_TYPES, folder, GOODPUT, remarks)
    if not GOODPUT_TYPES.keys() <= content.keys():
        return {}
    seconds, types = content["seconds"], dict.fromkeys(content["seconds"], numbers.Real)
    return content | {"seconds": damaged_files.drop_wrong_types(types, seconds, folder.path / GOODPUT, remarks)}


def _metrics(folder: RunFolder) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the columns METRICS of metrics.csv and remarks about missing columns and numbers."""
    file, rows, remarks = folder.path / "metrics.csv", folder.read_metrics(), []
    if not rows:
        raise ValueError(f"{file}: no finished epoch")
    missing = [column for column in METRICS if column not in rows[0]]
    if needed := [column for column in REQUIRED if column in missing]:
        raise ValueError(f"{file} lacks the column {' and '.join(needed)}; it has {', '.join(map(str, rows[0]))}")
    if missing:
        remarks.append(f"{file} lacks the column {', '.join(missing)}; numbers that need it are left empty")
    metrics = {column: damaged_files.numbers(rows, column, file) for column in METRICS}
    if np.isnan(metrics["epoch"]).any():
        raise ValueError(f"{file}: a row has no epoch")
    areas = metrics["val_roc_auc"]
    if (wrong := areas[(areas < 0) | (areas > 1)]).size:
        raise ValueError(f"{file}: a val_roc_auc of {wrong[0]:g}; expected areas within 0..1")
    undefined = np.isnan(metrics["val_roc_auc"])
    if undefined.all():
        raise ValueError(f"{file}: no epoch has a val_roc_auc; are the validation images of one class only?")
    if undefined.any():
        epochs = ", ".join(f"{epoch:g}" for epoch in metrics["epoch"][undefined])
        remarks.append(f"{file}: no val_roc_auc in epoch {epochs}")
    return metrics, remarks


def group(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """Groups runs into models, in the order of their first runs.

    Also returns remarks about folders with several models and about repeated seeds.
    """
    by_identity, remarks = collections.defaultdict(list), []
    for run in runs:
        by_identity[run.identity()].append(run)
    by_name = collections.defaultdict(list)
    for members in by_identity.values():
        kept = _one_per_seed(members, remarks)
        by_name[_common_name([run.name for run in kept])].append(kept)
    groups = []
    for name, parts in by_name.items():
        if len(parts) > 1:
            differing = ", ".join(_differences([part[0] for part in parts]))
            remarks.append(f"{name}: runs of {len(parts)} configs, grouped separately; they differ in {differing}")
        groups += [Group(f"{name} #{k}" if len(parts) > 1 else name, part) for k, part in enumerate(parts, start=1)]
    return groups, remarks


def _one_per_seed(runs: Sequence[Run], remarks: list[str]) -> list[Run]:
    """Returns one run for each seed: the longest, and of equally long ones that with most passes in its evaluation.

    Repeated runs of a seed would count as independent ones.
    """
    kept: dict[Any, Run] = {}
    for run in runs:
        key = run.name if run.seed is None else run.seed
        other = kept.get(key)
        if other is not None:
            longest = max(other, run, key=lambda r: (len(r.metrics["epoch"]), len(r.evaluation.get(BY_PASSES, ()))))
            remarks.append(f"{other.name} and {run.name} have the same config and seed; only {longest.name} counts")
            run = longest
        kept[key] = run
    return list(kept.values())


def _common_name(names: Sequence[str]) -> str:
    """Returns what the folders' names have in common, without seeds: folders at either end, else the first words."""
    without_seeds = [SEED.sub("", name) for name in names]
    if len(set(without_seeds)) > 1:
        parts = [name.split("/") for name in without_seeds]
        start, end = _common_start(parts), _common_start([part[::-1] for part in parts])[::-1]
        if start or end:
            return "/".join([*start, *end])
    words = _common_start([re.split(r"([-_=./, ]+)", name) for name in without_seeds])
    return "".join(words).rstrip("-_=./, ").lstrip("-=./, ") or "".join(_common_start(without_seeds)) or names[0]


def _common_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    return [items[0] for items in itertools.takewhile(lambda items: len(set(items)) == 1, zip(*sequences))]


def _differences(runs: Sequence[Run]) -> list[str]:
    """Returns the keys in which the configs differ, with their values, or ['the data'] if the configs are equal."""
    missing = "none"
    keys = sorted({key for run in runs for key in run.settings} - {"seed"})
    values = {key: [run.settings.get(key, missing) for run in runs] for key in keys if not key.startswith(FREE_KEYS)}
    return [
        f"{key} ({' / '.join(map(str, found))})" for key, found in values.items() if any(v != found[0] for v in found)
    ] or ["the data"]
