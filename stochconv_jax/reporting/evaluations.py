"""Reads the evaluation of a run: which checkpoint was evaluated, how it was chosen, and the predictions."""

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
# The entries of evaluation.json that the report uses, with their types.
TYPES = {
    BY_PASSES: list,
    "checkpoint_step": numbers.Real,
    "checkpoint_asked_for": str,
    "checkpoint_chosen_on": str,
    "run_step": numbers.Real,
    "data": Mapping,
    "at_thresholds": Mapping,
    "calibrated": Mapping,
}


@dataclasses.dataclass(frozen=True)
class SavedPredictions:
    """The predictions.csv of a two-class model, sorted by image name.

    All fields have one entry per image: `label` int, 0 or 1; `probability` float64, of class 1; `groups` is None if no
    groups are known.
    """

    images: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    groups: tuple[str, ...] | None = None

    def same_images(self, other: "SavedPredictions") -> bool:
        """Returns whether both have the same images with the same labels."""
        return self.images == other.images and np.array_equal(self.label, other.label)


def read(
    folder: RunFolder, about: Mapping[str, Any], metrics: Mapping[str, np.ndarray], remarks: list[str]
) -> tuple[dict[str, Any], SavedPredictions | None]:
    """Returns evaluation.json and the predictions of a run; {} and None if they are missing or cannot be used.

    `about` is the content of config.json and `metrics` has the columns of metrics.csv. Sentences about what cannot be
    used, or is out of date, are added to `remarks`.
    """
    file, evaluation = folder.path / FILE, damaged_files.read_json(TYPES, folder, FILE, remarks)
    evaluated, validated = evaluation.get("data"), about.get("data", {}).get("validation")
    if evaluated != validated and None not in (evaluated, validated):
        remarks.append(f"{file} is of other images than the run validated on: neither it nor {PREDICTIONS} is used")
        return {}, None
    last, name = metrics["step"][-1], checkpoint_name(evaluation, metrics)
    if evaluation.get("run_step", last) < last:
        since = f"the run was at step {evaluation['run_step']:g} then and is at step {last:g} now"
        remarks.append(f"{file} is older than the run, {since}: it is of {name}; evaluate again")
    elif _choice_is_unknown(evaluation, metrics):
        why = "it does not say whether that was the best on these images or the last one then"
        remarks.append(f"{file} is of {name}, not of the last step, and {why}; evaluate again")
    return evaluation, _predictions(folder.path / PREDICTIONS, evaluation, remarks)


def _choice_is_unknown(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the evaluation is of an earlier step and does not say how that was chosen.

    Earlier versions did not record this.
    """
    return "checkpoint_asked_for" not in evaluation and evaluation.get("checkpoint_step", np.inf) < metrics["step"][-1]


def checkpoint_name(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> str:
    """Returns the evaluated checkpoint as 'last', 'best (epoch 2, step 13)', 'epoch 2, step 13', or '?' if unknown."""
    step, steps = evaluation.get("checkpoint_step"), metrics["step"]
    if step is None or np.isnan(steps[-1]):
        return UNKNOWN
    ended = metrics["epoch"][steps == step]
    where = f"epoch {ended[0]:g}, step {step:g}" if len(ended) else f"step {step:g}, inside an epoch"
    if evaluation.get("checkpoint_asked_for") == "best":
        return f"best ({where})"
    return LAST if step == steps[-1] else where


def may_have_selection_bias(evaluation: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the checkpoint was chosen on the evaluated images, or may have been if nothing is recorded."""
    return _choice_is_unknown(evaluation, metrics) or evaluation.get("checkpoint_chosen_on") == "validation"


def _predictions(file: pathlib.Path, evaluation: Mapping[str, Any], remarks: list[str]) -> SavedPredictions | None:
    if not file.exists():
        return None
    crc = evaluation.get("predictions_crc32")
    if crc is not None and crc != zlib.crc32(file.read_bytes()):
        remarks.append(f"{file} is not used: it was changed after the evaluation beside it; evaluate again")
        return None
    columns = ("image", "target", "probability")
    try:
        rows = RunFolder(file.parent).read_table(file.name)
        if not rows or any(column not in rows[0] for column in columns):
            raise ValueError(f"{file}: expected rows with the columns {', '.join(columns)} (of two classes)")
        images, rows = image_names.sort_by_image(rows)
        label, probability = (damaged_files.numbers(rows, column, file) for column in columns[1:])
    except ValueError as error:
        remarks.append(f"not used: {error}")
        return None
    if not (np.isin(label, (0, 1)).all() and ((probability >= 0) & (probability <= 1)).all()):
        remarks.append(f"{file} is not used: targets should be 0 or 1 and probabilities within 0..1")
        return None
    # Without the clustered interval a column `group` is a column of the label file, not that of data.group_by.
    known = "roc_auc_interval_95_clustered" in evaluation and "group" in rows[0]
    groups = tuple(row["group"] or "" for row in rows) if known else None
    return SavedPredictions(images, label.astype(int), probability, groups)
