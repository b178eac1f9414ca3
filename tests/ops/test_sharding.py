"""Operations run on each device's own rows of a batch; batches on Explicit axes are in test_every_mode.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops.sharding import map_batch_shards, match_varying_axes


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def rows_seen(batch, **settings):
    """Returns how many rows of a batch the mapped function is given, and checks its result."""
    seen = []

    def function(x, weights):
        seen.append(len(x))
        return x * weights

    x, weights = jnp.arange(batch * 3.0).reshape(batch, 3), jnp.arange(3.0)
    result = jax.jit(lambda *arrays: map_batch_shards(function, *arrays, batched=(True, False), **settings))(x, weights)
    np.testing.assert_array_equal(result, x * weights)
    return seen[-1]


def test_each_device_is_given_its_rows_where_the_mesh_divides_the_batch(mesh):
    assert rows_seen(16) == 16
    with jax.set_mesh(mesh):
        assert rows_seen(16) == 2
        assert rows_seen(12) == 12
        assert rows_seen(16, auto=False) == 16


def test_gradients_of_shared_arrays_are_summed_over_the_devices(mesh):
    x = jnp.arange(48.0).reshape(16, 3)

    @jax.custom_vjp
    def product(x, weights):
        return x * weights

    def backward(residuals, g):
        x, weights = residuals
        return g * weights, (g * x).sum(0)

    product.defvjp(lambda x, weights: (product(x, weights), (x, weights)), backward)

    def loss(weights):
        function = lambda *arrays: product(*match_varying_axes(*arrays))  # noqa: E731
        return map_batch_shards(function, x, weights, batched=(True, False)).sum()

    with jax.set_mesh(mesh):
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.ones(3)), x.sum(0))


def test_varying_axes_are_matched_and_values_kept(mesh):
    types = []

    def function(x, weights):
        matched = match_varying_axes(x, weights)
        types.extend(jax.typeof(array).manual_axis_type for array in matched)
        return matched[0] * matched[1]

    with jax.set_mesh(mesh):
        run = jax.jit(jax.shard_map(function, in_specs=(P("data"), P()), out_specs=P("data")))
        np.testing.assert_array_equal(run(jnp.arange(8.0), jnp.float32(3)), 3 * jnp.arange(8.0))
    assert types[0] == types[1]
