"""window_conv and its gradients as loops over the images of the batch, for CPUs and wherever no other form applies.

Nothing as large as the windows of a whole batch is ever in memory. On the CPU, the pixels of one image's windows are
regrouped into planes first, so that the pixels that one weight reads lie next to each other; on other platforms, the
windows of an image are read one by one.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stochconv_jax.ops.sharding import match_varying_axes
from stochconv_jax.ops.windows import Size

STRIP_ROWS = 28  # output rows the kernel's gradient sums at once: below 16 the CPU's compiler does not vectorise


@partial(jax.jit, static_argnames=("strides", "window_size", "dtype"))
def forward(image, windows, kernel, *, strides: Size, window_size: Size, dtype) -> jax.Array:
    """Returns the output [B, h, w, F] of kernel's dtype, summed in `dtype`; see `window_platforms.forward`."""
    weights = jnp.moveaxis(kernel, 3, 0).astype(dtype)
    size = tuple((n - k) // s + 1 for n, k, s in zip(window_size, kernel.shape[:2], strides))
    convolve = _by_platform(
        partial(_strided_forward, strides, window_size, size), partial(_regrouped_forward, strides, size)
    )
    lines = _lines(image)

    def one_image(b_windows):
        return jnp.moveaxis(convolve(lines, *b_windows, weights), 0, 2)

    return lax.map(one_image, (jnp.arange(image.shape[0], dtype=jnp.int32), windows)).astype(kernel.dtype)


@partial(jax.jit, static_argnames=("strides", "window_size", "kernel_shape", "dtype"))
def kernel_gradient(image, windows, g, *, strides: Size, window_size: Size, kernel_shape: tuple, dtype) -> jax.Array:
    """Returns the gradient [kh, kw, C, F] of the kernel in `dtype` from the cotangent g [B, h, w, F]."""
    planes = jnp.moveaxis(g, 3, 1).astype(dtype)
    strided = partial(_strided_gradient, strides, window_size, kernel_shape)
    image_share = _by_platform(strided, partial(_regrouped_gradient, strides, kernel_shape))
    lines = _lines(image)

    def add_image(total, b_windows_g):
        return total + image_share(lines, *b_windows_g), None

    zeros = _zeros((kernel_shape[3], *kernel_shape[:3]), dtype, planes)
    total, _ = lax.scan(add_image, zeros, (jnp.arange(image.shape[0], dtype=jnp.int32), windows, planes))
    return jnp.moveaxis(total, 0, 3)


@partial(jax.jit, static_argnames=("strides", "window_size", "image_size", "dtype"))
def image_gradient(windows, kernel, g, *, strides: Size, window_size: Size, image_size: Size, dtype) -> jax.Array:
    """Returns the gradient [B, *image_size, C] of the image in `dtype` from the cotangent g [B, h, w, F].

    Windows are added to the image one by one, by slices: no scatter.
    """
    planes, weights = jnp.moveaxis(g, 3, 1).astype(dtype), jnp.moveaxis(kernel, 3, 0).astype(dtype)

    def add_window(total, window_g_weights):
        window, g, weights = window_g_weights
        start = (*window, window.dtype.type(0))
        before = lax.dynamic_slice(total, start, (*window_size, total.shape[2]))
        after = before + _window_gradient(g, weights, strides, window_size)
        return lax.dynamic_update_slice(total, after, start), None

    def one_image(windows_g):
        zeros = _zeros((*image_size, kernel.shape[2]), dtype, planes)
        return lax.scan(add_window, zeros, (*windows_g, weights))[0]

    return lax.map(one_image, (windows, planes))


def _lines(image: jax.Array) -> jax.Array:
    """Returns the image as [B, H, W * C].

    Called outside the loops: a reshape inside would make XLA split every index into column and channel again.
    """
    return image.reshape(*image.shape[:2], -1)


def _zeros(shape: tuple, dtype, like: jax.Array) -> jax.Array:
    """Returns zeros that vary over the same manual mesh axes as `like`, so that a loop may carry them."""
    return match_varying_axes(jnp.zeros(shape, dtype), like)[0]


def _by_platform(strided: Callable, regrouped: Callable) -> Callable[..., jax.Array]:
    """Returns a function that runs `regrouped` on the CPU and `strided` elsewhere.

    Both take (lines, b, windows, operand): all images as `_lines`, the number of one image, its windows [F, 2], and one
    array for each filter.
    """
    return lambda *args: lax.platform_dependent(*args, cpu=regrouped, default=strided)


def _taps(kernel_shape: tuple) -> list[tuple[int, int, int]]:
    """Returns (row, column, channel) of every weight of a filter, in the order of a kernel [kh, kw, C]."""
    kh, kw, channels = kernel_shape
    return [(i, j, c) for i in range(kh) for j in range(kw) for c in range(channels)]


def _pixels_read(lines, b, window, window_size, size, strides, kernel_shape, dtype) -> Iterator[jax.Array]:
    """Yields, for each weight in the order of `_taps`, the pixels [h, w] of one window that the weight reads."""
    (h, w), (sh, sw) = size, strides
    (wh, ww), channels = window_size, kernel_shape[2]
    crop = lax.dynamic_slice(lines, (b, window[0], window[1] * channels), (1, wh, ww * channels))
    crop = crop.reshape(wh, ww, channels)
    for i, j, c in _taps(kernel_shape):
        limit = (i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, c + 1)
        yield lax.slice(crop, (i, j, c), limit, (sh, sw, 1))[..., 0].astype(dtype)


def _strided_forward(strides, window_size, size, lines, b, windows, weights):
    """Returns the output [F, h, w] of one image, window by window."""

    def one_filter(window_weights):
        window, weights = window_weights
        pixels_read = _pixels_read(lines, b, window, window_size, size, strides, weights.shape, weights.dtype)
        return sum(weight * pixels for weight, pixels in zip(weights.reshape(-1), pixels_read))

    return lax.map(one_filter, (windows, weights))


def _strided_gradient(strides, window_size, kernel_shape, lines, b, windows, g):
    """Returns what one image adds to the kernel's gradient, [F, kh, kw, C], window by window."""

    def one_filter(window_g):
        window, g = window_g
        pixels_read = _pixels_read(lines, b, window, window_size, g.shape, strides, kernel_shape[:3], g.dtype)
        return jnp.stack([jnp.sum(g * pixels) for pixels in pixels_read]).reshape(kernel_shape[:3])

    return lax.map(one_filter, (windows, g))


def _on_planes(function, size, strides, kernel_shape, lines, b, windows, operand):
    """Returns `function(planes, operand)` with the pixels of one image's windows as planes [sw * C, F, rows, groups].

    Planes have the dtype of `lines`. Pixel x of a window's row, channel c, is in plane (x % sw) * C + c at column
    x // sw. Whole groups of sw pixels are read, so up to sw - 1 pixels to the right of the window. If these are outside
    the image for any of the windows, they are replaced by zeros for all windows; no weight reads them.

    Two properties of XLA's CPU compiler shape this function. The slices of all windows become one gather, which is as
    fast as slices only if it copies runs of bytes. And sums are divided among the cores inside the branches of a
    `cond`, but not in the body of a loop that writes them straight into the loop's output.
    """
    (h, w), (sh, sw), (kh, kw, channels) = size, strides, kernel_shape
    rows, columns, groups = (h - 1) * sh + kh, (w - 1) * sw + kw, w + -(-kw // sw) - 1
    width, columns_of_groups = lines.shape[2] // channels, groups * sw

    def read(columns, lines, b, windows, operand):
        def crop(window):
            return lax.dynamic_slice(lines, (b, window[0], window[1] * channels), (1, rows, columns * channels))[0]

        # Without the barriers, the gather would run byte by byte for every plane, and the regrouping for every weight.
        crops = lax.optimization_barrier(jax.vmap(crop)(windows))
        planes = [crops[..., plane :: sw * channels] for plane in range(sw * channels)]
        planes = jnp.stack([jnp.pad(plane, ((0, 0), (0, 0), (0, groups - plane.shape[2]))) for plane in planes])
        return function(lax.optimization_barrier(planes), operand)

    whole_groups, window_only = partial(read, min(columns_of_groups, width)), partial(read, columns)
    inside = (windows[:, 1] + columns_of_groups <= width).all()
    return lax.cond(inside, whole_groups, window_only, lines, b, windows, operand)


def _regrouped_forward(strides, size, lines, b, windows, weights):
    """Returns the output [F, h, w] of one image, all filters at once."""
    (h, w), (sh, sw), channels = size, strides, weights.shape[3]

    def convolve(planes, weights):
        def pixels_read(i, j, c):
            plane = planes[(j % sw) * channels + c]
            return plane[:, i : i + (h - 1) * sh + 1 : sh, j // sw : j // sw + w].astype(weights.dtype)

        return sum(weights[:, i, j, c, None, None] * pixels_read(i, j, c) for i, j, c in _taps(weights.shape[1:]))

    return _on_planes(convolve, size, strides, weights.shape[1:], lines, b, windows, weights)


def _regrouped_gradient(strides, kernel_shape, lines, b, windows, g):
    """Returns what one image adds to the kernel's gradient, [F, kh, kw, C], all filters at once.

    Strips of output rows are added up first, and each column apart, which the compiler vectorises; then the columns.
    """
    (_, h, w), (sh, sw), (kh, kw, channels) = g.shape, strides, kernel_shape[:3]
    shifts = range(-(-kw // sw))

    def add_rows(number, y, planes, g, sums):
        """Adds what `number` output rows from row y on give to `sums`: for each shift [phases * C, F, kh, w]."""
        planes = lax.dynamic_slice_in_dim(planes, y * sh, (number - 1) * sh + kh, 2)
        planes, g = lax.optimization_barrier((planes, lax.dynamic_slice_in_dim(g, y, number, 1)))

        def pixels_read(r, shift, length):
            return planes[:length, :, r * sh : r * sh + kh, shift : shift + w].astype(g.dtype)

        return [
            total + sum(pixels_read(r, shift, len(total)) * g[:, r, None] for r in range(number))
            for shift, total in zip(shifts, sums)
        ]

    def correlate(planes, g):
        def add_strip(n, sums):  # the condition is always true: for the reason of this cond see `_on_planes`
            return lax.cond(
                n >= 0, partial(add_rows, STRIP_ROWS), lambda *args: args[-1], n * STRIP_ROWS, planes, g, sums
            )

        phases = [min(sw, kw - shift * sw) for shift in shifts]
        sums = [_zeros((n * channels, len(g), kh, w), g.dtype, g) for n in phases]
        if h >= STRIP_ROWS:
            sums = lax.fori_loop(0, h // STRIP_ROWS, add_strip, sums)
        if h % STRIP_ROWS:
            sums = add_rows(h % STRIP_ROWS, h - h % STRIP_ROWS, planes, g, sums)
        sums = jnp.concatenate([total.sum(3) for total in sums])
        return jnp.moveaxis(sums, 0, 2).reshape(-1, kh, kw, channels)

    return _on_planes(correlate, (h, w), strides, kernel_shape[:3], lines, b, windows, g)


def _window_gradient(g, weights, strides, window_size):
    """Returns the gradient [wh, ww, C] of one window from its cotangent g [h, w] and the weights [kh, kw, C]."""
    (wh, ww), (h, w), (sh, sw) = window_size, g.shape, strides

    def tap(i, j):
        rows = (i, wh - i - (h - 1) * sh - 1, sh - 1)
        columns = (j, ww - j - (w - 1) * sw - 1, sw - 1)
        return lax.pad(g, jnp.zeros((), g.dtype), (rows, columns))[..., None] * weights[i, j]

    return sum(tap(i, j) for i in range(weights.shape[0]) for j in range(weights.shape[1]))
