"""Topologies by name, such as 'v5e:16x16' or 'h100:4x8': devices to compile for that need not be present."""

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from stochconv_jax.planning.gpu_cards import CARDS, GIB, TOOLKIT, Card
from stochconv_jax.runtime import mesh as meshes

# Without the card, Triton's matrix products cannot be compiled, because they are tuned on it. All-reduces that the
# compiler combines would lose the names of their purposes; a real run has fewer of them, with the same bytes.
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_all_reduce_combine_threshold_bytes": 0}
GPU_COMPILER = ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc", "nvidia-nvvm")  # packages
LAUNCH_SECONDS = 4e-6  # to launch a kernel on a GPU, estimated as 3 to 5 microseconds


@dataclasses.dataclass(frozen=True)
class Chip:
    """The memory and the peak rates of one chip; zero where they are not known.

    Attributes:
      kind: JAX's name of the device kind.
      memory: bytes of HBM that the compiler may use, slightly less than the chip has; from libtpu 0.0.50.1, which names
        them if a program needs more.
      flops: bfloat16 operations per second; by default, float32 products are made of bfloat16 ones.
      bandwidth: bytes per second between HBM and the cores.
      links: bytes per second that the chip sends over all its links to other chips, half of the source's figure if that
        counts both directions.
      source: web page of the figures.
      launch: seconds to launch a kernel from the host; 0 where kernels are not launched one by one.
    """

    kind: str
    memory: float
    flops: float
    bandwidth: float
    links: float
    source: str
    launch: float = 0.0


# Read in November 2026. The links of v4 are from "TPU v4: An Optically Reconfigurable Supercomputer" (Jouppi et al.,
# 2023).
CHIPS = {
    "v4": Chip("TPU v4", 30.75 * GIB, 275e12, 1200e9, 300e9, "docs.cloud.google.com/tpu/docs/v4"),
    "v5e": Chip("TPU v5 lite", 15.75 * GIB, 197e12, 819e9, 200e9, "docs.cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip("TPU v5", 95.73 * GIB, 459e12, 2765e9, 600e9, "docs.cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip("TPU v6 lite", 31.24 * GIB, 918e12, 1638e9, 400e9, "docs.cloud.google.com/tpu/docs/v6e"),
}


def chip_of(mesh: Mesh) -> Chip:
    """Returns the chip of the devices of `mesh`: from the tables, or else with the memory that the device reports."""
    device = mesh.devices.flat[0]
    for chip in (*CHIPS.values(), *map(_of_card, CARDS.values())):
        if chip.kind == device.device_kind:
            return chip
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return Chip(device.device_kind, memory, 0.0, 0.0, 0.0, "the device itself")


def _of_card(card: Card) -> Chip:
    return Chip(card.kind, card.memory, card.flops, card.bandwidth, card.links, card.source, launch=LAUNCH_SECONDS)


def compiler_options(mesh: Mesh) -> dict[str, bool | int]:
    """Returns the options needed to compile for the devices of `mesh` if they are not present."""
    return GPU_OPTIONS if mesh.devices.flat[0].platform == "gpu" else {}


def mesh_of(topology: str) -> Mesh:
    """Returns a mesh of the devices of `topology`, such as 'v5e:16x16' or 'h100:4x8', to compile for but not to run on.

    The devices need not be present, but their compiler must be installed. JAX is restricted to the CPU, unless it has
    started already, so as to leave the machine's accelerator to other processes.

    Raises:
      ValueError: the topology is unknown; the message has the nearest name.
      RuntimeError: the compiler is missing; the message names the requirements file.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", topology)
    if not found or found[1] not in (*CHIPS, *CARDS):
        name = topology.partition(":")[0].lower()
        near = difflib.get_close_matches(name, (*CHIPS, *CARDS), n=1)
        raise ValueError(
            f"`topology`={topology!r}: expected '', 'devices', a TPU as KIND:AxB or KIND:AxBxC with KIND one "
            f"of {', '.join(CHIPS)}, for example 'v5e:16x16', or GPUs as KIND:HOSTSxGPUS with KIND one of "
            f"{', '.join(CARDS)}, for example 'h100:4x8'" + (f". Did you mean {near[0]!r}?" if near else "")
        )
    kind, shape = found[1], tuple(map(int, found[2].split("x")))
    jax.config.update("jax_platforms", "cpu")
    return meshes.create(_gpus(topology, kind, shape) if kind in CARDS else _tpus(topology, kind, shape))


def _gpus(topology: str, kind: str, shape: tuple[int, ...]) -> list[jax.Device]:
    if missing := _missing_gpu_compiler():
        raise RuntimeError(
            f"`topology`={topology!r} needs the GPU's compiler, but {missing}: in an environment of its own, "
            "pip install -r requirements-gpu-plan.txt"
        )
    if len(shape) != 2:
        raise ValueError(f"`topology`={topology!r}: expected {kind}:HOSTSxGPUS, for example '{kind}:1x8'")
    layout = "x".join(map(str, (1, *shape)))
    try:
        found = topologies.get_topology_desc(platform="cuda", topology=layout, target_config=CARDS[kind].target())
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"`topology`={topology!r}: {error}") from error
    return found.devices


def _missing_gpu_compiler() -> str:
    """Returns what this environment lacks to compile for a GPU, '' for nothing."""
    for package in GPU_COMPILER:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"{package} is not installed"
        if package.startswith("jax") and version != jax.__version__:
            return f"{package} is of version {version} and jax of {jax.__version__}"
        if package.startswith("nvidia") and version.split(".")[0] != str(TOOLKIT[0]):
            return f"{package} is of version {version}, not {TOOLKIT[0]}"
    return ""


def _tpus(topology: str, kind: str, shape: tuple[int, ...]) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise RuntimeError(
            f"`topology`={topology!r} needs libtpu, the TPU's compiler: in an environment of its own, "
            "pip install -r requirements-tpu.txt"
        )
    # Keep the compiler from querying the machine, and let several compilers run at a time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    options = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # one device per chip, as on the machine itself; the default of v5p
    if math.prod(shape) < 4:  # fewer chips than a host has
        options["chips_per_host_bounds"] = (*shape, 1)[:3]
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"`topology`={topology!r}: {error}") from error
