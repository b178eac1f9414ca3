"""pointwise_conv equals a matrix product in float64, forward and backward, and transposes no activations on the CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.ops import pointwise_conv
from stochconv_jax.ops.pointwise_conv import _kernel_gradient, _kernel_gradient_flat


def drawn(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def output_and_gradients(x, kernel, g):
    out, back = jax.vjp(pointwise_conv, x, kernel)
    return out, *back(g)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (4, 1, 1, 6), (9, 6), (0, 5, 7, 6)])
def test_output_and_gradients_are_those_of_a_matrix_product(shape, dtype, tolerance):
    x, kernel, g = drawn(shape, dtype), drawn((6, 4), dtype, 1), drawn((*shape[:-1], 4), dtype, 2)
    rows, weights, back = (np.asarray(a, np.float64) for a in (x, kernel, g))
    rows, back = rows.reshape(-1, 6), back.reshape(-1, 4)
    wanted = (rows @ weights).reshape(g.shape), (back @ weights.T).reshape(shape), rows.T @ back
    for got, exact in zip(jax.jit(output_and_gradients)(x, kernel, g), wanted):
        assert got.dtype == dtype
        largest = np.abs(exact).max(initial=0)
        np.testing.assert_allclose(np.asarray(got, np.float64), exact, rtol=0, atol=tolerance * largest)


def test_both_forms_of_the_kernel_gradient_agree():
    x, g = drawn((3, 5, 7, 6), jnp.float32), drawn((3, 5, 7, 4), jnp.float32, 1)
    np.testing.assert_allclose(_kernel_gradient_flat(x, g), _kernel_gradient(x, g), rtol=1e-5, atol=1e-5)


def test_on_a_cpu_no_activations_are_transposed():
    shapes = [(8, 28, 28, 16), (16, 96), (8, 28, 28, 96)]
    program = jax.jit(output_and_gradients).lower(*(drawn(s, jnp.float32) for s in shapes)).compile()
    pixels = 8 * 28 * 28
    transposed = [f"f32[{channels},{pixels}]" for channels in (16, 96)]
    found = re.findall(r"f32\[\d+,\d+\]", program.as_text())
    assert f"f32[{pixels},96]" in found and not set(found) & set(transposed)


@pytest.mark.parametrize("x, kernel", [((2, 3), (4, 5)), ((3,), (3, 5)), ((2, 3), (3, 5, 1))])
def test_shapes_that_do_not_fit_are_refused(x, kernel):
    with pytest.raises(ValueError, match="pointwise_conv expects"):
        pointwise_conv(jnp.zeros(x), jnp.zeros(kernel))
    with pytest.raises(ValueError, match="one dtype"):
        pointwise_conv(jnp.zeros((2, 3)), jnp.zeros((3, 5), jnp.bfloat16))
