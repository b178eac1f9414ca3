"""The device mesh: one axis, 'data', over all devices of all hosts, along which batches and parameters are sharded."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
# Arrays with fewer elements are not sharded: fetching them would cost more than keeping them.
SMALLEST_SPLIT = 4096


def create(devices: Sequence[jax.Device] = ()) -> Mesh:
    """Returns a mesh of `devices`, by default of all, in the order of their processes.

    Each process reads one block of a batch, and the batch is these blocks in the order of the processes.
    `jax.make_mesh` orders devices along the torus of a TPU pod, which would interleave the rows of the processes.
    """
    devices = devices or jax.devices()
    along_torus = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    blocks = sorted(along_torus.devices, key=lambda device: device.process_index)
    return Mesh(np.array(blocks), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def placement(mesh: Mesh, *, split: bool) -> Callable[[Sequence[int]], NamedSharding]:
    """Returns a function from the shape of an array of the train state to its sharding.

    The array is replicated. With `split`, it is divided along the longest axis that the number of devices divides, if
    there is one and the array has `SMALLEST_SPLIT` elements or more.
    """

    def place(shape: Sequence[int]) -> NamedSharding:
        axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
        if not (split and axes) or math.prod(shape) < SMALLEST_SPLIT:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    return place


def constrain(tree: Any, place: Callable[[Sequence[int]], jax.sharding.Sharding]) -> Any:
    """Returns, inside jit, the arrays of `tree` with the sharding that `place` returns for their shapes."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, place(x.shape)), tree)


def check_batch_size(batch_size: int, mesh: Mesh, key: str, parts: int = 1) -> None:
    """Raises ValueError unless `batch_size`, the value of `key`, divides evenly over the devices, each in `parts`."""
    unit = mesh.size * parts
    if batch_size < 1 or batch_size % unit:
        nearest = max(unit, round(batch_size / unit) * unit)
        times = f", {parts} parts each" if parts > 1 else ""
        raise ValueError(
            f"{key}={batch_size} cannot be split evenly over {mesh.size} devices{times}; set a multiple of {unit}, "
            f"for example --{key}={nearest}"
        )


def to_devices(batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Yields global arrays, sharded over the devices, from each host's rows of the batches.

    The transfer overlaps with the step before, because the loop does not wait for that: see `loop.EpochAccumulator`.
    """
    sharding = batch_sharding(mesh)
    for batch in batches:
        yield {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
