"""A table of GPUs with what the compiler must know of a card to compile for it without one."""

import dataclasses

GIB = 2**30
TOOLKIT = (13, 0, 0)  # version of CUDA to compile for
DNN = (9, 12, 0)  # version of cuDNN; newer ones run the same program


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU: what the compiler must know of it, and its peak rates.

    Attributes:
      kind: JAX's name of the device kind.
      capability: CUDA's compute capability.
      cores: number of streaming multiprocessors.
      units: float32 units per multiprocessor.
      shared: bytes of shared memory per multiprocessor.
      shared_block: largest part of them for one thread block, in bytes.
      l2: bytes of level 2 cache.
      clock: GHz.
      memory: bytes of memory.
      bandwidth: bytes per second between memory and the multiprocessors.
      flops: dense bfloat16 operations per second.
      links: bytes per second that the card sends to other cards of its host over NVLink.
      source: web page of the figures.
    """

    kind: str
    capability: tuple[int, int]
    cores: int
    units: int
    shared: int
    shared_block: int
    l2: int
    clock: float
    memory: int
    bandwidth: float
    flops: float
    links: float
    source: str

    def target(self) -> str:
        """Returns the description of the card as text of XLA's GpuTargetConfigProto."""
        major, minor = self.capability
        toolkit = ".".join(map(str, TOOLKIT))
        extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
        capability = f"major: {major} minor: {minor} feature_extension: {extension}"
        limits = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 49152,
            "shared_memory_per_core": self.shared,
            "shared_memory_per_block_optin": self.shared_block,
            "threads_per_core_limit": 2048,
            "core_count": self.cores,
            "fpus_per_core": self.units,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 65535,
            "block_dim_limit_z": 65535,
            "thread_dim_limit_x": 1024,
            "thread_dim_limit_y": 1024,
            "thread_dim_limit_z": 64,
            "memory_bandwidth": int(self.bandwidth),
            "l2_cache_size": self.l2,
            "clock_rate_ghz": self.clock,
            "device_memory_size": self.memory,
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
        }
        facts = " ".join(f"{name}: {value}" for name, value in limits.items())
        versions = " ".join(f'{name}_version: "{toolkit}"' for name in ("driver", "runtime", "compile_time_toolkit"))
        (major, minor, patch), (run_major, run_minor, run_patch) = DNN, TOOLKIT
        return (
            f"gpu_device_info {{ {facts} cuda_compute_capability {{ {capability} }} {versions} "
            f'dnn_version: "{major}.{minor}.{patch}" }} platform_name: "CUDA" '
            f"dnn_version_info {{ major: {major} minor: {minor} patch: {patch} }} "
            f"runtime_version {{ major: {run_major} minor: {run_minor} patch: {run_patch} }} "
            f'device_description_str: "{self.kind}"'
        )


# From NVIDIA's data sheets, read in November 2026. Rates are without sparsity. NVLink's are half of the figures there,
# which count both directions. Memory is what CUDA reports, including what the driver keeps for itself.
CARDS = {
    "a100": Card(
        "NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 166912, 41943040, 1.41, 85100068864,
        2039.04e9, 312e12, 300e9, "nvidia.com/en-us/data-center/a100",
    ),
    "h100": Card(
        "NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 232448, 52428800, 1.98, 84942979072,
        3352.32e9, 989.4e12, 450e9, "nvidia.com/en-us/data-center/h100",
    ),
    "h200": Card(
        "NVIDIA H200", (9, 0), 132, 128, 233472, 232448, 62914560, 1.98, 150110011392,
        4800e9, 989.4e12, 450e9, "nvidia.com/en-us/data-center/h200",
    ),
    "b200": Card(
        "NVIDIA B200", (10, 0), 148, 128, 233472, 232448, 132644864, 1.965, 191514017792,
        8000e9, 2250e12, 900e9, "nvidia.com/en-us/data-center/dgx-b200",
    ),
}  # fmt: skip
