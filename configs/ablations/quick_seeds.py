"""How far apart do runs lie that differ in their seed alone? Asked of drawn images and a tiny network, in minutes.

Cost: 16 runs, 9 minutes on two cores of an Intel Xeon.

See seeds.py for the question on real images, and quick_integration.py for what drawn ones can tell.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """The quick full split, eight seeds."""
    config = quick_config()
    config.sweep.seeds = tuple(range(8))
    return compared_with("thumbnail_only", config)


def sweep():
    """The thumbnail alone, and the full split."""
    return {"thumbnail_only": {"model.branches": ("thumbnail",)}, "full_split": {}}
