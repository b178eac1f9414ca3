"""Compares the places to merge the two branches, and a larger image with a larger network.

The report (2021) tried the stem, stage 3 and the head on B0, and the stem on B4. The full split was best: mean over
runs of each run's best epoch 0.9586, against 0.9566 for B0, 0.9576 for B0 with a wide stem, 0.9565 for B4, 0.9555 for
the stochastic stem (0.9543 on B4) and 0.9561 for the stochastic skip. The report has no figure for windows only.

Cost: by the report's minutes an epoch on two RTX Titans (B0 1.5, stem 2, skip 2.5, full split 4, B4 4.67) and, where it
gives none, those of a neighbour (wide stem 1.5, windows 2, B4 with a stochastic stem 5), 23 hours a seed.
"""

from configs import (
    b0,
    b0_full_split,
    b0_pure_stochastic,
    b0_stochastic_skip,
    b0_stochastic_stem,
    b0_wide_stem,
    b4,
    b4_stochastic_stem,
)
from configs.ablations import changes, compared_with

MODELS = {
    "thumbnail_only": b0,
    "wide_stem": b0_wide_stem,
    "stochastic_stem": b0_stochastic_stem,
    "stochastic_skip": b0_stochastic_skip,
    "full_split": b0_full_split,
    "windows_only": b0_pure_stochastic,
    "b4": b4,
    "b4_stochastic_stem": b4_stochastic_stem,
}


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("thumbnail_only", b0_full_split.get_config())


def sweep():
    """Returns the changes for each of the report's models."""
    return {name: changes(model.get_config(), get_config()) for name, model in MODELS.items()}
