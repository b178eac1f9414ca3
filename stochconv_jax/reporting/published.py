"""Figures of the project report (2021): its results table and published per-epoch files."""
import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Published:
    """Validation ROC AUC, the highest of all epochs: of the best of `runs`, and their mean."""

    runs: int
    best: float
    mean: float


# By variant, branches and where they meet.
FIGURES = {
    ("b0", ("thumbnail",), ""): Published(14, 0.9584, 0.9566),
    ("b0_wide_stem", ("thumbnail",), ""): Published(5, 0.9589, 0.9576),
    ("b4", ("thumbnail",), ""): Published(5, 0.9588, 0.9565),
    ("b0", ("thumbnail", "windows"), "0"): Published(6, 0.9592, 0.9555),
    ("b4", ("thumbnail", "windows"), "0"): Published(5, 0.9554, 0.9543),
    ("b0", ("thumbnail", "windows"), "3"): Published(5, 0.9571, 0.9561),
    ("b0", ("thumbnail", "windows"), "head"): Published(8, 0.9594, 0.9586),
}


def figure(settings: Mapping[str, Any]) -> Published | None:
    """What the report gives for the model of these flattened settings of a run, or None."""
    branches = tuple(sorted(settings.get("model.branches", ())))
    merge_after = str(settings.get("model.merge_after")) if len(branches) > 1 else ""
    return FIGURES.get((settings.get("model.variant"), branches, merge_after))
