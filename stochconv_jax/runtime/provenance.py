"""Describes what a run depends on besides its config: versions, flags, git commit and devices."""

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
ACCELERATOR_PACKAGES = ("libtpu", "jax-cuda", "jax-rocm", "nvidia-")  # prefixes; recorded if they are installed
FLAGS = ("JAX_", "XLA_", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")  # prefixes of environment variables
NUMERICS = (  # names in jax.config
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)


def describe(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the entries of config.json that describe this start of a run.

    If the code differs from its commit, the difference is saved in `folder`.
    """
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
    """Returns the versions of packages and the environment variables of JAX and XLA, which decide what is compiled."""
    flags = {name: value for name, value in sorted(os.environ.items()) if name.startswith(FLAGS)}
    return {"versions": _versions(), "flags": flags}


def _versions() -> dict[str, str]:
    # The remains of a broken installation have no name.
    names = (found.metadata.get("Name", "") for found in importlib.metadata.distributions() if found.metadata)
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    packages = (*PACKAGES, *sorted(name for name in installed if name.startswith(ACCELERATOR_PACKAGES)))
    known = {"python": platform.python_version(), "stochconv_jax": stochconv_jax.__version__}
    return known | {name: importlib.metadata.version(name) for name in packages}


def _git(folder: pathlib.Path) -> dict[str, str | None] | None:
    """Returns the commit and the name of the file in `folder` with the uncommitted changes, None if there are none.

    Returns None outside a git checkout or without git. Untracked files are ignored.
    """
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        commit, diff = (
            subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, check=True).stdout
            for arguments in (("rev-parse", "HEAD"), ("diff", "--no-color", "--no-ext-diff", "HEAD"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.decode().strip(), "diff": _save_diff(folder, diff) if diff else None}


def _save_diff(folder: pathlib.Path, diff: bytes) -> str:
    """Writes the first LONGEST_DIFF bytes of `diff` and returns the file's name, which holds a checksum of `diff`.

    A file of that name is from an earlier start with the same changes and is left as it is.
    """
    file = folder / f"uncommitted_{zlib.crc32(diff):08x}.diff"
    if not file.exists():
        cut = f"\n... cut: {len(diff):,} bytes in all\n" if len(diff) > LONGEST_DIFF else ""
        write_text(file, diff[:LONGEST_DIFF].decode(errors="replace") + cut)
    return file.name
