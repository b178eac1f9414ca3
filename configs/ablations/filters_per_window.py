"""Should filters share windows? More filters a window can be combined by the layers above; fewer see more places.

1 filter a window is the report's method (2021). All filters in one window are a random crop followed by an ordinary
convolution. Between them, groups of filters read one place each. The report tried 1 only.

Cost: by the report's 4 minutes an epoch on two RTX Titans, 24 hours a seed.
"""

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("1", b0_full_split.get_config())


def sweep():
    """Returns the changes for 1 to all 32 filters a window."""
    return {str(number): {"model.filters_per_window": number} for number in (1, 2, 4, 8, 16, 32)}
