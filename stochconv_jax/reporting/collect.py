"""Finds and reads the runs below a folder and groups them into models.

A run is any folder with a metrics.csv that has the columns of `REQUIRED`. config.json, evaluation.json,
predictions.csv and goodput.json are read if they exist.
"""

import dataclasses
import numbers
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax.config import flatten
from stochconv_jax.csv_cells import escape_surrogates
from stochconv_jax.reporting import damaged_files, evaluations
from stochconv_jax.reporting.models import SEED, Group, Run, group, without_replicate
from stochconv_jax.run_folder import METRICS, RunFolder

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


def collect(root: pathlib.Path, folders: Sequence[pathlib.Path] = ()) -> tuple[list[Group], list[str]]:
    """Returns the models of all runs in and below `root`, and sentences about runs and values that are not used.

    With `folders`, which lie in `root`, only the runs in and below these count. Raises ValueError, with the reasons, if
    no run can be used in one of them.
    """
    runs, remarks = {}, []
    for folder in folders or [root]:
        found, reasons = _read_below(folder, root)
        if not found:
            lines = "".join(f"\n  {reason}" for reason in reasons)
            what = "no metrics.csv that can be used"
            raise ValueError(f"no run with a finished epoch in or below {folder}: {what}{lines}")
        runs |= found
        remarks += reasons
    groups, more = group(runs.values())
    return groups, remarks + more


def _read_below(folder: pathlib.Path, root: pathlib.Path) -> tuple[dict[pathlib.Path, Run], list[str]]:
    """Returns the runs in and below a folder, named relative to `root`, and sentences about what is not used."""
    runs, remarks = {}, _without_an_epoch(folder)
    for file in sorted(folder.rglob("metrics.csv")):
        try:
            run = read(file.parent, root)
        except (ValueError, OSError) as error:
            remarks.append(f"left out: {error}")
        else:
            runs[file.parent] = run
            remarks += run.remarks
    return runs, remarks


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
    metrics, remarks = _metrics(folder)
    about = damaged_files.read_json(TYPES, folder, CONFIG, remarks)
    settings = damaged_files.drop_wrong_types(SETTING_TYPES, flatten(about.get("config", {})), path / CONFIG, remarks)
    if not settings:
        remarks.append(f"{path}: no config in config.json; its model is identified by the folder's name only")
    name = escape_surrogates(path.relative_to(root).as_posix())
    if not without_replicate(name, settings).strip("."):
        name = f"{root.resolve().name}/{name}".removesuffix("/.")
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
