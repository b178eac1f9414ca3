"""Pure functions of arrays: windows, window convolution, depthwise convolution."""
from stochconv_jax.ops.depthwise_conv import depthwise_conv
from stochconv_jax.ops.window_conv import window_conv
from stochconv_jax.ops.windows import sample_windows, window_size

__all__ = ["depthwise_conv", "sample_windows", "window_conv", "window_size"]
