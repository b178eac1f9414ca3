"""How much do runs vary that differ by their seed only, and how many runs does a comparison need?

The report (2021) made 14 runs of B0 and 8 of the full split, and its figures are those of the best run, although the
best of 14 runs is more biased than the best of 8. The means over runs differ by 0.002.

Cost: by the report's minutes an epoch on two RTX Titans (B0 1.5, full split 4), 5.5 hours a seed, 55 in all.
"""

from configs import b0, b0_full_split
from configs.ablations import changes, compared_with


def get_config():
    """Returns the config of the full split on B0 with ten seeds."""
    config = b0_full_split.get_config()
    config.sweep.seeds = tuple(range(10))
    return compared_with("thumbnail_only", config)


def sweep():
    """Returns the changes for the report's baseline and for its best model."""
    return {"thumbnail_only": changes(b0.get_config(), get_config()), "full_split": {}}
