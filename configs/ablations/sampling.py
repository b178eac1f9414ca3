"""Does the sampling of windows matter, and does it matter that a window may lie anywhere?

`per_image`, a window for each filter in each image, is the method as intended. `per_batch`, a window for each filter in
all images of a batch, is the sampling that the report (2021) trained with; it says that this "did not materially
affect" quality. `shared`, a window for each image and all filters, is a random crop followed by an ordinary
convolution: a control that the report did not run. The report's code drew one number for both axes (`diagonal`), so
that all windows lay on the image's diagonal.

Cost: by the report's 4 minutes an epoch on two RTX Titans, 24 hours a seed.
"""

import itertools

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("per_image_independent", b0_full_split.get_config())


def sweep():
    """Returns the changes for each sampling with both values of axes."""
    every = itertools.product(("per_image", "per_batch", "shared"), ("independent", "diagonal"))
    return {f"{who}_{axes}": {"model.sampling": who, "model.axes": axes} for who, axes in every}
