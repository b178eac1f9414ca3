"""Devices: one axis, 'data', over all devices of all hosts. Batches are split along it, and parameters may be."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
# Elements below which an array is not worth splitting: fetching it would cost more than keeping it.
SMALLEST_SPLIT = 4096


def create(devices: Sequence[jax.Device] = ()) -> Mesh:
    """A mesh of `devices`, or of every device there is, those of process 0 first, then those of process 1 and so on.

    Each process reads its block of a batch, and the blocks in order are the batch. In the order of `jax.make_mesh`,
    along a TPU pod's torus, the processes' devices alternate, and so would their rows.
    """
    devices = devices or jax.devices()
    along = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    blocks = sorted(along.devices, key=lambda device: device.process_index)
    return Mesh(np.array(blocks), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split along the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def placement(mesh: Mesh, *, split: bool) -> Callable[[Sequence[int]], NamedSharding]:
    """Where an array of the train state rests, as a function of its shape.

    Whole on every device; or, with `split`, along its longest axis that the devices divide, if it has one and is not
    small.
    """

    def place(shape: Sequence[int]) -> NamedSharding:
        axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
        if not (split and axes) or math.prod(shape) < SMALLEST_SPLIT:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    return place


def constrain(tree: Any, place: Callable[[Sequence[int]], NamedSharding]) -> Any:
    """Inside jit: the arrays of `tree`, each where `place` puts its shape."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, place(x.shape)), tree)


def check_batch_size(batch_size: int, mesh: Mesh, key: str, parts: int = 1) -> None:
    """ValueError if `batch_size`, of config key `key`, cannot be split evenly over devices, and there in `parts`."""
    unit = mesh.size * parts
    if batch_size < 1 or batch_size % unit:
        nearest = max(unit, round(batch_size / unit) * unit)
        times = f", {parts} parts each" if parts > 1 else ""
        raise ValueError(
            f"{key}={batch_size} cannot be split evenly over {mesh.size} devices{times}; set a multiple of {unit}, "
            f"for example --{key}={nearest}"
        )


def to_devices(batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Each host's rows as global arrays split over the devices.

    They are on their way there while the step before runs, for which nobody waits: see `loop.EpochAccumulator`.
    """
    sharding = batch_sharding(mesh)
    for batch in batches:
        yield {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
