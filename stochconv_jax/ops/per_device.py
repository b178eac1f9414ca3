"""Running an op on each device's own share of the batch."""
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

DATA_AXIS = "data"


def per_device(form: Callable[..., jax.Array], *arrays: jax.Array, batched: Sequence[bool]) -> jax.Array:
    """form(*arrays), each device on its own rows of the batch where a mesh in context shares it out.

    A loop over rows or images inside `form` would otherwise make the compiler gather the whole batch on every
    device. The mesh is that of `jax.set_mesh`, if its axis 'data' is Auto and divides the batch; without one
    `form` runs as it stands. Gradients of arrays that are not batched are summed over the devices.

    Args:
      form: a function of arrays whose result has the batch in front.
      arrays: its arguments; the first has the batch in front.
      batched: for each, whether its first axis is the batch. The others are the same on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    if kinds.get(DATA_AXIS) == AxisType.Auto and arrays[0].shape[0] % mesh.shape[DATA_AXIS] == 0:
        in_specs = tuple(P(DATA_AXIS) if rows else P() for rows in batched)
        form = jax.shard_map(form, in_specs=in_specs, out_specs=P(DATA_AXIS), axis_names={DATA_AXIS})
    return form(*arrays)


def varying_alike(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays, each varying over every manual mesh axis that any of them varies over.

    A gradient rule must return its cotangents so typed; jax.shard_map then sums them over the devices.
    Adding a zero that depends on the others does it by public means, and the compiler drops it.
    """
    if AxisType.Manual not in jax.sharding.get_abstract_mesh().axis_types:
        return list(arrays)
    zero = sum((array[(0,) * array.ndim] > 0).astype(jnp.int8) * jnp.int8(0) for array in arrays)
    return [array + zero.astype(array.dtype) for array in arrays]
