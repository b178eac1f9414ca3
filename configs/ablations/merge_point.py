"""After which stage should the branches be merged?

The report (2021) tried three of nine points: mean over runs of each run's best epoch 0.9555 after the stem, 0.9561
after stage 3 and 0.9586 at the head, with different numbers of runs. It is not known whether it grows steadily in
between.

Cost: by the report's minutes an epoch on two RTX Titans (2 at the stem, 2.5 after stage 3, 4 at the head), interpolated
linearly, 26 hours a seed.
"""

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("head", b0_full_split.get_config())


def sweep():
    """Returns the changes for a merge after the stem, after each stage, and at the head."""
    stages = {f"after_{stage}": {"model.merge_after": str(stage)} for stage in range(8)}
    return stages | {"head": {"model.merge_after": "head"}}
