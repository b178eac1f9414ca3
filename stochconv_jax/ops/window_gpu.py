"""window_conv on a GPU: a few kernels for the whole batch, where a loop would launch thousands.

XLA fuses the reading of all windows into the sums, so that no window is copied out, as long as the fused arrays keep
the memory layout in which they are read. Every function here therefore works on planes, [B, F, h, w], and fixes their
layout: that of the output by a layout constraint, that of the cotangent by a barrier around a one-dimensional array,
which has only one layout.
"""

from collections.abc import Iterator
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from stochconv_jax.ops.windows import Size


@partial(jax.jit, static_argnames=("strides", "window_size", "dtype"))
def forward(image, windows, kernel, *, strides: Size, window_size: Size, dtype) -> jax.Array:
    """Returns the output [B, h, w, F] of kernel's dtype, summed in `dtype`; see `window_platforms.forward`.

    Runs as one kernel, followed by a transposition if the caller needs channels last in memory.
    """
    size = tuple((n - k) // s + 1 for n, k, s in zip(window_size, kernel.shape[:2], strides))
    weights = jnp.moveaxis(kernel, 3, 0).astype(dtype).reshape(kernel.shape[3], -1)
    pixels_read = _pixels_read(_crops(image, windows, window_size), kernel.shape[:3], size, strides)
    products = (weights[:, tap, None, None] * pixels.astype(dtype) for tap, pixels in enumerate(pixels_read))
    out = cast(jax.Array, sum(products))
    out = out.astype(kernel.dtype)
    if isinstance(image.shape[0], int):  # jax.export with a symbolic batch refuses layout constraints
        out = with_layout_constraint(out, Layout((0, 1, 2, 3)))
    return jnp.moveaxis(out, 1, 3)


@partial(jax.jit, static_argnames=("strides", "window_size", "kernel_shape", "dtype"))
def kernel_gradient(image, windows, g, *, strides: Size, window_size: Size, kernel_shape: tuple, dtype) -> jax.Array:
    """Returns the gradient [kh, kw, C, F] of the kernel in `dtype` from the cotangent g [B, h, w, F].

    Sums the products of the cotangent with the pixels that each weight reads.
    """
    planes = _planes(g).astype(dtype)
    pixels_read = _pixels_read(_crops(image, windows, window_size), kernel_shape[:3], planes.shape[2:], strides)
    sums = jnp.stack([(planes * pixels.astype(dtype)).sum((2, 3)) for pixels in pixels_read])
    return sums.sum(1).reshape(kernel_shape)


@partial(jax.jit, static_argnames=("strides", "window_size", "image_size", "dtype"))
def image_gradient(windows, kernel, g, *, strides: Size, window_size: Size, image_size: Size, dtype) -> jax.Array:
    """Returns the gradient [B, *image_size, C] of the image in `dtype` from the cotangent g [B, h, w, F].

    Filter by filter, over the whole batch: the cotangent, dilated by the strides, is surrounded by zeros, and the sum
    of its image-sized crops, one for each weight, is what the filter adds to the gradient. So there is no scatter.
    """
    kernel_size, planes = kernel.shape[:2], jnp.moveaxis(_planes(g), 1, 0).astype(dtype)
    dilated = [(n - 1) * s + 1 for n, s in zip(planes.shape[2:], strides)]
    before = [n - size + k - 1 for n, size, k in zip(image_size, window_size, kernel_size)]
    after = [n + k - 1 - length for n, k, length in zip(image_size, kernel_size, dilated)]
    padding = [(0, 0, 0), *((low, high, s - 1) for low, high, s in zip(before, after, strides))]
    reach = tuple(n + k - 1 for n, k in zip(image_size, kernel_size))

    def add_filter(total, windows_weights_g):
        windows, weights, g = windows_weights_g
        start = jnp.array([n - k + 1 for n, k in zip(before, kernel_size)], windows.dtype) - windows
        crop = jax.vmap(lambda g, start: lax.dynamic_slice(g, (start[0], start[1]), reach))
        around = crop(lax.pad(g, jnp.zeros((), dtype), padding), start)
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                rows, columns = (k - 1 - at for k, at in zip(kernel_size, (i, j)))
                part = around[:, rows : rows + image_size[0], columns : columns + image_size[1], None]
                total = total + part * weights[i, j].astype(dtype)
        return total, None

    zeros = jnp.zeros((g.shape[0], *image_size, kernel.shape[2]), dtype) + 0 * planes[:1, :1, :1, :1].sum()
    return lax.scan(add_filter, zeros, (jnp.moveaxis(windows, 1, 0), jnp.moveaxis(kernel, 3, 0), planes))[0]


def _planes(g: jax.Array) -> jax.Array:
    """Returns g [B, h, w, F] as [B, F, h, w], in that order in memory."""
    batch, height, width, features = g.shape
    return lax.optimization_barrier(jnp.moveaxis(g, 3, 1).reshape(-1)).reshape(batch, features, height, width)


def _crops(image: jax.Array, windows: jax.Array, window_size: Size) -> jax.Array:
    """Returns the pixels of every window, [B, F, *window_size, C]; never in memory if fused with what reads them."""
    batch, height, _, channels = image.shape
    rows, columns = window_size

    def crop(lines, window):
        return lax.dynamic_slice(lines, (window[0], window[1] * channels), (rows, columns * channels))

    crops = jax.vmap(jax.vmap(crop, (None, 0)))(image.reshape(batch, height, -1), windows)
    return crops.reshape(*windows.shape[:2], rows, columns, channels)


def _pixels_read(crops: jax.Array, kernel_shape: tuple, size: Size, strides: Size) -> Iterator[jax.Array]:
    """Yields the pixels of every window that a weight reads, [B, F, *size], in the order of a kernel [kh, kw, C]."""
    (batch, features), (h, w), (sh, sw) = crops.shape[:2], size, strides
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            for c in range(kernel_shape[2]):
                limit = (batch, features, i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, c + 1)
                yield lax.slice(crops, (0, 0, i, j, c), limit, (1, 1, sh, sw, 1))[..., 0]
