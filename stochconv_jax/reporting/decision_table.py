"""Tabulates the decisions that runs made on their validation images, from their evaluation.json."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax.reporting.models import Group
from stochconv_jax.reporting.page import Table

NONE = "–"
ABOUT = (
    "Decisions on the validation images, means over the runs that were evaluated. With two classes they are at the "
    "threshold with the highest sum of sensitivity and specificity (Youden), with more they are for the most probable "
    "class. Thresholds and temperature are cross-fitted: each image is decided by numbers that were fitted to others. "
    "Figures of a checkpoint that was chosen on these images, as the best is, are too good all the same. Calibration "
    "error: in ten bins, before and after division of the logits by the fitted temperature."
)
FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def table(groups: Sequence[Group]) -> Table | None:
    """Returns a table with a row for each model that has a run with decisions; None if there is none."""
    columns = ["model", "runs", *FIGURES.values(), "calibration error", "at the temperature"]
    rows = []
    for group in groups:
        if found := [run.evaluation for run in group.finished if run.evaluation.get("calibrated")]:
            figures = [_at_threshold(evaluation) for evaluation in found]
            means = [_mean([one.get(name) for one in figures]) for name in FIGURES]
            errors = [[one, one["calibrated"]] for one in found]
            means += [_mean([one.get("calibration_error") for one in each]) for each in zip(*errors)]
            rows.append([group.name, str(len(found)), *means])
    return Table(columns, rows) if rows else None


def _at_threshold(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the figures at Youden's threshold, or, if there is none, those of the most probable class."""
    found = evaluation.get("at_thresholds", {}).get("youden")
    return found if isinstance(found, Mapping) else evaluation


def _mean(values: Sequence[Any]) -> str:
    known = [float(value) for value in values if isinstance(value, numbers.Real) and not math.isnan(value)]
    return f"{np.mean(known):.4f}" if known else NONE
