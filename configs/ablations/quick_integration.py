"""Compares the places to merge the branches in minutes, on drawn images with a tiny network of four stages.

    python main.py --mode=sweep --config=configs/ablations/quick_integration.py --workdir=runs/quick_integration
    python main.py --mode=report --workdir=runs/quick_integration

The classes of drawn images differ only in a texture that the thumbnail is too small to show, so the results say how
well a network finds the texture, and nothing about real lesions. See integration.py for the question on real images;
the wide stem and B4 are left out here.

Cost: 15 runs with their evaluations, 11 minutes on two cores of an Intel Xeon, compilation included. The results are in
docs/ablations.md.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("thumbnail_only", quick_config())


def sweep():
    """Returns the changes for each branch alone, and for both with three merge points."""
    return {
        "thumbnail_only": {"model.branches": ("thumbnail",)},
        "stochastic_stem": {"model.merge_after": "0"},
        "stochastic_skip": {"model.merge_after": "2"},
        "full_split": {},
        "windows_only": {"model.branches": ("windows",)},
    }
