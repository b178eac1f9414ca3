"""Figures of the project report (2021): its results table and published per-epoch files."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Published:
    """Validation ROC AUC, the highest of all epochs: of the best of `runs`, and their mean.

    Where its table and its per-epoch files differ about the best, the higher.
    """

    runs: int
    best: float
    mean: float


# By variant, where the branches meet, '' of the thumbnail alone, and passes of validation.
FIGURES = {
    ("b0", "", "1"): Published(14, 0.9584, 0.9566),
    ("b0_wide_stem", "", "1"): Published(5, 0.9589, 0.9576),
    ("b4", "", "1"): Published(5, 0.9588, 0.9565),
    ("b0", "0", "1"): Published(6, 0.9592, 0.9555),
    ("b4", "0", "1"): Published(5, 0.9554, 0.9543),
    ("b0", "3", "1"): Published(5, 0.9571, 0.9561),
    ("b0", "head", "1"): Published(8, 0.9594, 0.9586),
    ("b0", "head", "3"): Published(3, 0.9605, 0.9586),
}

# What all its models have in common, of what makes figures incomparable.
TRAINED = {"num_epochs": 60, "data.num_classes": 2, "data.image_size": [1024, 1024], "init.weights": ""}
THUMBNAIL_SIDES = {"b0": 224, "b0_wide_stem": 224, "b4": 380}
BOTH_BRANCHES = (["thumbnail", "windows"], ["windows", "thumbnail"])


def figure(settings: Mapping[str, Any]) -> Published | None:
    """What the report gives for the model of these flattened settings of a run; None for what it did not train.

    Its windows are those of its text (`per_image`) or its code (`per_batch`), which it calls equally good.
    """
    variant, branches = str(settings.get("model.variant")), settings.get("model.branches")
    side = THUMBNAIL_SIDES.get(variant)
    expected = TRAINED | {"data.thumbnail_size": [side, side]}
    meets, passes = "", "1"
    if branches != ["thumbnail"]:
        if branches not in BOTH_BRANCHES or settings.get("model.sampling") == "shared":
            return None
        meets, passes = (str(settings.get(key)) for key in ("model.merge_after", "eval.passes"))
    if settings.get("data.source") == "synthetic" or any(settings.get(k) != v for k, v in expected.items()):
        return None
    return FIGURES.get((variant, meets, passes))
