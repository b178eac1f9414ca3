"""Depthwise convolution: shifted multiply-adds on the CPU, XLA's convolution elsewhere."""

from functools import partial
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from stochconv_jax.ops.sharding import map_batch_shards, match_varying_axes

Padding = Literal["SAME", "SYMMETRIC", "VALID"]
Size = tuple[int, ...]  # two numbers, as in `windows.Size`
STRIP_ROWS = 7  # rows the kernel's gradient sums at once, roughly: fewer run slower, more compile slower


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels"],
    *,
    strides: Size,
    padding: Padding = "SAME",
) -> Float[Array, "batch output_height output_width channels"]:
    """Convolves each channel with its own filter.

    Args:
      x: float [B, H, W, C].
      kernel: float [kh, kw, C], of x's dtype.
      strides: (sh, sw), vertical and horizontal.
      padding: 'SAME' pads with zeros as TensorFlow does: the output has ceil(H / sh) rows, and if the number of padded
        rows or columns is odd, the additional one is below or on the right. 'SYMMETRIC' pads kh // 2 rows on both
        sides, as PyTorch's networks do, and kw // 2 columns. 'VALID' pads nothing: the output has (H - kh) // sh + 1
        rows.

    Returns:
      float [B, h, w, C] of x's dtype. On a CPU, sums are in float32 at least.

    Raises:
      ValueError: shapes or dtypes disagree, `padding` is unknown, or the input is smaller than the kernel and `padding`
        is 'VALID'.
    """
    if x.ndim != 4 or kernel.ndim != 3 or x.shape[3] != kernel.shape[2] or x.dtype != kernel.dtype:
        raise ValueError(
            f"depthwise_conv expects x [B, H, W, C] and kernel [kh, kw, C] of one dtype, "
            f"not {x.dtype}{list(x.shape)} and {kernel.dtype}{list(kernel.shape)}"
        )
    if padding not in Padding.__args__:
        raise ValueError(f"padding must be one of {', '.join(Padding.__args__)}, not {padding!r}")
    if padding == "VALID" and (x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]):
        raise ValueError(
            f"the input ({x.shape[1]}x{x.shape[2]}) is smaller than the kernel "
            f"({kernel.shape[0]}x{kernel.shape[1]}): use padding='SAME'"
        )
    if padding == "SYMMETRIC":
        pads = tuple((size // 2, size // 2) for size in kernel.shape[:2])
    else:
        pads = tuple(lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding))
    if not x.size:
        size = ((n + sum(pad) - k) // s + 1 for n, pad, k, s in zip(x.shape[1:3], pads, kernel.shape, strides))
        return jnp.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
    function = partial(_on_one_device, tuple(strides), pads)
    return map_batch_shards(function, x, kernel, batched=(True, False))


def _on_one_device(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    shifted, library = partial(_shifted, strides, pads), partial(_library, strides, pads)
    return lax.platform_dependent(*match_varying_axes(x, kernel), cpu=shifted, default=library)


def _library(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves by XLA's grouped convolution, with one group per channel."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        strides,
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


# `jax.jit` lets layers of equal shapes share a trace of this function, and of its gradients below. Without it, tracing
# and lowering a training step of B0's full split took 1.5 times as long.
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@partial(jax.jit, static_argnums=(0, 1))
def _shifted(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves by adding up, over the taps of the kernel, shifted slices of the input times the tap's weight."""
    (kh, kw), wide = kernel.shape[:2], np.promote_types(x.dtype, np.float32)
    x, kernel = jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.astype(wide)
    size = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], (kh, kw), strides))
    taps = (_shift(x, i, j, size, strides).astype(wide) * kernel[i, j] for i in range(kh) for j in range(kw))
    return cast(jax.Array, sum(taps)).astype(x.dtype)  # there is a tap, so this is not the 0 of an empty sum


def _shift(x: jax.Array, i: int, j: int, size: Size, strides: Size) -> jax.Array:
    """Returns the pixels of the padded x that tap (i, j) of the kernel reads, [B, *size, C]."""
    (h, w), (sh, sw) = size, strides
    limit = (x.shape[0], i + (h - 1) * sh + 1, j + (w - 1) * sw + 1, x.shape[3])
    return lax.slice(x, (0, i, j, 0), limit, (1, sh, sw, 1))


def _forward_rule(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array):
    return _shifted(strides, pads, x, kernel), (x, kernel)


def _backward_rule(strides: Size, pads: tuple, residuals, g: jax.Array):
    x, kernel = residuals
    return _input_gradient(strides, pads, x.shape, kernel, g), _kernel_gradient(strides, pads, x, kernel, g)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _input_gradient(strides: Size, pads: tuple, shape: tuple, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient of the input, of `shape` [B, H, W, C], from the cotangent g [B, h, w, C].

    Input pixels with equal (row % sh, column % sw), called a phase, are read by the same taps. The gradient of each
    phase is a sum of shifted slices of g; the phases are then interleaved. No scatter is needed.
    """
    (batch, height, width, channels), (h, w) = shape, g.shape[1:3]
    size = tuple(-(-n // s) for n, s in zip((height, width), strides))
    row_phases, column_phases = (_phases(k, s, pad[0]) for k, s, pad in zip(kernel.shape, strides, pads))
    margins = [_margin(phases, n, m) for phases, n, m in zip((row_phases, column_phases), size, (h, w))]
    wide, dtype = np.promote_types(g.dtype, np.float32), g.dtype
    kernel = kernel.astype(wide)
    # Without the barrier the compiler would compute g again for every tap.
    g = lax.optimization_barrier(jnp.pad(g, ((0, 0), *margins, (0, 0))))

    def phase_gradient(row_taps, column_taps):
        taps = [(i, y, j, x) for i, y in row_taps for j, x in column_taps]
        if not taps:
            return jnp.zeros((batch, *size, channels), dtype)
        (top, _), (left, _) = margins
        terms = (_shift(g, top + y, left + x, size, (1, 1)).astype(wide) * kernel[i, j] for i, y, j, x in taps)
        return cast(jax.Array, sum(terms)).astype(dtype)

    rows = [jnp.stack([phase_gradient(row, column) for column in column_phases], axis=3) for row in row_phases]
    return jnp.stack(rows, axis=2).reshape(batch, -1, size[1] * strides[1], channels)[:, :height, :width]


def _phases(kernel_size: int, stride: int, pad: int) -> list[list[tuple[int, int]]]:
    """Returns, for each phase of one axis, the (tap, shift) pairs that reach it.

    For output y + shift, the tap reads input pixel `stride * y + phase`. `pad` is the padding before the first pixel.
    """
    return [
        [(tap, (phase + pad - tap) // stride) for tap in range(kernel_size) if (phase + pad - tap) % stride == 0]
        for phase in range(stride)
    ]


def _margin(phases: list[list[tuple[int, int]]], size: int, outputs: int) -> tuple[int, int]:
    """Returns how many zeros to add before and after `outputs` values so that slices of `size` exist at every shift."""
    shifts = [0, *(shift for taps in phases for _, shift in taps)]
    return max(0, -min(shifts)), max(0, max(shifts) + size - outputs)


@partial(jax.jit, static_argnums=(0, 1))
def _kernel_gradient(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel [kh, kw, C] from the input x [B, H, W, C] and the cotangent g [B, h, w, C].

    A loop adds up strips of about STRIP_ROWS output rows of one image and keeps a sum for each column; the columns are
    added at the end. On a CPU that is faster than one reduction over all rows and columns.
    """
    kh, kw, channels = kernel.shape
    (batch, height, width), sh = g.shape[:3], strides[0]
    taps = [(i, j) for i in range(kh) for j in range(kw)]
    strips = max(1, height // STRIP_ROWS)  # per image
    rows = -(-height // strips)  # per strip
    missing = strips * rows - height  # rows of zeros below g, which add nothing
    g = jnp.pad(g, ((0, 0), (0, missing), (0, 0), (0, 0)))
    x = jnp.pad(x, ((0, 0), (pads[0][0], pads[0][1] + missing * sh), pads[1], (0, 0)))

    wide = np.promote_types(kernel.dtype, np.float32)

    def add_strip(number, sums):
        b, y = number // strips, number % strips * rows
        inputs = lax.dynamic_slice(x, (b, y * sh, 0, 0), (1, (rows - 1) * sh + kh, *x.shape[2:]))
        outputs = lax.dynamic_slice(g, (b, y, 0, 0), (1, rows, width, channels))
        inputs, outputs = lax.optimization_barrier((inputs.astype(wide), outputs.astype(wide)))
        outputs = [lax.slice_in_dim(outputs, row, row + 1, axis=1) for row in range(rows)]

        def tap_sum(i, j):
            return sum(_shift(inputs, i + row * sh, j, (1, width), strides) * outputs[row] for row in range(rows))

        return tuple(total + tap_sum(i, j) for total, (i, j) in zip(sums, taps))

    zeros, _ = match_varying_axes(jnp.zeros((1, 1, width, channels), wide), g)
    sums = lax.fori_loop(0, batch * strips, add_strip, (zeros,) * len(taps))
    return jnp.stack([total.sum((0, 1, 2)) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)


_shifted.defvjp(_forward_rule, _backward_rule)
