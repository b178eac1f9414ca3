"""Which normalisation makes the figures of a run steady, where few images give few steps?

The running statistics of batch norm lag behind the weights. An average of the weights moves slowly; statistics that are
computed anew belong to the weights that are evaluated; group norm has no statistics. The report (2021) has none of
these: its 47,557 images gave many steps.

Cost: by the report's 4 minutes an epoch on two RTX Titans, 20 hours a seed for as many images.
"""

from typing import Any

from configs import b0_full_split
from configs.ablations import compared_with


def get_config():
    """Returns the config of the full split on B0."""
    return compared_with("running", b0_full_split.get_config())


def sweep():
    """Returns the changes for each normalisation, with 1,000 images and an average over about 1,000 steps."""
    return variants(images=1000, decay=0.999)


def variants(*, images: int, decay: float) -> dict[str, dict[str, Any]]:
    """Returns the changes for each normalisation.

    `images`: from which statistics are computed anew. `decay`: of the average of the weights, per step.
    """
    average, anew = {"optimizer.ema_decay": decay}, {"model.batch_norm_images": images}
    return {
        "running": {},
        "average": average,
        "anew": anew,
        "average_anew": average | anew,
        "group": {"model.normalization": "group"},
    }
