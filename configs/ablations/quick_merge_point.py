"""After how many stages should the branches meet? Asked of drawn images and a tiny network of four stages, in minutes.

Cost: 18 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; these were not run whole.

See merge_point.py for the question on real images, and quick_integration.py for what drawn ones can tell.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """The quick full split."""
    return compared_with("head", quick_config())


def sweep():
    """After the stem, after each stage, and at the head."""
    stages = {f"after_{stage}": {"model.merge_after": str(stage)} for stage in range(5)}
    return stages | {"head": {}}
