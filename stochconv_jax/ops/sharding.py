"""Runs an operation on each device's own shard of the batch."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

DATA_AXIS = "data"


def map_batch_shards(
    function: Callable[..., jax.Array], *arrays: jax.Array, batched: Sequence[bool], auto: bool = True
) -> jax.Array:
    """Returns `function(*arrays)`, computed by each device on its own rows of the batch.

    Without it, the compiler would gather the whole batch on every device for a loop over rows inside `function`.
    The mesh is that of `jax.set_mesh`; without a mesh this is a plain call. Two kinds of mesh axes count:

    - an Auto axis named 'data', if its size divides the batch;
    - the Explicit axes, of any name, over which the first axis of the first array is sharded. Arrays that are sharded
      in another way are resharded first.

    The batch of the result is sharded like that of the first array. Gradients of arrays without a batch axis are summed
    over the devices.

    Args:
      function: a function of arrays whose result has the batch as its first axis.
      arrays: the arguments of `function`; the first axis of the first array is the batch.
      batched: for each array, whether its first axis is the batch. Other arrays are the same on every device.
      auto: whether the Auto axis counts. Pass False for a function without loops, which the compiler partitions well.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    manual = {name for name, kind in kinds.items() if kind == AxisType.Explicit}
    names = _explicit_batch_axes(arrays[0]) if manual else ()
    if manual:
        arrays = tuple(jax.sharding.reshard(array, P(names) if rows else P()) for array, rows in zip(arrays, batched))
    shard_rows = arrays[0].shape[0] // math.prod(mesh.shape[name] for name in names)
    if auto and kinds.get(DATA_AXIS) == AxisType.Auto and shard_rows % mesh.shape[DATA_AXIS] == 0:
        manual, names = manual | {DATA_AXIS}, (*names, DATA_AXIS)
    if manual:
        batch_spec = P(names[0] if len(names) == 1 else names) if names else P()
        in_specs = tuple(batch_spec if rows else P() for rows in batched)
        function = jax.shard_map(function, in_specs=in_specs, out_specs=batch_spec, axis_names=manual)
    return function(*arrays)


def _explicit_batch_axes(array: jax.Array) -> tuple[str, ...]:
    """Returns the names of the Explicit mesh axes over which the first axis of `array` is sharded."""
    axes = (*jax.typeof(array).sharding.spec, None)[0]
    return (axes,) if isinstance(axes, str) else tuple(axes or ())


def match_varying_axes(*arrays: jax.Array) -> list[jax.Array]:
    """Returns the arrays, each typed as varying over every manual mesh axis over which any of them varies.

    Inside `jax.shard_map`, a custom gradient rule must return cotangents of such a type; shard_map then sums them over
    the devices. Adding a zero that depends on the other arrays changes the type with public functions alone, and the
    compiler removes the addition.
    """
    if AxisType.Manual not in jax.sharding.get_abstract_mesh().axis_types:
        return list(arrays)
    zero = cast(jax.Array, sum((array[(0,) * array.ndim] > 0).astype(jnp.int8) * jnp.int8(0) for array in arrays))
    return [array + zero.astype(array.dtype) for array in arrays]
