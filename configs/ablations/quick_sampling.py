"""Does the sampling of windows matter? With drawn images and a tiny network, in minutes.

Cost: 18 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; this sweep was not run
completely.

See sampling.py for the question on real images, and quick_integration.py for the limits of drawn images.
"""

from configs.ablations import compared_with, quick_config
from configs.ablations.sampling import sweep

__all__ = ["get_config", "sweep"]


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("per_image_independent", quick_config())
