"""Topologies of TPUs by name. Tests that compile for them are skipped without libtpu (requirements-tpu.txt)."""

import importlib.util
import math

import jax
import pytest

from stochconv_jax.planning import cost, targets
from stochconv_jax.runtime import mesh as meshes

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason="libtpu is not installed: see requirements-tpu.txt")


@pytest.mark.parametrize("topology", ["v9:2x2", "v5e", "v5e:4", "v5e:2x2x2x2", "v5e:axb"])
def test_an_unknown_topology_is_refused_with_the_known_ones(topology):
    with pytest.raises(ValueError, match=r"`topology`=.*v4, v5e, v5p, v6e.*'v5e:16x16'"):
        targets.mesh_of(topology)


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_without_libtpu_the_requirements_are_named():
    with pytest.raises(RuntimeError, match=r"needs libtpu.*requirements-tpu\.txt"):
        targets.mesh_of("v5e:2x2")


def test_devices_at_hand_have_no_known_peak_rates():
    chip = targets.chip_of(meshes.create())
    assert chip.kind == jax.devices()[0].device_kind and chip.flops == 0


@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:1x1", "v5e:16x16", "v4:2x2x2", "v5p:2x2x2", "v6e:16x16"])
def test_a_topology_has_a_device_a_chip_of_the_kind_in_the_table(topology):
    mesh = targets.mesh_of(topology)
    kind, shape = topology.split(":")
    assert mesh.size == math.prod(map(int, shape.split("x")))
    assert targets.chip_of(mesh) == targets.CHIPS[kind]
    processes = [device.process_index for device in mesh.devices]
    assert processes == sorted(processes)


@needs_libtpu
@pytest.mark.parametrize("kind", targets.CHIPS)
def test_the_memory_in_the_table_is_what_the_compiler_hands_out(kind):
    mesh = targets.mesh_of(f"{kind}:2x2" + ("x1" if kind in ("v4", "v5p") else ""))
    whole = jax.ShapeDtypeStruct((100 * targets.GIB // 512, 128), "float32", sharding=meshes.replicated(mesh))
    limit = rf"\({targets.CHIPS[kind].memory / targets.GIB:.2f}G\)"
    with pytest.raises(jax.errors.JaxRuntimeError, match=limit) as refused:
        jax.jit(lambda x: x + 1).lower(whole).compile()
    assert cost._bytes_named(str(refused.value)) >= 100 * targets.GIB
