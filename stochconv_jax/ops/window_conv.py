"""The convolution in which every filter reads its own window of the image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer, UInt8

from stochconv_jax.ops import window_platforms
from stochconv_jax.ops.sharding import map_batch_shards, match_varying_axes
from stochconv_jax.ops.windows import Size


def window_conv(
    image: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
    windows: Integer[Array, "#batch #features 2"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    *,
    strides: Size,
    window_size: Size,
) -> Float[Array, "batch output_height output_width features"]:
    """Convolves each filter with its own window of each image.

    `output[b, :, :, f]` equals the VALID strided convolution of `kernel[..., f]` with the crop of `image[b]` whose top
    left corner is `windows[b, f]`, up to rounding. The windows of the whole batch are never copied out of the images
    (on a CPU, those of one image at a time are), and no gradient is a scatter.

    Under `jax.jit` with a mesh in context (`jax.set_mesh`) whose Auto axis 'data' divides the batch, each device
    convolves its own images and only the kernel's gradient crosses devices. Without such a mesh the compiler may gather
    a batch that is sharded over devices.

    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Args:
      image: uint8 or float [B, H, W, C]. uint8 pixels have the values 0, ..., 255. On a TPU, all pixels of a float
        image must be finite, also those outside the windows.
      windows: integers [B or 1, F or 1, 2], (top, left) in pixels, for example from `sample_windows`. Concrete windows
        that reach outside the image are an error; traced ones are moved to the nearest position inside.
      kernel: float [kh, kw, C, F].
      strides: (sh, sw), vertical and horizontal, in pixels.
      window_size: (wh, ww), height and width, in pixels.

    Returns:
      float [B, h, w, F] of the kernel's dtype, summed in float32 at least, with h = (wh - kh) // sh + 1 and
      w = (ww - kw) // sw + 1. Differentiable with respect to `kernel`, and to `image` if that is float.

    Raises:
      ValueError: the image is smaller than the window, the window is smaller than the kernel, shapes or dtypes
        disagree, or a concrete window reaches outside the image.
    """
    _check(image, windows, kernel, window_size)
    batch = image.shape[0]
    if not (image.size and kernel.size):
        size = ((n - k) // s + 1 for n, k, s in zip(window_size, kernel.shape, strides))
        return jnp.zeros((batch, *size, kernel.shape[3]), kernel.dtype)
    function = partial(_on_one_device, tuple(strides), tuple(window_size))
    return map_batch_shards(function, image, windows, kernel, batched=(True, windows.shape[0] == batch, False))


def _check(image: jax.Array, windows: jax.Array, kernel: jax.Array, window_size: Size) -> None:
    if image.ndim != 4 or kernel.ndim != 4 or image.shape[3] != kernel.shape[2]:
        raise ValueError(
            "window_conv expects image [B, H, W, C] and kernel [kh, kw, C, F], "
            f"not {list(image.shape)} and {list(kernel.shape)}"
        )
    if not (image.dtype == jnp.uint8 or jnp.issubdtype(image.dtype, jnp.floating)):
        raise ValueError(f"image must be uint8 or float, not {image.dtype}")
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
        raise ValueError(f"kernel must be float, not {kernel.dtype}")
    (batch, height, width, _), (kh, kw, _, features) = image.shape, kernel.shape
    if (
        windows.ndim != 3
        or windows.shape[0] not in (1, batch)
        or windows.shape[1] not in (1, features)
        or windows.shape[2] != 2
        or not jnp.issubdtype(windows.dtype, jnp.integer)
    ):
        raise ValueError(
            f"windows must be integers [{batch} or 1, {features} or 1, 2], not {windows.dtype}{list(windows.shape)}"
        )
    wh, ww = window_size
    if height < wh or width < ww:
        raise ValueError(f"the image ({height}x{width} pixels) is smaller than the window ({wh}x{ww})")
    if wh < kh or ww < kw:
        raise ValueError(f"the window ({wh}x{ww} pixels) is smaller than the kernel ({kh}x{kw})")
    if not isinstance(windows, Tracer):
        outside = np.argwhere((np.asarray(windows) < 0) | (np.asarray(windows) > (height - wh, width - ww)))
        if outside.size:
            b, f, _ = outside[0]
            raise ValueError(
                f"windows[{b}, {f}] = {np.asarray(windows)[b, f].tolist()} reaches outside the image: "
                f"(top, left) must lie in 0..{height - wh}, 0..{width - ww}"
            )


def _on_one_device(
    strides: Size, window_size: Size, image: jax.Array, windows: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Returns the output for the images of one device; windows that reach outside the image are moved inside."""
    wide = windows if windows.dtype.itemsize >= 4 else windows.astype(jnp.int32)  # large enough for any image
    last = jnp.array(image.shape[1:3], wide.dtype) - jnp.array(window_size, wide.dtype)
    windows = jnp.broadcast_to(wide.clip(0, last), (image.shape[0], kernel.shape[3], 2)).astype(jnp.int32)
    return _with_custom_gradient(strides, window_size, *match_varying_axes(image, windows, kernel))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_custom_gradient(strides: Size, window_size: Size, image: jax.Array, windows: jax.Array, kernel: jax.Array):
    return window_platforms.forward(image, windows, kernel, strides=strides, window_size=window_size)


def _forward_rule(strides, window_size, image, windows, kernel):
    return _with_custom_gradient(strides, window_size, image, windows, kernel), (image, windows, kernel)


def _backward_rule(strides, window_size, residuals, g):
    """Returns the cotangents of image, windows and kernel. Under jit, XLA removes the image's if it is not used."""
    image, windows, kernel = residuals
    sizes = {"strides": strides, "window_size": window_size}
    kernel_gradient = window_platforms.kernel_gradient(
        image, windows, g, **sizes, kernel_shape=kernel.shape, kernel_dtype=kernel.dtype
    )
    if image.dtype == jnp.uint8:
        return None, None, kernel_gradient
    image_gradient = window_platforms.image_gradient(
        windows, kernel, g, **sizes, image_size=image.shape[1:3], image_dtype=image.dtype
    )
    return image_gradient, None, kernel_gradient


_with_custom_gradient.defvjp(_forward_rule, _backward_rule)
