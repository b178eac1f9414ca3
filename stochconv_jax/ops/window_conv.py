"""The convolution in which every filter reads its own window of the image."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap

from stochconv_jax.ops.per_device import per_device, varying_alike

Size = tuple[int, int]


def window_conv(
    image: jax.Array, windows: jax.Array, kernel: jax.Array, *, strides: Size, window_size: Size
) -> jax.Array:
    """Convolves, without padding, each filter with its own window of each image.

    `out[b, :, :, f]` is the VALID strided convolution of `kernel[..., f]` with the crop of `image[b]` at
    `windows[b, f]`, to rounding. No window is copied out, and the gradient is a rule of its own: no scatter.
    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021).

    Under jit with a mesh in context (`jax.set_mesh`) whose axis 'data' is Auto and divides B,
    each device convolves its own share of the batch and only the kernel's gradient crosses devices. Without
    such a mesh the compiler is free to gather a batch that is spread over devices.

    Args:
      image: uint8 or float [B, H, W, C]. uint8 pixels count as the numbers 0 .. 255.
      windows: int32 [B or 1, F or 1, 2], (top, left) in pixels, as `sample_windows` draws them.
        Traced windows that reach outside are moved inside, as `lax.dynamic_slice` does; concrete ones are
        refused.
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
            f"windows must be integers [{batch} or 1, {features} or 1, 2], "
            f"not {windows.dtype}{list(windows.shape)}"
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
    windows = jnp.broadcast_to(windows, (image.shape[0], kernel.shape[3], 2))
    return _with_rule(strides, window_size, *varying_alike(image, windows, kernel))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_rule(strides, window_size, image, windows, kernel):
    return _forward(strides, window_size)(image, windows, kernel)


def _rule_fwd(strides, window_size, image, windows, kernel):
    return _with_rule(strides, window_size, image, windows, kernel), (image, windows, kernel)


def _rule_bwd(strides, window_size, residuals, g):
    """Under jit the compiler drops the image's gradient when nobody reads it."""
    image, windows, kernel = residuals
    image_gradient = None
    if jnp.issubdtype(image.dtype, jnp.floating):
        image_gradient = _image_gradient(strides, window_size, image.shape, image.dtype)(windows, kernel, g)
    kernel_gradient = _kernel_gradient(strides, kernel.shape, window_size, kernel.dtype)(image, windows, g)
    return image_gradient, None, kernel_gradient


_with_rule.defvjp(_rule_fwd, _rule_bwd)


def _taps(kernel_shape):
    kh, kw, channels = kernel_shape[:3]
    return [(i, j, c) for i in range(kh) for j in range(kw) for c in range(channels)]


def _crop(image, window, window_size):
    """[wh, ww, C] of image [H, W, C]."""
    return lax.dynamic_slice(image, (window[0], window[1], 0), (*window_size, image.shape[2]))


def _seen(crop, tap, size, strides):
    """What one weight sees of a window: [h, w]."""
    (i, j, c), (h, w), (sh, sw) = tap, size, strides
    limit = (i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, c + 1)
    return lax.slice(crop, (i, j, c), limit, (sh, sw, 1))[..., 0]


def _output_size(window_size, kernel_size, strides):
    return tuple((n - k) // s + 1 for n, k, s in zip(window_size, kernel_size, strides))


def _sum_dtype(dtype):
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _forward(strides, window_size):
    @sequential_vmap
    def forward(image, windows, kernel):
        size, dtype = _output_size(window_size, kernel.shape[:2], strides), _sum_dtype(kernel.dtype)
        weights = jnp.moveaxis(kernel, 3, 0).astype(dtype)

        def one(image, window, weights):
            crop = _crop(image, window, window_size)
            return sum(weights[t] * _seen(crop, t, size, strides).astype(dtype) for t in _taps(kernel.shape))

        def rows(image_windows):
            image, windows = image_windows
            return lax.map(lambda window_weights: one(image, *window_weights), (windows, weights))

        return jnp.moveaxis(lax.map(rows, (image, windows)), 1, 3).astype(kernel.dtype)

    return forward


def _kernel_gradient(strides, kernel_shape, window_size, kernel_dtype):
    @sequential_vmap
    def kernel_gradient(image, windows, g):
        size, dtype = g.shape[1:3], _sum_dtype(kernel_dtype)
        planes = jnp.moveaxis(g, 3, 1).astype(dtype)

        def one(image, window, g):
            crop = _crop(image, window, window_size)
            return jnp.stack([
                jnp.sum(g * _seen(crop, t, size, strides).astype(dtype)) for t in _taps(kernel_shape)
            ])

        def add_image(total, image_windows_g):
            image, windows, g = image_windows_g
            return total + lax.map(lambda window_g: one(image, *window_g), (windows, g)), None

        taps = len(_taps(kernel_shape))
        zeros = _zeros((kernel_shape[3], taps), dtype, planes)
        total, _ = lax.scan(add_image, zeros, (image, windows, planes))
        return total.T.reshape(kernel_shape).astype(kernel_dtype)

    return kernel_gradient


def _zeros(shape, dtype, like):
    """Zeros that vary over the same manual mesh axes as `like`, so that a loop may carry them."""
    return varying_alike(jnp.zeros(shape, dtype), like)[0]


def _image_gradient(strides, window_size, image_shape, image_dtype):
    @sequential_vmap
    def image_gradient(windows, kernel, g):
        dtype = _sum_dtype(kernel.dtype)
        planes, weights = jnp.moveaxis(g, 3, 1).astype(dtype), jnp.moveaxis(kernel, 3, 0).astype(dtype)
        (wh, ww), (h, w), (sh, sw) = window_size, g.shape[1:3], strides

        def spread(g, weights):
            """The gradient of one window [wh, ww, C]."""
            def tap(i, j):
                rows = (i, wh - i - (h - 1) * sh - 1, sh - 1)
                columns = (j, ww - j - (w - 1) * sw - 1, sw - 1)
                return lax.pad(g, jnp.zeros((), dtype), (rows, columns))[..., None] * weights[i, j]

            return sum(tap(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))

        def add_window(total, window_g_weights):
            window, g, weights = window_g_weights
            start = (window[0], window[1], 0)
            there = lax.dynamic_slice(total, start, (wh, ww, total.shape[2]))
            return lax.dynamic_update_slice(total, there + spread(g, weights), start), None

        def rows(windows_g):
            zeros = _zeros(image_shape[1:], dtype, planes)
            return lax.scan(add_window, zeros, (*windows_g, weights))[0]

        return lax.map(rows, (windows, planes)).astype(image_dtype)

    return image_gradient
