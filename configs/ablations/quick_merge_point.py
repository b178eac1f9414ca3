"""After which stage should the branches be merged? With drawn images and a tiny network of four stages, in minutes.

Cost: 18 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; this sweep was not run
completely.

See merge_point.py for the question on real images, and quick_integration.py for the limits of drawn images.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("head", quick_config())


def sweep():
    """Returns the changes for a merge after the stem, after each stage, and at the head."""
    stages = {f"after_{stage}": {"model.merge_after": str(stage)} for stage in range(5)}
    return stages | {"head": {}}
