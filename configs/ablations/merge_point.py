"""After how many stages should the branches meet?

The report (2021) tried three of nine places: mean over runs of each run's best epoch 0.9555 after the stem, 0.9561
after stage 3 and 0.9586 at the head, with different numbers of runs. Whether it grows with depth in between is open.

Cost: by the report's minutes an epoch on two RTX Titans (2 at the stem, 2.5 after stage 3, 4 at the head) and a
straight line between them, 26 hours a seed.
"""

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Full split on B0."""
    return compared_with("head", b0_full_split.get_config())


def sweep():
    """After the stem, after each stage, and at the head."""
    stages = {f"after_{stage}": {"model.merge_after": str(stage)} for stage in range(8)}
    return stages | {"head": {"model.merge_after": "head"}}
