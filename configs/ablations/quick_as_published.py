"""Are models of the report's code as good as models that the report describes? With drawn images and a tiny network.

The tiny network has one block in each stage, so there are no repeats that could share weights. The comparison is of the
details of the blocks, and of windows that lie on the diagonal and are the same for a whole batch. See as_published.py
for the question on real images, and quick_integration.py for the limits of drawn images.

Cost: 12 runs, 11 minutes on two cores of an Intel Xeon that were not idle otherwise.
"""

from configs.ablations import compared_with, quick_config

THUMBNAIL = {"model.branches": ("thumbnail",)}
CODE = {"model.conventions": "as_published"}
WINDOWS = {"model.sampling": "per_batch", "model.axes": "diagonal"}


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("full_split", quick_config())


def sweep():
    """Returns the changes for the thumbnail only and for the full split, each as described and as published."""
    return {
        "thumbnail_only": THUMBNAIL,
        "thumbnail_only_as_published": THUMBNAIL | CODE,
        "full_split": {},
        "full_split_as_published": CODE | WINDOWS,
    }
