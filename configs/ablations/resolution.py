"""Does the full split benefit from larger images?

The network, its thumbnail and its cost after the stem stay the same. A window always has 225x225 pixels, so it covers a
smaller share of a larger image. The report (2021) trained at 1024x1024 only.

Images of at least 2048x2048 pixels are needed, of which ISIC has fewer: prepare them with --config.prepare.size=2048.
Each run shrinks the same images to its own size, so all runs are compared on the same images.

Cost: by the report's 4 minutes an epoch on two RTX Titans at 1024x1024, 20 hours a seed if reading images is not the
limit; decoding and warping take time in proportion to the pixels.
"""

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("1024x1024", b0_full_split.get_config())


def sweep():
    """Returns the changes for square images of 512 to 2048 pixels."""
    return {f"{side}x{side}": {"data.image_size": (side, side)} for side in (512, 768, 1024, 1536, 2048)}
