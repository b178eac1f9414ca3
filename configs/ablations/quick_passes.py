"""How much does averaging over draws of windows help? With drawn images and a tiny network, in minutes.

Cost: 9 runs like the 15 of quick_integration.py, which take 11 minutes on two cores, and evaluations with 16 draws.

See passes.py for the question on real images, and quick_integration.py for the limits of drawn images.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split, evaluated with 16 draws."""
    config = quick_config()
    config.sweep.passes = 16
    return compared_with("full_split", config)


def sweep():
    """Returns the changes for windows only, and for windows with a thumbnail at two merge points."""
    return {
        "stochastic_stem": {"model.merge_after": "0"},
        "full_split": {},
        "windows_only": {"model.branches": ("windows",)},
    }
