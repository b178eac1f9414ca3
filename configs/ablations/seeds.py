"""How far apart do runs lie that differ in their seed alone, and so how many does a comparison need?

The report (2021) made 14 runs of B0 and 8 of the full split; its figures are the best of them, and the best of 14
flatters more than the best of 8. The means over runs differ by 0.002.

Cost: by the report's minutes an epoch on two RTX Titans (B0 1.5, full split 4), 5.5 hours a seed, 55 in all.
"""

from configs import b0, b0_full_split
from configs.ablations import changes, compared_with


def get_config():
    """Full split on B0, ten seeds."""
    config = b0_full_split.get_config()
    config.sweep.seeds = tuple(range(10))
    return compared_with("thumbnail_only", config)


def sweep():
    """The report's first and best model."""
    return {"thumbnail_only": changes(b0.get_config(), get_config()), "full_split": {}}
