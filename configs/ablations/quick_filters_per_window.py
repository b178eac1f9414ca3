"""Should filters share windows? With drawn images and a tiny network, in minutes.

Cost: 12 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; this sweep was not run
completely.

See filters_per_window.py for the question on real images, and quick_integration.py for the limits of drawn images: the
classes differ in texture, which a single filter tells apart, so that nothing needs to be combined.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("1", quick_config())


def sweep():
    """Returns the changes for 1 to all 8 filters a window."""
    return {str(number): {"model.filters_per_window": number} for number in (1, 2, 4, 8)}
