"""Does the full split use more pixels, if it gets them?

The network, its thumbnail and its cost after the stem stay the same; a window always has 225x225 pixels, and of a
larger image it covers less. The report (2021) trained at 1024x1024 alone.

Needs a folder of images of at least 2048x2048, which ISIC has less of: prepare it with --config.prepare.size=2048. Each
run shrinks the same images to its own size, so that all are compared on the same ones.

Cost: by the report's 4 minutes an epoch on two RTX Titans at 1024x1024, 20 hours a seed if reading the images is no
limit; decoding and warping take longer in proportion to their pixels.
"""

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Full split on B0."""
    return compared_with("1024x1024", b0_full_split.get_config())


def sweep():
    """Square images of 512 to 2048 pixels a side."""
    return {f"{side}x{side}": {"data.image_size": (side, side)} for side in (512, 768, 1024, 1536, 2048)}
