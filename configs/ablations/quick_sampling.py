"""Who needs windows of its own? Asked of drawn images and a tiny network, in minutes.

Cost: 18 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; these were not run whole.

See sampling.py for the question on real images, and quick_integration.py for what drawn ones can tell.
"""

from configs.ablations import compared_with, quick_config
from configs.ablations.sampling import sweep

__all__ = ["get_config", "sweep"]


def get_config():
    """The quick full split."""
    return compared_with("per_image_independent", quick_config())
