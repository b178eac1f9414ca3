"""On a GPU the same seed gives the same bits only if it is asked for, before the first computation."""
import importlib.metadata
from collections.abc import Iterable, MutableMapping

# Forbids kernels whose sums depend on which thread comes first; where there is no other, compilation fails.
FLAG = "--xla_gpu_exclude_nondeterministic_ops"
_STRONGER = "--xla_gpu_deterministic_ops"  # FLAG, and no choice of algorithms by their measured speed
_GPUS = ("cuda", "rocm", "gpu")


def ask_for(environment: MutableMapping[str, str], plugins: Iterable[str] | None = None) -> None:
    """Adds FLAG to XLA_FLAGS where JAX may use a GPU and XLA_FLAGS says nothing of it.

    `plugins`: names of JAX's plug-ins, by default those installed. What is set is kept in config.json with XLA_FLAGS.
    """
    if plugins is None:
        plugins = (point.name for point in importlib.metadata.entry_points(group="jax_plugins"))
    platforms = environment.get("JAX_PLATFORMS", "")
    possible = not platforms or any(gpu in platforms for gpu in _GPUS)
    flags = environment.get("XLA_FLAGS", "")
    if possible and any(gpu in name for name in plugins for gpu in _GPUS) and not {FLAG, _STRONGER} & _names(flags):
        environment["XLA_FLAGS"] = f"{flags} {FLAG}=true".strip()


def _names(flags: str) -> set[str]:
    return {flag.split("=")[0] for flag in flags.split()}
