"""The evaluation of a run: what it measured, how the checkpoint was chosen, and what was predicted."""

import dataclasses
import numbers
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from stochconv_jax.reporting import damaged_files, image_names
from stochconv_jax.run_folder import RunFolder

FILE, PREDICTIONS = "evaluation.json", "predictions.csv"
BY_PASSES = "roc_auc_by_passes"
LAST, UNKNOWN = "last", "?"
# What is taken from evaluation.json, and of what kind it must be.
KINDS = {
    BY_PASSES: list,
    "checkpoint_step": numbers.Real,
    "checkpoint_asked_for": str,
    "checkpoint_chosen_on": str,
    "run_step": numbers.Real,
    "data": Mapping,
}


@dataclasses.dataclass(frozen=True)
class SavedPredictions:
    """predictions.csv of two classes, in the order of the images' names; all `[N]`, `groups` None where not known."""

    images: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    groups: tuple[str, ...] | None = None

    def same_images(self, other: "SavedPredictions") -> bool:
        """Whether both are of the same images with the same labels."""
        return self.images == other.images and np.array_equal(self.label, other.label)


def read(
    folder: RunFolder, about: Mapping[str, Any], metrics: Mapping[str, np.ndarray], remarks: list[str]
) -> tuple[dict[str, Any], SavedPredictions | None]:
    """evaluation.json and predictions.csv, {} and None where they cannot be used; `remarks` gets what is amiss.

    `about`: config.json; `metrics`: the columns of metrics.csv.
    """
    file, evaluation = folder.path / FILE, damaged_files.of_kinds(KINDS, folder, FILE, remarks)
    measured, validated = evaluation.get("data"), about.get("data", {}).get("validation")
    if measured != validated and None not in (measured, validated):
        remarks.append(f"{file} is of other images than the run validated on: neither it nor {PREDICTIONS} is used")
        return {}, None
    last, name = metrics["step"][-1], checkpoint(evaluation, metrics)
    if evaluation.get("run_step", last) < last:
        since = f"the run was at step {evaluation['run_step']:g} then and is at step {last:g} now"
        remarks.append(f"{file} is older than the run, {since}: it is of {name}; evaluate again")
    elif _choice_unknown(evaluation, metrics):
        why = "whether that was the best of these images, or the last one then, it does not say"
        remarks.append(f"{file} is of {name}, not of the last step, and {why}; evaluate again")
    return evaluation, _predictions(folder.path / PREDICTIONS, evaluation, remarks)


def _choice_unknown(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> bool:
    """Whether it is of an earlier version, which did not say what was asked for, and not of the last step."""
    return "checkpoint_asked_for" not in evaluation and evaluation.get("checkpoint_step", np.inf) < metrics["step"][-1]


def checkpoint(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> str:
    """Which one was measured: 'last', 'best (epoch 2, step 13)', 'epoch 2, step 13', or '?' if nothing says."""
    step, steps = evaluation.get("checkpoint_step"), metrics["step"]
    if step is None or np.isnan(steps[-1]):
        return UNKNOWN
    ended = metrics["epoch"][steps == step]
    where = f"epoch {ended[0]:g}, step {step:g}" if len(ended) else f"step {step:g}, inside an epoch"
    if evaluation.get("checkpoint_asked_for") == "best":
        return f"best ({where})"
    return LAST if step == steps[-1] else where


def flatters(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> bool:
    """Whether the checkpoint was chosen by these very images, or may have been, for nothing says how."""
    return _choice_unknown(evaluation, metrics) or evaluation.get("checkpoint_chosen_on") == "validation"


def _predictions(file: pathlib.Path, evaluation: Mapping[str, Any], remarks: list[str]) -> SavedPredictions | None:
    if not file.exists():
        return None
    crc = evaluation.get("predictions_crc32")
    if crc is not None and crc != zlib.crc32(file.read_bytes()):
        remarks.append(f"{file} is not used: it is not as the evaluation beside it has written it; evaluate again")
        return None
    columns = ("image", "target", "probability")
    try:
        rows = RunFolder(file.parent).read_table(file.name)
        if not rows or any(column not in rows[0] for column in columns):
            raise ValueError(f"{file}: it needs rows with the columns {', '.join(columns)} (of two classes)")
        images, rows = image_names.in_order(rows)
        label, probability = (damaged_files.numbers(rows, column, file) for column in columns[1:])
    except ValueError as error:
        remarks.append(f"not used: {error}")
        return None
    if not (np.isin(label, (0, 1)).all() and ((probability >= 0) & (probability <= 1)).all()):
        remarks.append(f"{file} is not used: targets should be 0 or 1 and probabilities within 0..1")
        return None
    # A table's own column of that name is not what data.group_by names.
    known = "roc_auc_interval_95_clustered" in evaluation and "group" in rows[0]
    groups = tuple(row["group"] or "" for row in rows) if known else None
    return SavedPredictions(images, label.astype(int), probability, groups)
