"""Where should the branches meet? Asked of drawn images and a tiny network of four stages, in minutes.

    python main.py --mode=sweep --config=configs/ablations/quick_integration.py --workdir=runs/quick_integration
    python main.py --mode=report --workdir=runs/quick_integration

The class lies in texture alone that the thumbnail is too small to show, so this is about finding it and says nothing of
real lesions. See integration.py for the question as the report asked it; its wide stem and its B4 are left out here.

Cost: 15 runs with their evaluations, 11 minutes on two cores of an Intel Xeon, compilation included. What they found is
in README.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """The quick full split."""
    return compared_with("thumbnail_only", quick_config())


def sweep():
    """One branch, the other, and both with three places to meet."""
    return {
        "thumbnail_only": {"model.branches": ("thumbnail",)},
        "stochastic_stem": {"model.merge_after": "0"},
        "stochastic_skip": {"model.merge_after": "2"},
        "full_split": {},
        "windows_only": {"model.branches": ("windows",)},
    }
