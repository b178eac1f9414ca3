"""After how many stages should the branches meet? Asked of drawn images and a tiny network of four stages, in minutes.

See merge_point.py for the question on real images, and quick_integration.py for what drawn ones can tell.
"""
from configs.ablations import quick_config as get_config

__all__ = ["get_config", "sweep"]


def sweep():
    """After the stem, after each stage, and at the head."""
    stages = {f"after_{stage}": {"model.merge_after": str(stage)} for stage in range(5)}
    return stages | {"head": {}}
