"""What it takes to repeat a run, besides its config: versions, flags, the state of the code, devices."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
import zlib
from typing import Any

import jax

import stochconv_jax
from stochconv_jax.atomic_files import write_text

CHECKOUT = pathlib.Path(__file__).parents[2]
LONGEST_DIFF = 2**20  # bytes
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "clu",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "scikit-learn",
)
ACCELERATED_BY = ("libtpu", "jax-cuda", "jax-rocm", "nvidia-")  # beginnings of packages that not every machine has
FLAGS = ("JAX_", "XLA_", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")  # beginnings of variables
NUMERICS = (  # of jax.config
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)


def describe(folder: pathlib.Path) -> dict[str, Any]:
    """For config.json. Where the code is not as committed, what differs is saved in `folder`."""
    return {
        "command": sys.orig_argv,
        **software(),
        "jax_config": {name: getattr(jax.config, name, None) for name in NUMERICS},
        "git": _git(folder),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "count": jax.device_count(),
            "hosts": jax.process_count(),
        },
    }


def software() -> dict[str, dict[str, str]]:
    """What compiles: versions of packages, and the variables that tell it how."""
    flags = {name: value for name, value in sorted(os.environ.items()) if name.startswith(FLAGS)}
    return {"versions": _versions(), "flags": flags}


def _versions() -> dict[str, str]:
    # What a broken installation leaves has no name.
    names = (found.metadata.get("Name", "") for found in importlib.metadata.distributions() if found.metadata)
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    packages = (*PACKAGES, *sorted(name for name in installed if name.startswith(ACCELERATED_BY)))
    known = {"python": platform.python_version(), "stochconv_jax": stochconv_jax.__version__}
    return known | {name: importlib.metadata.version(name) for name in packages}


def _git(folder: pathlib.Path) -> dict[str, str | None] | None:
    """The commit, and the file in `folder` with what differs from it, None if nothing does; None without git.

    Files that git does not track are not looked at.
    """
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        commit, diff = (
            subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, check=True).stdout
            for words in (("rev-parse", "HEAD"), ("diff", "--no-color", "--no-ext-diff", "HEAD"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.decode().strip(), "diff": _save(folder, diff) if diff else None}


def _save(folder: pathlib.Path, diff: bytes) -> str:
    """Writes `diff`, or its beginning, unless an earlier start has. Returns the file's name, made of its content."""
    file = folder / f"uncommitted_{zlib.crc32(diff):08x}.diff"
    if not file.exists():
        cut = f"\n... cut: {len(diff):,} bytes in all\n" if len(diff) > LONGEST_DIFF else ""
        write_text(file, diff[:LONGEST_DIFF].decode(errors="replace") + cut)
    return file.name
