"""Published results: figures of the project report (2021), from its results table and its per-epoch files."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Published:
    """The report's validation ROC AUC of a model, for which each run counts with its best epoch.

    `best` is that of the best of `runs` runs, and `mean` is the mean over the runs. If the report's table and its
    per-epoch files differ, `best` is the higher value.
    """

    runs: int
    best: float
    mean: float


# By variant, merge point ('' for a model with a thumbnail only) and number of passes in validation.
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

# Settings of all the report's models: figures of runs with other values cannot be compared with the report's.
COMMON_SETTINGS = {"num_epochs": 60, "data.num_classes": 2, "data.image_size": [1024, 1024], "init.weights": ""}
THUMBNAIL_SIDES = {"b0": 224, "b0_wide_stem": 224, "b4": 380}
BOTH_BRANCHES = (["thumbnail", "windows"], ["windows", "thumbnail"])


def lookup(settings: Mapping[str, Any]) -> Published | None:
    """Returns the report's figures for the model of a run's flattened `settings`, or None if the report has none.

    Both samplings of windows are accepted, `per_image` of the report's text and `per_batch` of its code, because the
    report calls them equally good.
    """
    variant, branches = str(settings.get("model.variant")), settings.get("model.branches")
    side = THUMBNAIL_SIDES.get(variant)
    expected = COMMON_SETTINGS | {"data.thumbnail_size": [side, side]}
    merge_after, passes = "", "1"
    if branches != ["thumbnail"]:
        shared = settings.get("model.sampling") == "shared" or settings.get("model.filters_per_window", 1) != 1
        if branches not in BOTH_BRANCHES or shared or settings.get("model.window_stem_filters"):
            return None
        merge_after, passes = (str(settings.get(key)) for key in ("model.merge_after", "eval.passes"))
    if settings.get("data.source") == "synthetic" or settings.get("init.run") or settings.get("data.metadata_columns"):
        return None
    if settings.get("model.normalization", "batch") != "batch":
        return None
    if any(settings.get(key) != value for key, value in expected.items()):
        return None
    return FIGURES.get((variant, merge_after, passes))
