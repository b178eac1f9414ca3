"""A checkpoint on trial, before the first step: a folder may take what is written there and not give it back."""

import math
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from stochconv_jax.training.checkpoints import Checkpoints, NotSaved

PATTERNS = "*?[]\\"  # Orbax looks for files that it wrote by a pattern that holds the whole path
ADVICE = f"choose another --workdir, without any of the characters {' '.join(PATTERNS)}"


def check_name(folder: pathlib.Path) -> None:
    """ValueError where the path of `folder` alone says that no checkpoint in it could be restored."""
    if set(PATTERNS) & set(str(folder)):
        raise ValueError(f"a checkpoint in {folder} could not be restored: {ADVICE}")


def check(folder: pathlib.Path, shapes: Any, timeout_seconds: float = math.inf) -> None:
    """Saves zeros of the smallest of `shapes`, with its sharding, in `folder` and restores them; nothing is left there.

    ValueError where a checkpoint could not be saved, or not be restored.
    """
    check_name(folder)
    like = min(jax.tree.leaves(shapes), key=lambda leaf: leaf.size)
    zeros = np.zeros(like.shape, like.dtype)
    array = jax.make_array_from_callback(like.shape, like.sharding, lambda index: zeros[index])
    trial = folder / ".trial"
    if jax.process_index() == 0:
        shutil.rmtree(trial, ignore_errors=True)  # of a run that was killed here
    try:
        with Checkpoints(trial, best_metric="", timeout_seconds=timeout_seconds) as kept:
            kept.save(0, {"zeros": array}, {})
    except NotSaved as error:
        reason = str(error.__cause__).splitlines()[0]
        raise ValueError(f"no checkpoint can be saved in {folder} ({reason}): make room, or {ADVICE}") from error
    finally:
        if jax.process_index() == 0:
            shutil.rmtree(trial, ignore_errors=True)
