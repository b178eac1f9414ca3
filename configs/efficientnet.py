r"""Any plain EfficientNet at its own resolution and dropout.

    python main.py --config=configs/efficientnet.py:b5 --workdir=runs/b5 \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The networks are the official ones (Tan & Le, 2019). The training is that of the default config, not their recipe for
ImageNet, so published ImageNet results cannot be expected.
"""

from configs import default
from stochconv_jax.models import variants


def get_config(variant: str = "b0"):
    """Returns the default config with the thumbnail branch of `variant` only: a name in models/variants.py.

    Raises ValueError for an unknown variant.
    """
    network = variants.get(variant)
    config = default.get_config()
    config.model.variant = variant
    config.model.branches = ("thumbnail",)
    config.model.dropout = network.dropout
    config.data.thumbnail_size = (network.resolution, network.resolution)
    # The thumbnail is made from the image, so the image must not be smaller.
    side = max(1024, network.resolution)
    config.data.image_size = (side, side)
    return config
