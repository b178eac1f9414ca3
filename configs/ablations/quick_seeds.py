"""How much do runs vary that differ by their seed only? With drawn images and a tiny network, in minutes.

Cost: 16 runs, 9 minutes on two cores of an Intel Xeon.

See seeds.py for the question on real images, and quick_integration.py for the limits of drawn images.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split with eight seeds."""
    config = quick_config()
    config.sweep.seeds = tuple(range(8))
    return compared_with("thumbnail_only", config)


def sweep():
    """Returns the changes for the thumbnail only and for the full split."""
    return {"thumbnail_only": {"model.branches": ("thumbnail",)}, "full_split": {}}
