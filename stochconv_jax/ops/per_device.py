"""What the operations share: each device's own share of the batch, and the type of sums."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

DATA_AXIS = "data"


def per_device(
    form: Callable[..., jax.Array], *arrays: jax.Array, batched: Sequence[bool], auto: bool = True
) -> jax.Array:
    """form(*arrays), each device on its own rows of the batch where a mesh in context shares it out.

    A loop over rows or images inside `form` would otherwise make the compiler gather the whole batch on every
    device. The mesh is that of `jax.set_mesh`, if its axis 'data' is Auto and divides the batch; without one
    `form` runs as it stands. Of Explicit axes, of any name, those count that the first array has its batch spread
    over; what is spread otherwise is gathered. The result's batch is spread alike. Gradients of arrays that are not
    batched are summed over the devices.

    Args:
      form: a function of arrays whose result has the batch in front.
      arrays: its arguments; the first has the batch in front.
      batched: for each, whether its first axis is the batch. The others are the same on every device.
      auto: whether an Auto axis counts: the compiler shares out by itself what has no loop.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    manual = {name for name, kind in kinds.items() if kind == AxisType.Explicit}
    names = _batch_axes(arrays[0]) if manual else ()
    if manual:
        arrays = [jax.sharding.reshard(array, P(names) if rows else P()) for array, rows in zip(arrays, batched)]
    share = len(arrays[0]) // math.prod(mesh.shape[name] for name in names)
    if auto and kinds.get(DATA_AXIS) == AxisType.Auto and share % mesh.shape[DATA_AXIS] == 0:
        manual, names = manual | {DATA_AXIS}, (*names, DATA_AXIS)
    if manual:
        rows = P(names if len(names) > 1 else names[0]) if names else P()
        in_specs = tuple(rows if of_batch else P() for of_batch in batched)
        form = jax.shard_map(form, in_specs=in_specs, out_specs=rows, axis_names=manual)
    return form(*arrays)


def _batch_axes(array: jax.Array) -> tuple[str, ...]:
    """The Explicit mesh axes that the first axis of `array` is spread over."""
    spread = (*jax.typeof(array).sharding.spec, None)[0]
    return (spread,) if isinstance(spread, str) else tuple(spread or ())


def varying_alike(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays, each varying over every manual mesh axis that any of them varies over.

    A gradient rule must return its cotangents so typed; jax.shard_map then sums them over the devices.
    Adding a zero that depends on the others does it by public means, and the compiler drops it.
    """
    if AxisType.Manual not in jax.sharding.get_abstract_mesh().axis_types:
        return list(arrays)
    zero = sum((array[(0,) * array.ndim] > 0).astype(jnp.int8) * jnp.int8(0) for array in arrays)
    return [array + zero.astype(array.dtype) for array in arrays]


def sum_dtype(dtype):
    """What sums for a result of `dtype` are made in: float32 at least."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32
