"""Pure functions of arrays: windows, window, depthwise and pointwise convolution."""
from stochconv_jax.ops.depthwise_conv import depthwise_conv
from stochconv_jax.ops.pointwise_conv import pointwise_conv
from stochconv_jax.ops.window_conv import window_conv
from stochconv_jax.ops.windows import sample_windows, window_size

__all__ = ["depthwise_conv", "pointwise_conv", "sample_windows", "window_conv", "window_size"]
