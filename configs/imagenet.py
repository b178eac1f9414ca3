r"""Full split of any EfficientNet, from ImageNet weights: a start for images of your own.

    python main.py --config=configs/imagenet.py:b0 --workdir=runs/mine --config.data.path=IMAGES

`init.weights=auto` is timm/tf_efficientnet_b0.ns_jft_in1k for b0, and so on up to b7, and
timm/tf_efficientnet_lite0.in1k for lite0, and so on up to lite4. They need the extra `hub`, and a network or a filled
cache; see docs/weights.md for both and for other weights. The training is that of the default config.
"""

from configs import default
from stochconv_jax.models import variants


def get_config(variant: str = "b0"):
    """Returns the default config with both branches of `variant`, at its own resolution and dropout.

    `variant` is b0 to b7 or lite0 to lite4. Raises ValueError for an unknown variant.
    """
    network = variants.get(variant)
    config = default.get_config()
    config.init.weights = "auto"
    config.model.variant = variant
    config.model.dropout = network.dropout
    config.data.thumbnail_size = (network.resolution, network.resolution)
    return config
