"""Devices: one axis, 'data', over all devices of all hosts. Batches are split along it, the rest is replicated."""
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def create(devices: Sequence[jax.Device] = ()) -> Mesh:
    """A mesh of `devices`, or of every device there is."""
    devices = devices or jax.devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split along the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(batch_size: int, mesh: Mesh, key: str) -> None:
    """ValueError if `batch_size`, the value of config key `key`, cannot be split evenly over the devices."""
    if batch_size < 1 or batch_size % mesh.size:
        nearest = max(mesh.size, round(batch_size / mesh.size) * mesh.size)
        raise ValueError(
            f"{key}={batch_size} cannot be split evenly over {mesh.size} devices; set a multiple of {mesh.size}, "
            f"for example --{key}={nearest}"
        )


def to_devices(batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Each host's rows as global arrays split over the devices, one batch ahead of the one in use."""
    sharding, ahead = batch_sharding(mesh), None
    for batch in batches:
        arrays = {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
        if ahead is not None:
            yield ahead
        ahead = arrays
    if ahead is not None:
        yield ahead
