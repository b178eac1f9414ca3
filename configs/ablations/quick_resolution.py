"""Does the full split benefit from larger images? With drawn images and a tiny network, in minutes.

The texture in which the classes differ has a period of about four pixels at every image size, and the lesion grows with
the image. So a larger image shows more of the same texture, while a window covers a smaller share of it. See
resolution.py for the question on real images, and quick_integration.py for the limits of drawn images.

Cost: 9 runs, 11 minutes on two cores of an Intel Xeon that were not idle otherwise.
"""

from configs.ablations import compared_with, quick_config


def get_config():
    """Returns the config of the quick full split."""
    return compared_with("320x320", quick_config())


def sweep():
    """Returns the changes for square images of 320 to 640 pixels; thumbnails of smaller ones would show the texture."""
    return {f"{side}x{side}": {"data.image_size": (side, side)} for side in (320, 448, 640)}
