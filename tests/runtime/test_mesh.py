"""The mesh: the order of its devices, and where arrays and rows of batches are placed."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from stochconv_jax.runtime import mesh as meshes


@dataclasses.dataclass(frozen=True)
class Device:
    id: int
    process_index: int
    platform: str = "tpu"


def test_the_devices_of_a_process_lie_together(monkeypatch):
    """The blocks of a batch are in the order of the hosts too; along a torus, hosts alternate."""
    devices = [Device(id=number, process_index=number % 2) for number in range(8)]
    along_torus = types.SimpleNamespace(devices=np.array(devices[::-1]))
    monkeypatch.setattr(jax, "make_mesh", lambda *_, **__: along_torus)
    assert [device.id for device in meshes.create(devices).devices] == [6, 4, 2, 0, 7, 5, 3, 1]


def test_an_array_is_split_along_its_longest_axis_that_the_devices_divide():
    mesh = meshes.create()
    place = meshes.placement(mesh, split=True)
    assert place((40, 128)).spec == P(None, "data") and place((3, 3, 64, 60)).spec == P(None, None, "data")
    assert place((1001, 999)).spec == P() and place((8, 8)).spec == P() and place(()).spec == P()
    assert meshes.placement(mesh, split=False)((40, 128)).spec == P()


def test_each_device_gets_consecutive_rows_of_a_batch():
    mesh, rows = meshes.create(), np.arange(32).reshape(16, 2)
    (batch,) = meshes.to_devices([{"image": rows}], mesh)
    np.testing.assert_array_equal(batch["image"], rows)
    for shard in batch["image"].addressable_shards:
        first = 2 * list(mesh.devices).index(shard.device)
        np.testing.assert_array_equal(shard.data, rows[first : first + 2])


def test_a_batch_that_cannot_be_divided_is_refused_with_the_nearest_size():
    mesh = meshes.create()
    meshes.check_batch_size(32, mesh, "batch_size", parts=4)
    with pytest.raises(ValueError, match=r"batch_size=30 .* 8 devices; .* multiple of 8, for example --batch_size=32"):
        meshes.check_batch_size(30, mesh, "batch_size")
    with pytest.raises(ValueError, match=r"8 devices, 4 parts each; .* --batch_size=32"):
        meshes.check_batch_size(16, mesh, "batch_size", parts=4)
