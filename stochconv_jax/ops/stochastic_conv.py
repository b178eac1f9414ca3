"""The stochastic convolution as one pure function: draws windows, then convolves each filter over its own windows."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Integer, PRNGKeyArray, UInt8

from stochconv_jax.ops.window_conv import window_conv
from stochconv_jax.ops.windows import Axes, Sampling, Size, sample_windows, window_size


def stochastic_conv(
    key: PRNGKeyArray,
    image: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    bias: Float[Array, " features"] | None = None,
    *,
    output_size: Size,
    strides: Size = (2, 2),
    sampling: Sampling = "per_image",
    filters_per_window: int = 1,
    axes: Axes = "independent",
    examples: Integer[Array, " batch"] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[Float[Array, "batch output_height output_width features"], Int32[Array, "#batch #features 2"]]:
    """Convolves each filter with a random window of each image.

    `output[b, :, :, f]` equals the VALID strided convolution of `kernel[..., f]` with a random crop of `image[b]`, up
    to rounding. With `mean` and `std`, the crop is normalised first. The normalisation is folded into the kernel and
    one constant per filter, which is exact because nothing is padded, so that no normalised copy of the image exists.

    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Args:
      key: a JAX random key, from which the windows are drawn.
      image: uint8 or float [B, H, W, C].
      kernel: float [kh, kw, C, F].
      bias: float [F], added to the output of each filter; None for no bias.
      output_size: (height, width) of the output.
      strides: (vertical, horizontal) strides, in pixels.
      sampling: which images and filters share a window, see `sample_windows`.
      filters_per_window: number of consecutive filters that share a window, see `sample_windows`.
      axes: how a window's position is drawn, see `sample_windows`.
      examples: integers [B], the identity of each image, see `sample_windows`; by default 0, ..., B - 1.
      mean, std: C numbers each. If given, the filters see (image / 255 - mean) / std; otherwise they see the image.

    Returns:
      The output, float [B, *output_size, F] of the kernel's dtype, and the windows, int32 (top, left) in pixels,
      [B or 1, F or 1, 2].

    Raises:
      ValueError: the image is smaller than a window, shapes or dtypes disagree, `filters_per_window` does not divide F,
        or only one of `mean` and `std` is given.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std must be given together or not at all")
    size = window_size(output_size, kernel.shape[:2], strides)
    windows = sample_windows(
        key,
        image_size=image.shape[1:3],
        window_size=size,
        batch=image.shape[0],
        features=kernel.shape[3],
        sampling=sampling,
        filters_per_window=filters_per_window,
        axes=axes,
        examples=examples,
    )
    if mean is None or std is None:
        out = window_conv(image, windows, kernel, strides=strides, window_size=size)
    else:
        scaled, offset = _fold_normalisation(kernel, mean, std)
        out = window_conv(image, windows, scaled, strides=strides, window_size=size) - offset
        out = out.astype(kernel.dtype)
    return out if bias is None else out + bias, windows


def _fold_normalisation(
    kernel: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> tuple[Float[Array, "kernel_height kernel_width channels features"], Float[Array, " features"]]:
    """Returns (kernel', offset) with conv(x, kernel') - offset == conv((x / 255 - mean) / std, kernel).

    Both are float32, or float64 for a float64 kernel.
    """
    wide = kernel if kernel.dtype.itemsize >= 4 else kernel.astype(jnp.float32)
    means, deviations = jnp.asarray(mean, wide.dtype), jnp.asarray(std, wide.dtype)
    scaled = wide / (255.0 * deviations)[:, None]
    # An elementwise product and a sum: accelerators would round the operands of a matrix product to bfloat16.
    offset = (wide * (means / deviations)[:, None]).sum((0, 1, 2))
    return scaled, offset
