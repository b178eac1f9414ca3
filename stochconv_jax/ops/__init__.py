"""Pure functions of arrays: random windows, and stochastic, window, depthwise and pointwise convolutions."""

from stochconv_jax.ops.depthwise_conv import depthwise_conv
from stochconv_jax.ops.pointwise_conv import pointwise_conv
from stochconv_jax.ops.stochastic_conv import stochastic_conv
from stochconv_jax.ops.window_conv import window_conv
from stochconv_jax.ops.windows import Axes, Sampling, sample_windows, window_size

__all__ = [
    "Axes",
    "Sampling",
    "depthwise_conv",
    "pointwise_conv",
    "sample_windows",
    "stochastic_conv",
    "window_conv",
    "window_size",
]
