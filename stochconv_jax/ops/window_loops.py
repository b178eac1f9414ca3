"""The loops over windows that window_conv and its gradient rule are made of.

One image at a time: nothing of the windows' size over the whole batch exists. On the CPU the pixels of an image's
windows are first regrouped, so that what one weight sees lies side by side; elsewhere windows are read one by one. A
GPU runs window_gpu instead, and a TPU the kernels of window_pallas, unless `window_parts.parts_of` finds that they do
not serve.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap

from stochconv_jax.ops import window_gpu, window_tpu
from stochconv_jax.ops.per_device import sum_dtype, varying_alike
from stochconv_jax.ops.window_tpu_parts import parts_of

Size = tuple[int, int]
STRIP = 28  # output rows summed at once in the kernel's gradient: below 16 the CPU's compiler does not vectorise


def forward(strides: Size, window_size: Size):
    """The function (image [B, H, W, C], windows [B, F, 2], kernel [kh, kw, C, F]) -> [B, h, w, F]."""

    @sequential_vmap  # under vmap a loop over the new axis: no gather of the windows of many images
    def run(image, windows, kernel):
        parts = parts_of(image.shape, image.dtype, kernel.shape, kernel.dtype, strides, window_size)
        loops = partial(_looped_forward, strides, window_size)
        sizes = {"strides": strides, "window_size": window_size, "dtype": sum_dtype(kernel.dtype)}
        gpu = partial(window_gpu.forward, **sizes)
        return _by_accelerator(parts, window_tpu.forward, gpu, loops)(image, windows, kernel)

    return run


def kernel_gradient(strides: Size, window_size: Size, kernel_shape: tuple, kernel_dtype):
    """The function (image [B, H, W, C], windows [B, F, 2], g [B, h, w, F]) -> [kh, kw, C, F]."""

    @sequential_vmap
    def run(image, windows, g):
        parts = parts_of(image.shape, image.dtype, kernel_shape, kernel_dtype, strides, window_size)
        loops = partial(_looped_gradient, strides, window_size, kernel_shape, kernel_dtype)
        sizes = {"strides": strides, "window_size": window_size, "dtype": sum_dtype(kernel_dtype)}

        def gpu(*arrays):
            return window_gpu.kernel_gradient(*arrays, kernel_shape=kernel_shape, **sizes).astype(kernel_dtype)

        return _by_accelerator(parts, window_tpu.kernel_gradient, gpu, loops)(image, windows, g)

    return run


def image_gradient(strides: Size, window_size: Size, image_shape: tuple, image_dtype):
    """The function (windows [B, F, 2], kernel [kh, kw, C, F], g [B, h, w, F]) -> [B, H, W, C]."""

    def loops(windows, kernel, g):
        dtype = sum_dtype(kernel.dtype)
        planes, weights = jnp.moveaxis(g, 3, 1).astype(dtype), jnp.moveaxis(kernel, 3, 0).astype(dtype)

        def add_window(total, window_g_weights):
            window, g, weights = window_g_weights
            start = (*window, window.dtype.type(0))
            there = lax.dynamic_slice(total, start, (*window_size, total.shape[2]))
            return lax.dynamic_update_slice(total, there + _spread(g, weights, strides, window_size), start), None

        def one_image(windows_g):
            return lax.scan(add_window, _zeros(image_shape[1:], dtype, planes), (*windows_g, weights))[0]

        return lax.map(one_image, (windows, planes))

    @sequential_vmap
    def run(windows, kernel, g):
        sizes = {"strides": strides, "window_size": window_size, "dtype": sum_dtype(kernel.dtype)}
        gpu = partial(window_gpu.image_gradient, image_size=image_shape[1:3], **sizes)
        return _by_accelerator(None, None, gpu, loops)(windows, kernel, g).astype(image_dtype)

    return run


def _looped_forward(strides, window_size, image, windows, kernel):
    dtype = sum_dtype(kernel.dtype)
    weights = jnp.moveaxis(kernel, 3, 0).astype(dtype)
    size = _output_size(window_size, kernel.shape[:2], strides)
    form = _by_platform(
        partial(_strided_forward, strides, window_size, size), partial(_regrouped_forward, strides, size)
    )
    lines = _lines(image)

    def one_image(b_windows):
        return jnp.moveaxis(form(lines, *b_windows, weights), 0, 2)

    return lax.map(one_image, (jnp.arange(image.shape[0], dtype=jnp.int32), windows)).astype(kernel.dtype)


def _looped_gradient(strides, window_size, kernel_shape, kernel_dtype, image, windows, g):
    dtype = sum_dtype(kernel_dtype)
    planes = jnp.moveaxis(g, 3, 1).astype(dtype)
    strided = partial(_strided_gradient, strides, window_size, kernel_shape)
    form = _by_platform(strided, partial(_regrouped_gradient, strides, kernel_shape))
    lines = _lines(image)

    def add_image(total, b_windows_g):
        return total + form(lines, *b_windows_g), None

    zeros = _zeros((kernel_shape[3], *kernel_shape[:3]), dtype, planes)
    total, _ = lax.scan(add_image, zeros, (jnp.arange(image.shape[0], dtype=jnp.int32), windows, planes))
    return jnp.moveaxis(total, 0, 3).astype(kernel_dtype)


def _output_size(window_size: Size, kernel_size: Size, strides: Size) -> Size:
    return tuple((n - k) // s + 1 for n, k, s in zip(window_size, kernel_size, strides))


def _lines(image: jax.Array) -> jax.Array:
    """[B, H, W * C]. Reshaped here, outside the loops: inside, every index would be taken apart again."""
    return image.reshape(*image.shape[:2], -1)


def _zeros(shape: tuple, dtype, like: jax.Array) -> jax.Array:
    """Zeros that vary over the same manual mesh axes as `like`, so that a loop may carry them."""
    return varying_alike(jnp.zeros(shape, dtype), like)[0]


def _by_accelerator(parts, tpu_kernels, gpu, loops):
    """What the program is lowered for decides: `gpu`, tpu_kernels(parts, ...) where there are parts, else `loops`.

    In x64 mode there are no parts: the TPU's kernels count in 32 bits.
    """
    with_parts = parts is not None and not jax.config.jax_enable_x64
    forms = {"cuda": gpu, "rocm": gpu} | ({"tpu": partial(tpu_kernels, parts)} if with_parts else {})
    return lambda *args: lax.platform_dependent(*args, **forms, default=loops)


def _by_platform(strided, regrouped):
    """The form of (lines, b, windows, operand) for the platform that the program is lowered for.

    Both are of one image: windows [F, 2], and an operand of each filter.
    """
    return lambda *args: lax.platform_dependent(*args, cpu=regrouped, default=strided)


def _taps(kernel_shape: tuple) -> list[tuple[int, int, int]]:
    kh, kw, channels = kernel_shape
    return [(i, j, c) for i in range(kh) for j in range(kw) for c in range(channels)]


def _seen(lines, b, window, window_size, size, strides, kernel_shape, dtype):
    """What each weight sees of a window, [h, w] each, in the order of _taps: strided slices."""
    (h, w), (sh, sw) = size, strides
    (wh, ww), channels = window_size, kernel_shape[2]
    crop = lax.dynamic_slice(lines, (b, window[0], window[1] * channels), (1, wh, ww * channels))
    crop = crop.reshape(wh, ww, channels)
    for i, j, c in _taps(kernel_shape):
        limit = (i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, c + 1)
        yield lax.slice(crop, (i, j, c), limit, (sh, sw, 1))[..., 0].astype(dtype)


def _strided_forward(strides, window_size, size, lines, b, windows, weights):
    """One image's output [F, h, w]."""

    def one_filter(window_weights):
        window, weights = window_weights
        seen = _seen(lines, b, window, window_size, size, strides, weights.shape, weights.dtype)
        return sum(weight * pixels for weight, pixels in zip(weights.reshape(-1), seen))

    return lax.map(one_filter, (windows, weights))


