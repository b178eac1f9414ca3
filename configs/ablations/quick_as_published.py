"""Is what the report's code computed as good as what it describes? Asked of drawn images and a tiny network.

Cost: 12 runs, 11 minutes on two cores of an Intel Xeon with other work beside them. The tiny network has one block a
stage and so no weights for a stage's repeats to share: what is compared are the details of the blocks, and windows on
the diagonal that the whole batch shares. See as_published.py for the question on real images, and quick_integration.py
for what drawn ones can tell.
"""

from configs.ablations import compared_with, quick_config

THUMBNAIL = {"model.branches": ("thumbnail",)}
CODE = {"model.conventions": "as_published"}
WINDOWS = {"model.sampling": "per_batch", "model.axes": "diagonal"}


def get_config():
    """The quick full split."""
    return compared_with("full_split", quick_config())


def sweep():
    """The thumbnail alone and the full split, each as described and as published."""
    return {
        "thumbnail_only": THUMBNAIL,
        "thumbnail_only_as_published": THUMBNAIL | CODE,
        "full_split": {},
        "full_split_as_published": CODE | WINDOWS,
    }
