"""Does the full split use more pixels, if it gets them? Asked of drawn images and a tiny network, in minutes.

The texture that tells the classes apart has a period of about four pixels at every size, and the lesion grows with the
image, so a larger image has more of the same to see while a window covers a smaller share of it. See resolution.py for
the question on real images, and quick_integration.py for what drawn ones can tell.

Cost: 9 runs, 11 minutes on two cores of an Intel Xeon with other work beside them.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """The quick full split."""
    return compared_with("320x320", quick_config())


def sweep():
    """Square images of 320 to 640 pixels a side; smaller ones would show the texture in the thumbnail."""
    return {f"{side}x{side}": {"data.image_size": (side, side)} for side in (320, 448, 640)}
