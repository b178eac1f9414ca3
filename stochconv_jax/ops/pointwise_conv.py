"""The 1x1 convolution, with a kernel gradient that the CPU's compiler does not transpose activations for."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from stochconv_jax.ops.per_device import per_device, varying_alike


def pointwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The products of every pixel's channels with a matrix.

    Args:
      x: float [..., C].
      kernel: float [C, F], of x's dtype.

    Returns:
      [..., F] of x's dtype. Differentiable in reverse, as often as wanted.

    Raises:
      ValueError: shapes or dtypes that do not fit.
    """
    if kernel.ndim != 2 or x.ndim < 2 or x.shape[-1] != kernel.shape[0] or x.dtype != kernel.dtype:
        raise ValueError(
            f"pointwise_conv wants x [..., C] and kernel [C, F] of one dtype, "
            f"not {x.dtype}{list(x.shape)} and {kernel.dtype}{list(kernel.shape)}"
        )
    return per_device(_with_alike, x, kernel, batched=(True, False), auto=False)


def _with_alike(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _with_rule(*varying_alike(x, kernel))


@jax.custom_vjp
def _with_rule(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.tensordot(x, kernel, 1)


def _rule_fwd(x: jax.Array, kernel: jax.Array):
    return _with_rule(x, kernel), (x, kernel)


def _rule_bwd(residuals, g: jax.Array):
    x, kernel = residuals
    for_kernel = lax.platform_dependent(x, g, cpu=_over_rows, default=_over_pixels)
    return jnp.tensordot(g, kernel.T, 1), for_kernel


_with_rule.defvjp(_rule_fwd, _rule_bwd)


def _over_pixels(x: jax.Array, g: jax.Array) -> jax.Array:
    """The kernel's gradient [C, F]."""
    pixels = tuple(range(x.ndim - 1))
    return jnp.tensordot(x, g, (pixels, pixels))


def _over_rows(x: jax.Array, g: jax.Array) -> jax.Array:
    """As _over_pixels. Of sums over several axes XLA makes matrix products with one operand transposed, and on the CPU
    fuses that with what computes it: at 112x112x96 a fifth of B0's training step. Over one axis it transposes nothing.
    Elsewhere merging the axes could itself be a copy, since tiles cover rows of pixels.
    """
    rows = math.prod(x.shape[:-1])
    return _over_pixels(x.reshape(rows, x.shape[-1]), g.reshape(rows, g.shape[-1]))
