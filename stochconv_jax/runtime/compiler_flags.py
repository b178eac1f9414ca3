"""Adds flags to XLA_FLAGS before the first computation. A flag that XLA_FLAGS names already is left as it is."""

import importlib.metadata
from collections.abc import Iterable, MutableMapping

# Forbids GPU kernels whose sums depend on the order of threads. Compilation fails if an operation has no other kernel.
DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true"
_STRONGER = "--xla_gpu_deterministic_ops"  # also forbids choosing algorithms by their measured speed
_GPUS = ("cuda", "rocm", "gpu")
# On a CPU, XLA makes one kernel, which runs on one core, of each loop that touches at most this many bytes. JAX's
# default is a gigabyte, with which window_conv takes 1.6 times as long (jax 0.12.0.1; see jax#40101).
PARALLEL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=65536"


def add(environment: MutableMapping[str, str], plugins: Iterable[str] | None = None) -> None:
    """Adds PARALLEL_LOOPS to XLA_FLAGS, and DETERMINISTIC if JAX may use a GPU.

    Nothing is added if XLA_FLAGS names a file of flags. `plugins` are the names of JAX's plug-ins, by default of those
    that are installed. config.json records the resulting XLA_FLAGS.
    """
    if (flags := environment.get("XLA_FLAGS", "").split()) and not flags[0].startswith("-"):
        return
    if plugins is None:
        plugins = (point.name for point in importlib.metadata.entry_points(group="jax_plugins"))
    platforms = environment.get("JAX_PLATFORMS", "")
    allowed = not platforms or any(gpu in platforms for gpu in _GPUS)
    gpu = allowed and any(gpu in name for name in plugins for gpu in _GPUS)
    named = {flag.split("=")[0] for flag in flags}
    if PARALLEL_LOOPS.split("=")[0] not in named:
        flags.append(PARALLEL_LOOPS)
    if gpu and not {DETERMINISTIC.split("=")[0], _STRONGER} & named:
        flags.append(DETERMINISTIC)
    environment["XLA_FLAGS"] = " ".join(flags)
