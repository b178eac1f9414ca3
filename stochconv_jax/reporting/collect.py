"""The runs below a folder, as their files tell them, grouped into models.

A run is any folder with a metrics.csv that has the columns of `REQUIRED`; config.json, evaluation.json,
predictions.csv and goodput.json say more where they are.
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

from stochconv_jax import default_config
from stochconv_jax.config import flatten
from stochconv_jax.csv_cells import as_text
from stochconv_jax.reporting import evaluations, files
from stochconv_jax.reporting.evaluations import BY_PASSES, Predictions
from stochconv_jax.run_folder import FREE_KEYS, METRICS, RunFolder

REQUIRED = ("epoch", "val_roc_auc")
CONFIG = "config.json"
GOODPUT = "goodput.json"
# What the report takes from config.json, and of what kind it must be.
ABOUT = {"config": Mapping, "data": Mapping, "parameters": numbers.Real, "multiply_adds": numbers.Real}
SPENT = {"wall_seconds": numbers.Real, "seconds": Mapping, "starts": list}  # and from goodput.json
SETTINGS = {"seed": int, "num_epochs": numbers.Real, "model.branches": list, "report.baseline": str}
DEFAULTS = flatten(default_config.get_config().to_dict())
SEED = re.compile(r"[-_., /]*(?<![a-z])seeds?[-_= /]?(\d+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Run:
    """One folder. `name`: its path below the root; `settings`: its config, flattened, {} where there is none.

    `metrics`: columns of metrics.csv, float64 `[epochs]`, NaN where there is no number; `goodput`: the content of
    goodput.json, {} where there is none; `remarks`: what is amiss.
    """

    name: str
    seed: int | None
    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, np.ndarray]
    evaluation: Mapping[str, Any]
    predictions: Predictions | None
    goodput: Mapping[str, Any]
    remarks: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether all epochs of the config are done, as far as one is known."""
        return self.metrics["epoch"][-1] >= self.settings.get("num_epochs", 0)

    @property
    def checkpoint(self) -> str:
        """Which checkpoint was evaluated, in words."""
        return evaluations.checkpoint(self.evaluation, self.metrics)

    @property
    def flattered(self) -> bool:
        """Whether the evaluated checkpoint was chosen by the images that it was evaluated on, or may have been."""
        return evaluations.flatters(self.evaluation, self.metrics)

    def last(self) -> float:
        """Validation ROC AUC of the last epoch; NaN if that epoch has none."""
        return float(self.metrics["val_roc_auc"][-1])

    def maximum(self) -> float:
        """The highest validation ROC AUC of all epochs."""
        return float(np.nanmax(self.metrics["val_roc_auc"]))

    def identity(self) -> str:
        """Equal for runs that differ by their seed alone; without a config, for folders named alike but for it."""
        if not self.settings:
            return "folder " + SEED.sub("", self.name)
        # A key that is new since the run has its default there.
        settings = DEFAULTS | self.settings
        kept = {k: v for k, v in settings.items() if k != "seed" and not k.startswith(FREE_KEYS)}
        return json.dumps([kept, self.about.get("data")], sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Group:
    """A model: runs that differ by their seed alone."""

    name: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def finished(self) -> list[Run]:
        """The runs that count: an epoch in the middle is no result to set beside others' last ones."""
        return [run for run in self.runs if run.finished]

    def by_seed(self) -> dict[int | None, Run]:
        """Finished runs by seed; a run without one only if it is the group's only one."""
        return {run.seed: run for run in self.finished if run.seed is not None or len(self.runs) == 1}


def collect(root: pathlib.Path) -> tuple[list[Group], list[str]]:
    """The models of all runs in and below `root`, and sentences about what is left out or amiss.

    ValueError, which says why each was left out, where no run can be used.
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
    """Sentences about folders where a run, perhaps one of a sweep that failed, was begun and no epoch ended."""
    begun = {file.parent for name in (CONFIG, "output.log") for file in root.rglob(name)}
    folders = sorted(folder for folder in begun if not (folder / "metrics.csv").exists() and _is_run(folder))
    says = {folder: "; output.log says more" if (folder / "output.log").exists() else "" for folder in folders}
    return [f"left out: {folder} was begun but has no metrics.csv, so no epoch{says[folder]}" for folder in folders]


def _is_run(folder: pathlib.Path) -> bool:
    """False where its config.json, a name that many programs use, is not a run's."""
    try:
        about = RunFolder(folder).read_config()
    except (ValueError, OSError):
        return True
    return about is None or "config" in about


def read(path: pathlib.Path, root: pathlib.Path) -> Run:
    """The run in `path`. ValueError if a file cannot be read, or says nothing of the validation ROC AUC."""
    folder = RunFolder(path)
    name = as_text(path.relative_to(root).as_posix())
    if not SEED.sub("", name).strip("."):
        name = f"{root.resolve().name}/{name}".removesuffix("/.")
    metrics, remarks = _metrics(folder)
    about = files.of_kinds(ABOUT, folder, CONFIG, remarks)
    settings = files.drop_odd(SETTINGS, flatten(about.get("config", {})), path / CONFIG, remarks)
    if not settings:
        remarks.append(f"{path}: no config in config.json; its model is known by the folder's name alone")
    in_name = SEED.search(name)
    seed = settings.get("seed", int(in_name[1]) if in_name else None)
    evaluation, predictions = evaluations.read(folder, about, metrics, remarks)
    goodput = _goodput(folder, remarks)
    run = Run(name, seed, about, settings, metrics, evaluation, predictions, goodput, tuple(remarks))
    return dataclasses.replace(run, remarks=(*remarks, *_shortcomings(run, path)))


def _shortcomings(run: Run, path: pathlib.Path) -> Iterator[str]:
    if not run.finished:
        done, planned = run.metrics["epoch"][-1], run.settings["num_epochs"]
        yield f"{path}: unfinished, {done:g} of {planned:g} epochs; it is in the curves and in nothing else"
    if np.isnan(run.last()):
        yield f"{path}: the last epoch has no validation ROC AUC; the run is in no mean of last epochs"


def _goodput(folder: RunFolder, remarks: list[str]) -> dict[str, Any]:
    """The content of goodput.json; {} where there is none, or it lacks one of SPENT."""
    content = files.of_kinds(SPENT, folder, GOODPUT, remarks)
    if not SPENT.keys() <= content.keys():
        return {}
    seconds, kinds = content["seconds"], dict.fromkeys(content["seconds"], numbers.Real)
    return content | {"seconds": files.drop_odd(kinds, seconds, folder.path / GOODPUT, remarks)}


def _metrics(folder: RunFolder) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns of metrics.csv, all of METRICS, and remarks about those that it lacks."""
    file, rows, remarks = folder.path / "metrics.csv", folder.read_metrics(), []
    if not rows:
        raise ValueError(f"{file}: no finished epoch")
    missing = [column for column in METRICS if column not in rows[0]]
    if needed := [column for column in REQUIRED if column in missing]:
        raise ValueError(f"{file} lacks the column {' and '.join(needed)}; it has {', '.join(map(str, rows[0]))}")
    if missing:
        remarks.append(f"{file} lacks the column {', '.join(missing)}; what needs it is empty")
    metrics = {column: files.numbers(rows, column, file) for column in METRICS}
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
    """The runs by model, in the order of their first, and remarks about mixed folders and repeated seeds."""
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
            remarks.append(f"{name}: runs of {len(parts)} configs, grouped apart; they differ in {differing}")
        groups += [Group(f"{name} #{k}" if len(parts) > 1 else name, part) for k, part in enumerate(parts, start=1)]
    return groups, remarks


def _one_per_seed(runs: Sequence[Run], remarks: list[str]) -> list[Run]:
    """Of runs that share a seed the longest, or that with most passes: repeats would pass for independent ones."""
    kept: dict[Any, Run] = {}
    for run in runs:
        key = run.name if run.seed is None else run.seed
        other = kept.get(key)
        if other is not None:
            longest = max(other, run, key=lambda r: (len(r.metrics["epoch"]), len(r.evaluation.get(BY_PASSES, ()))))
            remarks.append(f"{other.name} and {run.name} are of one config and seed; only {longest.name} counts")
            run = longest
        kept[key] = run
    return list(kept.values())


def _common_name(names: Sequence[str]) -> str:
    """What the folders' names have in common, without their seeds: folders at either end, else the first words."""
    bare = [SEED.sub("", name) for name in names]
    if len(set(bare)) > 1:
        parts = [name.split("/") for name in bare]
        start, end = _common_start(parts), _common_start([part[::-1] for part in parts])[::-1]
        if start or end:
            return "/".join([*start, *end])
    words = _common_start([re.split(r"([-_=./, ]+)", name) for name in bare])
    return "".join(words).rstrip("-_=./, ").lstrip("-=./, ") or "".join(_common_start(bare)) or names[0]


def _common_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    return [items[0] for items in itertools.takewhile(lambda items: len(set(items)) == 1, zip(*sequences))]


def _differences(runs: Sequence[Run]) -> list[str]:
    """The keys in which the configs differ, with their values; 'the data' where those are the same."""
    missing = "none"
    keys = sorted({key for run in runs for key in run.settings} - {"seed"})
    values = {key: [run.settings.get(key, missing) for run in runs] for key in keys if not key.startswith(FREE_KEYS)}
    return [
        f"{key} ({' / '.join(map(str, found))})" for key, found in values.items() if any(v != found[0] for v in found)
    ] or ["the data"]
