"""The stochastic convolution as a Flax Linen layer."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, UInt8

from stochconv_jax import ops

WINDOWS = "windows"  # the name under which the layer sows its windows


class StochasticConv(nn.Module):
    """A strided convolution in which every filter reads its own random window of a large image.

    Each filter's output equals the VALID convolution of the filter with a random crop of the image, up to rounding. The
    layer is used like `nn.Conv(padding='VALID')`, but its output always has `output_size`: the image may have any size
    that contains a window, of (output_size - 1) * strides + kernel_size pixels.

    Windows are drawn from the rng stream 'windows', in every call and also in evaluation. The windows of an image are a
    function of the stream's key and the image's identity alone.

    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Attributes:
      features: number of filters.
      output_size: (height, width) of the output; by keyword only.
      kernel_size: (height, width) of the filters, in pixels.
      strides: (vertical, horizontal) strides of the filters, in pixels.
      sampling: 'per_image' draws one window per image and filter, 'per_batch' one per filter for the whole batch,
        'shared' one per image for all filters.
      filters_per_window: number of consecutive filters that share a window. More filters a window see one place
        together, and fewer places are seen.
      axes: 'independent' draws top and left independently, 'diagonal' draws one number for both; see
        `ops.sample_windows`.
      use_bias: whether to add a bias to each filter's output.
      mean: one number per channel. If `mean` and `std` are given, the filters see (pixels / 255 - mean) / std, exactly
        and without a normalised copy of the image, so that pixels must be 0..255 also as floats; otherwise they see
        the pixels as they are.
      std: one number per channel; given if and only if `mean` is.
      dtype: dtype of the output; by default that of the parameters. Sums are in float32 at least.
      param_dtype: dtype of the parameters.
      kernel_init: initializer of the kernel, [*kernel_size, C, features].
      bias_init: initializer of the bias, [features].
    """

    features: int
    output_size: tuple[int, int] = dataclasses.field(kw_only=True)  # where nn.Conv has kernel_size
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (2, 2)
    sampling: ops.Sampling = "per_image"
    filters_per_window: int = 1
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
        height, width = ops.window_size(self.output_size, self.kernel_size, self.strides)
        return height, width

    @nn.compact
    def __call__(
        self,
        image: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
        examples: Integer[Array, " batch"] | None = None,
    ) -> Float[Array, "batch {self.output_size[0]} {self.output_size[1]} {self.features}"]:
        """Convolves each filter with a random window of each image.

        Sows the windows, int32 (top, left) in pixels, [B or 1, features or 1, 2], into the collection 'intermediates'
        if the caller makes it mutable.

        Args:
          image: uint8 or float [B, H, W, C].
          examples: integers [B], the identity of each image, so that an image keeps its windows in any batch; by
            default the row numbers 0, ..., B - 1.

        Returns:
          float [B, *output_size, features] of `dtype`.

        Raises:
          ValueError: the image is smaller than a window, or only one of `mean` and `std` is given.
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
            filters_per_window=self.filters_per_window,
            axes=self.axes,
            examples=examples,
            mean=self.mean,
            std=self.std,
        )
        self.sow("intermediates", WINDOWS, windows)
        return out if self.dtype is None else out.astype(self.dtype)
