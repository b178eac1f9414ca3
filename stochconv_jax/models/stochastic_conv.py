"""The stochastic convolution as a Flax Linen layer (project report, 2021, section on stochastic convolutions)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stochconv_jax import ops

WINDOWS = "windows"  # what the layer sows


class StochasticConv(nn.Module):
    """A strided convolution in which every filter reads its own random window of a large image.

    Like `nn.Conv` without padding, but for `output_size`: the image may have any size that holds a window, and the
    output has always this one. Draws windows from the rng stream 'windows'. An example's windows depend on the stream's
    key and on the example's identity alone.

    Attributes:
      features: number of filters.
      output_size: (height, width) of the output.
      kernel_size: (height, width) of the filters.
      strides: (vertical, horizontal) step of the filters, in pixels.
      sampling: 'per_image' draws a window for every image and filter, 'per_batch' one a filter for the whole batch,
        'shared' one an image for all its filters.
      axes: 'independent' draws top and left apart, 'diagonal' once for both; see `ops.sample_windows`.
      use_bias: adds a bias to each filter's output.
      mean, std: a number a channel each. The filters see (pixels / 255 - mean) / std, exactly and without a copy of the
        image; without them, the pixels as they are.
      dtype: of the output; by default that of the parameters. Sums are in float32 at least.
      param_dtype: of the parameters.
      kernel_init: initialises the kernel, `[*kernel_size, C, features]`.
      bias_init: initialises the bias, `[features]`.
    """

    features: int
    output_size: tuple[int, int]
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (2, 2)
    sampling: ops.Sampling = "per_image"
    axes: ops.Axes = "independent"
    use_bias: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width) of a window, in pixels."""
        return ops.window_size(self.output_size, self.kernel_size, self.strides)

    @nn.compact
    def __call__(self, image: jax.Array, examples: jax.Array | None = None) -> jax.Array:
        """Convolves a random window of each image with each filter.

        Sows the windows, int32 `[B or 1, features or 1, 2]` of (top, left), into 'intermediates' where the caller asks
        for those.

        Args:
          image: uint8 or float `[B, H, W, C]`.
          examples: integers `[B]`, the identity of each image, so that an image keeps its windows in any batch; default
            0 .. B - 1.

        Returns:
          `[B, *output_size, features]` in `dtype`.

        Raises:
          ValueError: the image is smaller than a window, (output_size - 1) * strides + kernel_size.
        """
        kernel = self.param(
            "kernel", self.kernel_init, (*self.kernel_size, image.shape[-1], self.features), self.param_dtype
        )
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        out, windows = ops.stochastic_conv(
            self.make_rng("windows"),
            image,
            kernel,
            bias,
            output_size=self.output_size,
            strides=self.strides,
            sampling=self.sampling,
            axes=self.axes,
            examples=examples,
            mean=self.mean,
            std=self.std,
        )
        self.sow("intermediates", WINDOWS, windows)
        return out if self.dtype is None else out.astype(self.dtype)
