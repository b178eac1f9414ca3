"""What it takes to repeat a run, besides its config: versions, flags, the state of the code, devices."""
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import jax

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "scikit-learn",
)
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_DEFAULT_MATMUL_PRECISION")


def describe() -> dict[str, Any]:
    """For config.json."""
    return {
        "command": sys.argv,
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "git": _git(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "count": jax.device_count(),
            "hosts": jax.process_count(),
        },
    }


def _git() -> dict[str, Any] | None:
    """The commit and whether files differ from it; None outside a checkout or without git."""
    here = pathlib.Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit, changed = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": bool(changed)}
