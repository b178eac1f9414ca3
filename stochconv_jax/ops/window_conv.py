"""The convolution in which every filter reads its own window of the image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from stochconv_jax.ops.per_device import per_device, varying_alike
from stochconv_jax.ops.window_loops import forward, image_gradient, kernel_gradient

Size = tuple[int, int]


def window_conv(
    image: jax.Array, windows: jax.Array, kernel: jax.Array, *, strides: Size, window_size: Size
) -> jax.Array:
    """Convolves, without padding, each filter with its own window of each image.

    `out[b, :, :, f]` is the VALID strided convolution of `kernel[..., f]` with the crop of `image[b]` at
    `windows[b, f]`, to rounding. Windows are never copied out for the whole batch, on a CPU for an image at a time, and
    the gradient is a rule of its own: no scatter.
    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Under jit with a mesh in context (`jax.set_mesh`) whose axis 'data' is Auto and divides B,
    each device convolves its own share of the batch and only the kernel's gradient crosses devices. Without
    such a mesh the compiler is free to gather a batch that is spread over devices.

    Args:
      image: uint8 or float [B, H, W, C]. uint8 pixels count as the numbers 0 .. 255; on a TPU a float image must be
        finite, even beside the windows.
      windows: integers [B or 1, F or 1, 2], (top, left) in pixels, as `sample_windows` draws them.
        Traced windows that reach outside are moved to the nearest place inside; concrete ones are refused.
      kernel: float [kh, kw, C, F].
      strides: (sh, sw).
      window_size: (wh, ww) in pixels.

    Returns:
      [B, h, w, F] of kernel's dtype, summed in float32 at least: h = (wh - kh) // sh + 1, w likewise.
      Differentiable in `kernel`, and in `image` when it is float.

    Raises:
      ValueError: an image smaller than the window, a window smaller than the kernel, shapes or dtypes that
        disagree, a concrete window that reaches outside the image.
    """
    _check(image, windows, kernel, window_size)
    batch = image.shape[0]
    if not (image.size and kernel.size):
        size = ((n - k) // s + 1 for n, k, s in zip(window_size, kernel.shape, strides))
        return jnp.zeros((batch, *size, kernel.shape[3]), kernel.dtype)
    form = partial(_convolve, tuple(strides), tuple(window_size))
    return per_device(form, image, windows, kernel, batched=(True, windows.shape[0] == batch, False))


def _check(image: jax.Array, windows: jax.Array, kernel: jax.Array, window_size: Size) -> None:
    if image.ndim != 4 or kernel.ndim != 4 or image.shape[3] != kernel.shape[2]:
        raise ValueError(
            "window_conv wants image [B, H, W, C] and kernel [kh, kw, C, F], "
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
    if not isinstance(windows, jax.core.Tracer):
        outside = np.argwhere((np.asarray(windows) < 0) | (np.asarray(windows) > (height - wh, width - ww)))
        if outside.size:
            b, f, _ = outside[0]
            raise ValueError(
                f"windows[{b}, {f}] = {np.asarray(windows)[b, f].tolist()} reaches outside the image: "
                f"(top, left) must lie in 0..{height - wh}, 0..{width - ww}"
            )


def _convolve(strides: Size, window_size: Size, image: jax.Array, windows: jax.Array, kernel: jax.Array):
    """window_conv on one device."""
    wide = windows if windows.dtype.itemsize >= 4 else windows.astype(jnp.int32)  # to hold any place of an image
    last = jnp.array(image.shape[1:3], wide.dtype) - jnp.array(window_size, wide.dtype)
    windows = jnp.broadcast_to(wide.clip(0, last), (image.shape[0], kernel.shape[3], 2)).astype(jnp.int32)
    return _with_rule(strides, window_size, *varying_alike(image, windows, kernel))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_rule(strides: Size, window_size: Size, image: jax.Array, windows: jax.Array, kernel: jax.Array):
    return forward(strides, window_size)(image, windows, kernel)


def _rule_fwd(strides, window_size, image, windows, kernel):
    return _with_rule(strides, window_size, image, windows, kernel), (image, windows, kernel)


def _rule_bwd(strides, window_size, residuals, g):
    """Under jit the compiler drops the image's gradient when nobody reads it."""
    image, windows, kernel = residuals
    for_kernel = kernel_gradient(strides, window_size, kernel.shape, kernel.dtype)(image, windows, g)
    if image.dtype == jnp.uint8:
        return None, None, for_kernel
    return image_gradient(strides, window_size, image.shape, image.dtype)(windows, kernel, g), None, for_kernel


_with_rule.defvjp(_rule_fwd, _rule_bwd)
