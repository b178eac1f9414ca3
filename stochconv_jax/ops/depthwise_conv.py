"""Depthwise convolution: shifted multiply-adds on the CPU, the library's convolution elsewhere."""
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from stochconv_jax.ops.per_device import per_device, varying_alike

Padding = Literal["SAME", "VALID"]
Size = tuple[int, int]


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, strides: Size, padding: Padding = "SAME") -> jax.Array:
    """Convolves each channel with its own filter.

    Args:
      x: float [B, H, W, C].
      kernel: float [kh, kw, C], of x's dtype.
      strides: (sh, sw).
      padding: 'SAME' as TensorFlow pads (output ceil(H / sh); the odd pixel goes below and to the right), or
        'VALID' (output (H - kh) // sh + 1).

    Returns:
      [B, h, w, C] of x's dtype.

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
    form = partial(_by_platform, tuple(strides), pads)
    return per_device(form, x, kernel, batched=(True, False))


def _by_platform(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    shifted, library = partial(_shifted, strides, pads), partial(_library, strides, pads)
    return lax.platform_dependent(*varying_alike(x, kernel), cpu=shifted, default=library)


def _library(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel[:, :, None, :], strides, pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[3],
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    size = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], (kh, kw), strides))
    return sum(_shift(x, i, j, size, strides) * kernel[i, j] for i in range(kh) for j in range(kw))


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
    kh, kw = kernel.shape[:2]
    (top, _), (left, _) = pads

    def tap(i, j):
        """g * kernel[i, j] where that tap read it, cut to x: a negative pad crops."""
        rows = (i - top, shape[1] - i + top - (g.shape[1] - 1) * strides[0] - 1, strides[0] - 1)
        columns = (j - left, shape[2] - j + left - (g.shape[2] - 1) * strides[1] - 1, strides[1] - 1)
        return lax.pad(g * kernel[i, j], jnp.zeros((), g.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))

    return sum(tap(i, j) for i in range(kh) for j in range(kw))


def _kernel_gradient(strides: Size, pads: tuple, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Row by row, the sums over batch and columns left to the end: a fused reduction over rows is slower."""
    kh, kw, channels = kernel.shape
    (batch, height, width), (sh, sw) = g.shape[:3], strides
    taps = [(i, j) for i in range(kh) for j in range(kw)]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))

    def add_row(y, sums):
        rows = lax.dynamic_slice_in_dim(x, y * sh, kh, axis=1).astype(jnp.float32)
        row = lax.dynamic_index_in_dim(g, y, axis=1, keepdims=False).astype(jnp.float32)

        def tap(i, j):
            seen = lax.slice(rows[:, i], (0, j, 0), (batch, j + (width - 1) * sw + 1, channels), (1, sw, 1))
            return sum(seen[b] * row[b] for b in range(batch))

        return tuple(total + tap(i, j) for total, (i, j) in zip(sums, taps))

    zeros, _ = varying_alike(jnp.zeros((width, channels)), g)
    sums = lax.fori_loop(0, height, add_row, (zeros,) * len(taps))
    return jnp.stack([total.sum(0) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)


_shifted.defvjp(_shifted_fwd, _shifted_bwd)