def _strided_gradient(strides, window_size, kernel_shape, lines, b, windows, g):
    """One image's share of the gradient, [F, kh, kw, C]."""

    def one_filter(window_g):
        window, g = window_g
        seen = _seen(lines, b, window, window_size, g.shape, strides, kernel_shape[:3], g.dtype)
        return jnp.stack([jnp.sum(g * pixels) for pixels in seen]).reshape(kernel_shape[:3])

    return lax.map(one_filter, (windows, g))


def _on_planes(form, size, strides, kernel_shape, lines, b, windows, operand):
    """form(planes, operand) for planes [sw * C, F, rows, groups] of the lines' dtype.

    Pixel x of a row of a window, channel c, lies in plane (x % sw) * C + c at x // sw. Whole groups are read, up to
    sw - 1 pixels more than the window; where these would lie right of the image for one of its windows, zeros stand for
    them in all. No weight sees them. The windows' places become those of one gather, which reads runs of bytes like
    slices. XLA's CPU compiler shares the sums out between the cores in the branches of a `cond`, but not in a loop's
    body, where it writes them straight into the loop's output.
    """
    (h, w), (sh, sw), (kh, kw, channels) = size, strides, kernel_shape
    rows, columns, groups = (h - 1) * sh + kh, (w - 1) * sw + kw, w + -(-kw // sw) - 1
    width, reach = lines.shape[2] // channels, groups * sw

    def read(pixels, lines, b, windows, operand):
        def crop(window):
            return lax.dynamic_slice(lines, (b, window[0], window[1] * channels), (1, rows, pixels * channels))[0]

        # Without the barriers, windows are gathered byte by byte for every plane, and regrouped for every weight.
        crops = lax.optimization_barrier(jax.vmap(crop)(windows))
        planes = [crops[..., plane :: sw * channels] for plane in range(sw * channels)]
        planes = jnp.stack([jnp.pad(plane, ((0, 0), (0, 0), (0, groups - plane.shape[2]))) for plane in planes])
        return form(lax.optimization_barrier(planes), operand)

    inside = (windows[:, 1] + reach <= width).all()
    return lax.cond(inside, partial(read, min(reach, width)), partial(read, columns), lines, b, windows, operand)


def _regrouped_forward(strides, size, lines, b, windows, weights):
    """As _strided_forward, all filters at once."""
    (h, w), (sh, sw), channels = size, strides, weights.shape[3]

    def convolve(planes, weights):
        def seen(i, j, c):
            plane = planes[(j % sw) * channels + c]
            return plane[:, i : i + (h - 1) * sh + 1 : sh, j // sw : j // sw + w].astype(weights.dtype)

        return sum(weights[:, i, j, c, None, None] * seen(i, j, c) for i, j, c in _taps(weights.shape[1:]))

    return _on_planes(convolve, size, strides, weights.shape[1:], lines, b, windows, weights)


def _regrouped_gradient(strides, kernel_shape, lines, b, windows, g):
    """As _strided_gradient, all filters at once, strip by strip: first over rows, each column apart: it vectorises."""
    (_, h, w), (sh, sw), (kh, kw, channels) = g.shape, strides, kernel_shape[:3]
    shifts = range(-(-kw // sw))

    def add(number, y, planes, g, sums):
        """sums + what `number` output rows from row y on give: for each shift [the pixels it sees * C, F, kh, w]."""
        planes = lax.dynamic_slice_in_dim(planes, y * sh, (number - 1) * sh + kh, 2)
        planes, g = lax.optimization_barrier((planes, lax.dynamic_slice_in_dim(g, y, number, 1)))

        def seen(r, shift, pixels):
            return planes[:pixels, :, r * sh : r * sh + kh, shift : shift + w].astype(g.dtype)

        return [
            total + sum(seen(r, shift, len(total)) * g[:, r, None] for r in range(number))
            for shift, total in zip(shifts, sums)
        ]

    def over_rows(planes, g):
        def add_strip(n, sums):  # the condition holds: see _on_planes
            return lax.cond(n >= 0, partial(add, STRIP), lambda *args: args[-1], n * STRIP, planes, g, sums)

        pixels = [min(sw, kw - shift * sw) for shift in shifts]
        sums = [_zeros((n * channels, len(g), kh, w), g.dtype, g) for n in pixels]
        if h >= STRIP:
            sums = lax.fori_loop(0, h // STRIP, add_strip, sums)
        if h % STRIP:
            sums = add(h % STRIP, h - h % STRIP, planes, g, sums)
        sums = jnp.concatenate([total.sum(3) for total in sums])
        return jnp.moveaxis(sums, 0, 2).reshape(-1, kh, kw, channels)

    return _on_planes(over_rows, (h, w), strides, kernel_shape[:3], lines, b, windows, g)


def _spread(g, weights, strides, window_size):
    """The gradient [wh, ww, C] of one window: each output's, times each weight, where that weight read."""
    (wh, ww), (h, w), (sh, sw) = window_size, g.shape, strides

    def tap(i, j):
        rows = (i, wh - i - (h - 1) * sh - 1, sh - 1)
        columns = (j, ww - j - (w - 1) * sw - 1, sw - 1)
        return lax.pad(g, jnp.zeros((), g.dtype), (rows, columns))[..., None] * weights[i, j]

    return sum(tap(i, j) for i in range(weights.shape[0]) for j in range(weights.shape[1]))
