"""A trial of the storage before the first step: a folder may take a checkpoint and not give it back."""

import math
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from stochconv_jax.training.checkpoints import Checkpoints, NotSaved

PATTERNS = "*?[]\\"  # Orbax looks for the files of a checkpoint by a glob pattern that holds the whole path
ADVICE = f"choose another --workdir, without any of the characters {' '.join(PATTERNS)}"


def check_name(folder: pathlib.Path) -> None:
    """Raises ValueError where no checkpoint in `folder` could be restored because of the characters in its path."""
    if set(PATTERNS) & set(str(folder)):
        raise ValueError(f"a checkpoint in {folder} could not be restored: {ADVICE}")


def check(folder: pathlib.Path, shapes: Any, timeout_seconds: float = math.inf) -> None:
    """Saves a small checkpoint in `folder`, which reads it back, and removes it.

    It holds zeros of the smallest array in `shapes` (jax.ShapeDtypeStruct with shardings). Raises ValueError where it
    could not be saved or restored. `timeout_seconds`: see `Checkpoints`.
    """
    check_name(folder)
    like = min(jax.tree.leaves(shapes), key=lambda leaf: leaf.size)
    zeros = np.zeros(like.shape, like.dtype)
    array = jax.make_array_from_callback(like.shape, like.sharding, lambda index: zeros[index])
    trial = folder / ".trial"
    if jax.process_index() == 0:
        shutil.rmtree(trial, ignore_errors=True)  # left by a run that was killed here
    try:
        with Checkpoints(trial, best_metric="", timeout_seconds=timeout_seconds) as kept:
            kept.save(0, {"trial": {"zeros": array}}, {})
    except NotSaved as error:
        reason = str(error.__cause__).splitlines()[0]
        raise ValueError(f"no checkpoint can be saved in {folder} ({reason}): make room, or {ADVICE}") from error
    finally:
        if jax.process_index() == 0:
            shutil.rmtree(trial, ignore_errors=True)
