"""TPUs by name, such as 'v5e:16x16': devices to compile for on a machine that has none, and what a chip can do."""
import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from stochconv_jax.training import mesh as meshes

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at most; zero where that is not known.

    `kind`: as jax names it. `memory`: bytes of HBM that the compiler hands out, a little less than there are; libtpu
    0.0.50.1 names them when a program needs more. `flops`: bfloat16 operations a second; float32 products are made of
    bfloat16 ones by default. `bandwidth`: bytes a second between HBM and the core. `links`: bytes a second that a chip
    sends over all its links to others; half of the figure where the source counts both directions.
    """

    kind: str
    memory: float
    flops: float
    bandwidth: float
    links: float
    source: str


# Read in November 2026. v4's links are in "TPU v4: An Optically Reconfigurable Supercomputer" (Jouppi et al., 2023).
CHIPS = {
    "v4": Chip("TPU v4", 30.75 * GIB, 275e12, 1200e9, 300e9, "docs.cloud.google.com/tpu/docs/v4"),
    "v5e": Chip("TPU v5 lite", 15.75 * GIB, 197e12, 819e9, 200e9, "docs.cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip("TPU v5", 95.73 * GIB, 459e12, 2765e9, 600e9, "docs.cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip("TPU v6 lite", 31.24 * GIB, 918e12, 1638e9, 400e9, "docs.cloud.google.com/tpu/docs/v6e"),
}


def chip_of(mesh: Mesh) -> Chip:
    """What the devices of `mesh` can do: by the table, or, of other kinds, the memory that the device itself tells."""
    device = mesh.devices.flat[0]
    for chip in CHIPS.values():
        if chip.kind == device.device_kind:
            return chip
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return Chip(device.device_kind, memory, 0.0, 0.0, 0.0, "the device itself")


def mesh_of(topology: str) -> Mesh:
    """A mesh of the chips of `topology`, such as 'v5e:16x16', to compile for and not to run on.

    They need not be here, but libtpu must. This process's own devices become the CPU, unless they are in use already:
    another process may hold the machine's TPU. ValueError for a topology that there is not; RuntimeError naming
    requirements-tpu.txt where libtpu is missing.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", topology)
    if not found or found[1] not in CHIPS:
        raise ValueError(
            f"config.plan.topology={topology!r}: expected '', 'devices', or a TPU as KIND:AxB or KIND:AxBxC with KIND "
            f"one of {', '.join(CHIPS)}, for example 'v5e:16x16'"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise RuntimeError(
            f"config.plan.topology={topology!r} needs libtpu, the TPU's compiler: in an environment of its own, "
            "pip install -r requirements-tpu.txt"
        )
    # The compiler is to ask nothing of the machine it runs on, and several may run at a time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    jax.config.update("jax_platforms", "cpu")
    shape, options = tuple(map(int, found[2].split("x"))), {}
    if found[1] == "v4":
        options["chip_config_name"] = "megacore"  # one device a chip, as on the machine itself; v5p does so unasked
    if math.prod(shape) < 4:  # less than a host has
        options["chips_per_host_bounds"] = (*shape, 1)[:3]
    try:
        devices = topologies.get_topology_desc(topology, platform="tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"config.plan.topology={topology!r}: {error}") from error
    return meshes.create(devices)
