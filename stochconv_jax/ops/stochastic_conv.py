"""The stochastic convolution as one pure function: it draws windows and convolves them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stochconv_jax.ops.window_conv import window_conv
from stochconv_jax.ops.windows import Axes, Sampling, Size, sample_windows, window_size


def stochastic_conv(
    key: jax.Array,
    image: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    output_size: Size,
    strides: Size = (2, 2),
    sampling: Sampling = "per_image",
    axes: Axes = "independent",
    examples: jax.Array | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Convolves each filter with a random window of each image.

    Folds the normalisation of the pixels into the kernel and a constant per filter. A convolution without padding makes
    that exact, and no normalised copy of the image ever exists.
    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Args:
      key: a JAX random key, from which the windows are drawn.
      image: uint8 or float [B, H, W, C].
      kernel: float [kh, kw, C, F].
      bias: float [F], added to the output.
      output_size: (height, width) of the output.
      strides: (sh, sw).
      sampling: who gets windows of its own, see `sample_windows`.
      axes: how a position is drawn, see `sample_windows`.
      examples: integers [B], the identity of each image; default 0 .. B - 1.
      mean, std: C numbers each. The filters see (image / 255 - mean) / std; without them, the image as it is.

    Returns:
      The output, [B, *output_size, F] of kernel's dtype, and the windows, int32 [B or 1, F or 1, 2] of (top, left).

    Raises:
      ValueError: an image smaller than a window, shapes or dtypes that disagree, one of `mean` and `std` alone.
    """
    if (mean is None) != (std is None):
        raise ValueError("give mean and std, or neither")
    window = window_size(output_size, kernel.shape[:2], strides)
    windows = sample_windows(
        key,
        image_size=image.shape[1:3],
        window_size=window,
        batch=image.shape[0],
        features=kernel.shape[3],
        sampling=sampling,
        axes=axes,
        examples=examples,
    )
    if mean is None:
        out = window_conv(image, windows, kernel, strides=strides, window_size=window)
    else:
        wide = kernel if kernel.dtype.itemsize >= 4 else kernel.astype(jnp.float32)
        mean, std = jnp.asarray(mean, wide.dtype), jnp.asarray(std, wide.dtype)
        scaled = wide / (255.0 * std)[:, None]
        offset = (wide * (mean / std)[:, None]).sum((0, 1, 2))  # no product that a matrix unit would round
        out = window_conv(image, windows, scaled, strides=strides, window_size=window) - offset
        out = out.astype(kernel.dtype)
    return out if bias is None else out + bias, windows
