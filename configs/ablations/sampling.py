"""Does it matter who gets windows of its own, and that a window may lie anywhere?

`per_image` is the method as intended, a window for each image and filter; `per_batch`, one a filter for the whole
batch, is what the report (2021) trained, of which it says that it "did not materially affect" quality; `shared`, one
window an image for all filters, is a random crop followed by an ordinary convolution: the control that it never ran.
Its published code drew one number for both axes (`diagonal`), so that no window left the image's diagonal.

Cost: by the report's 4 minutes an epoch on two RTX Titans, 24 hours a seed.
"""

import itertools

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Full split on B0."""
    return compared_with("per_image_independent", b0_full_split.get_config())


def sweep():
    """Every sampling with both kinds of axes."""
    every = itertools.product(("per_image", "per_batch", "shared"), ("independent", "diagonal"))
    return {f"{who}_{axes}": {"model.sampling": who, "model.axes": axes} for who, axes in every}
