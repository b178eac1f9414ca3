"""Are the models of the report's code as good as the models that the report describes?

The published code (2021) shares the weights of a stage's repeats, so that its B0, B4 and full split have 2.5, 8.0 and
5.0 million parameters instead of 4.0, 17.6 and 8.0, changes details of the blocks, and draws windows on the image's
diagonal, the same ones for a whole batch. The report's figures are those of its code: mean over runs of each run's best
epoch 0.9566, 0.9565 and 0.9586.

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
    """Returns the config of the full split on B0."""
    return compared_with("full_split", b0_full_split.get_config())


def sweep():
    """Returns the changes for three models, each as described and as published."""
    return {name: changes(model.get_config(), get_config()) for name, model in MODELS.items()}
