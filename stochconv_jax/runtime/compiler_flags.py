"""The flags that the program adds to XLA_FLAGS before the first computation, each unless XLA_FLAGS names it already."""

import importlib.metadata
from collections.abc import Iterable, MutableMapping

# Forbids GPU kernels whose sums depend on which thread comes first; where there is no other, compilation fails.
DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true"
_STRONGER = "--xla_gpu_deterministic_ops"  # DETERMINISTIC, and no choice of algorithms by their measured speed
_GPUS = ("cuda", "rocm", "gpu")
# Bytes that a loop on the CPU may touch to become one kernel, which runs on one core. By JAX's default, up to a
# gigabyte: window_conv takes 1.6 times as long (jax 0.12.0.1; see jax#40101).
PARALLEL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=65536"


def add(environment: MutableMapping[str, str], plugins: Iterable[str] | None = None) -> None:
    """Adds PARALLEL_LOOPS to XLA_FLAGS, and DETERMINISTIC where JAX may use a GPU. config.json keeps XLA_FLAGS.

    Where XLA_FLAGS names a file of flags, nothing is added. `plugins`: names of JAX's plug-ins, by default those
    installed.
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
