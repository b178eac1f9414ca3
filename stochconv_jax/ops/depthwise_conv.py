"""Depthwise convolution: shifted multiply-adds on the CPU, the library's convolution elsewhere."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from stochconv_jax.ops.per_device import per_device, sum_dtype, varying_alike

Padding = Literal["SAME", "VALID"]
Size = tuple[int, int]
ROWS = 7  # about how many the kernel's gradient sums at once: fewer are slower, more take longer to compile


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, strides: Size, padding: Padding = "SAME") -> jax.Array:
    """Convolves each channel with its own filter.

    Args:
      x: float [B, H, W, C].
      kernel: float [kh, kw, C], of x's dtype.
      strides: (sh, sw).
      padding: 'SAME' as TensorFlow pads (output ceil(H / sh); the odd pixel goes below and to the right), or
        'VALID' (output (H - kh) // sh + 1).

    Returns:
      [B, h, w, C] of x's dtype, summed in float32 at least on a CPU.

    Raises:
      ValueError: shapes, dtypes or padding that do not fit, an input smaller than the kernel under 'VALID'.
    """
    if x.ndim != 4 or kernel.ndim != 3 or x.shape[3] != kernel.shape[2] or x.dtype != kernel.dtype:
        raise ValueError(
            f"depthwise_conv wants x [B, H, W, C] and kernel [kh, kw, C] of one dtype, "
            f"not {x.dtype}{list(x.shape)} and {kernel.dtype}{list(kernel.shape)}"
        )
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding must be SAME or VALID, not {padding!r}")
    if padding == "VALID" and (x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]):
        raise ValueError(
            f"the input ({x.shape[1]}x{x.shape[2]}) is smaller than the kernel "
            f"({kernel.shape[0]}x{kernel.shape[1]}): use padding='SAME'"
        )
    pads = tuple(lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding))
    if not x.size:
        size = ((n + sum(pad) - k) // s + 1 for n, pad, k, s in zip(x.shape[1:3], pads, kernel.shape, strides))
        return jnp.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
    form = partial(_by_platform, tuple(strides), pads)
    return per_device(form, x, kernel, batched=(True, False))


def _by_platform(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    shifted, library = partial(_shifted, strides, pads), partial(_library, strides, pads)
    return lax.platform_dependent(*varying_alike(x, kernel), cpu=shifted, default=library)


def _library(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        strides,
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    (kh, kw), wide = kernel.shape[:2], sum_dtype(x.dtype)
    x, kernel = jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.astype(wide)
    size = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], (kh, kw), strides))
    taps = (_shift(x, i, j, size, strides).astype(wide) * kernel[i, j] for i in range(kh) for j in range(kw))
    return sum(taps).astype(x.dtype)


def _shift(x: jax.Array, i: int, j: int, size: Size, strides: Size) -> jax.Array:
    """What tap (i, j) of the kernel sees of the padded x: [B, h, w, C]."""
    (h, w), (sh, sw) = size, strides
    limit = (x.shape[0], i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, x.shape[3])
    return lax.slice(x, (0, i, j, 0), limit, (1, sh, sw, 1))


def _shifted_fwd(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array):
    return _shifted(strides, pads, x, kernel), (x, kernel)


def _shifted_bwd(strides: Size, pads: tuple, residuals, g: jax.Array):
    x, kernel = residuals
    return _input_gradient(strides, pads, x.shape, kernel, g), _kernel_gradient(strides, pads, x, kernel, g)


def _input_gradient(strides: Size, pads: tuple, shape: tuple, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Pixels of x that lie alike in the grid of strides see the same taps: for each such phase, shifted slices of g."""
    (batch, height, width, channels), (h, w) = shape, g.shape[1:3]
    size = tuple(-(-n // s) for n, s in zip((height, width), strides))
    rows, columns = (_phases(k, s, pad[0]) for k, s, pad in zip(kernel.shape, strides, pads))
    margins = [_margin(phases, n, m) for phases, n, m in zip((rows, columns), size, (h, w))]
    wide, dtype = sum_dtype(g.dtype), g.dtype
    kernel = kernel.astype(wide)
    # The barrier keeps the compiler from computing g anew for every tap.
    g = lax.optimization_barrier(jnp.pad(g, ((0, 0), *margins, (0, 0))))

    def phase(row_taps, column_taps):
        seen = [(i, y, j, x) for i, y in row_taps for j, x in column_taps]
        if not seen:
            return jnp.zeros((batch, *size, channels), dtype)
        (top, _), (left, _) = margins
        taps = (_shift(g, top + y, left + x, size, (1, 1)).astype(wide) * kernel[i, j] for i, y, j, x in seen)
        return sum(taps).astype(dtype)

    lines = [jnp.stack([phase(row, column) for column in columns], axis=3) for row in rows]
    return jnp.stack(lines, axis=2).reshape(batch, -1, size[1] * strides[1], channels)[:, :height, :width]


def _phases(kernel: int, stride: int, pad: int) -> list[list[tuple[int, int]]]:
    """For each phase p of an axis: (tap, shift) where that tap read pixel `stride * y + p` for output `y + shift`."""
    return [
        [(tap, (phase + pad - tap) // stride) for tap in range(kernel) if (phase + pad - tap) % stride == 0]
        for phase in range(stride)
    ]


def _margin(phases: list[list[tuple[int, int]]], size: int, outputs: int) -> tuple[int, int]:
    """Zeros to put before and after an axis of `outputs`, so that `size` of them can be read at every shift."""
    shifts = [0, *(shift for taps in phases for _, shift in taps)]
    return max(0, -min(shifts)), max(0, max(shifts) + size - outputs)


def _kernel_gradient(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Sums about ROWS rows of one image at a time, columns apart: a reduction over all of them at once is slower."""
    kh, kw, channels = kernel.shape
    (batch, height, width), sh = g.shape[:3], strides[0]
    taps = [(i, j) for i in range(kh) for j in range(kw)]
    strips = max(1, height // ROWS)  # of an image
    rows = -(-height // strips)
    missing = strips * rows - height  # rows of zeros below g, which add nothing
    g = jnp.pad(g, ((0, 0), (0, missing), (0, 0), (0, 0)))
    x = jnp.pad(x, ((0, 0), (pads[0][0], pads[0][1] + missing * sh), pads[1], (0, 0)))

    wide = sum_dtype(kernel.dtype)

    def add_strip(number, sums):
        b, y = number // strips, number % strips * rows
        lines = lax.dynamic_slice(x, (b, y * sh, 0, 0), (1, (rows - 1) * sh + kh, *x.shape[2:]))
        outputs = lax.dynamic_slice(g, (b, y, 0, 0), (1, rows, width, channels))
        lines, outputs = lax.optimization_barrier((lines.astype(wide), outputs.astype(wide)))
        outputs = [lax.slice_in_dim(outputs, row, row + 1, axis=1) for row in range(rows)]

        def tap(i, j):
            return sum(_shift(lines, i + row * sh, j, (1, width), strides) * outputs[row] for row in range(rows))

        return tuple(total + tap(i, j) for total, (i, j) in zip(sums, taps))

    zeros, _ = varying_alike(jnp.zeros((1, 1, width, channels), wide), g)
    sums = lax.fori_loop(0, batch * strips, add_strip, (zeros,) * len(taps))
    return jnp.stack([total.sum((0, 1, 2)) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)


_shifted.defvjp(_shifted_fwd, _shifted_bwd)
