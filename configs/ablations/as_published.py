"""Is what the report's code computed as good as what the report describes?

The published code (2021) shares the weights of a stage's repeats, so that its B0, B4 and full split have 2.5, 8.0 and
5.0 million parameters instead of 4.0, 17.6 and 8.0, changes details of the blocks, and draws windows on the image's
diagonal for the whole batch. Its figures are of that code: mean over runs of each run's best epoch 0.9566, 0.9565 and
0.9586.

Cost: by the report's minutes an epoch on two RTX Titans (B0 1.5, full split 4, B4 4.67), 20 hours a seed.
"""

from configs import as_published_b0, as_published_b0_full_split, as_published_b4, b0, b0_full_split, b4
from configs.ablations import changes, compared_with

MODELS = {
    "b0": b0,
    "b0_as_published": as_published_b0,
    "b4": b4,
    "b4_as_published": as_published_b4,
    "full_split": b0_full_split,
    "full_split_as_published": as_published_b0_full_split,
}


def get_config():
    """Full split on B0."""
    return compared_with("full_split", b0_full_split.get_config())


def sweep():
    """Three models, each as described and as published."""
    return {name: changes(model.get_config(), get_config()) for name, model in MODELS.items()}
