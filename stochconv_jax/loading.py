"""Predictions of trained runs from Python: `load` a run, or several as an `Ensemble`, and predict images."""

import contextlib
import os
from collections.abc import Sequence
from typing import overload

import jax
import numpy as np

from stochconv_jax.buckets import staging
from stochconv_jax.experiment import ensembles, runs
from stochconv_jax.predictor import (
    ImageProbabilities,
    Metadata,
    PathLike,
    Predictor,
    checked,
    jax_settings_of_the_program,
    mean_over_runs,
)
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import compiler_flags
from stochconv_jax.runtime import mesh as meshes


@overload
def load(
    run: PathLike, checkpoint: str | int = ..., *, batch_size: int | None = ..., devices: Sequence[jax.Device] = ...
) -> Predictor: ...
@overload
def load(
    run: Sequence[PathLike],
    checkpoint: str | int = ...,
    *,
    batch_size: int | None = ...,
    devices: Sequence[jax.Device] = ...,
) -> "Ensemble": ...
def load(
    run: PathLike | Sequence[PathLike],
    checkpoint: str | int = "best",
    *,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] = (),
) -> "Predictor | Ensemble":
    """Loads the variables and the config of a run, or of each of several runs; no optimiser is made or read.

    The caller's JAX settings stay as they are. 64-bit types, dtype promotion, the implementation of random keys and a
    mesh set by the caller do not affect predictions; the precision of products (`jax_default_matmul_precision`) does,
    as on the command line. On a CPU the command line compiles with a flag that changes the order of sums, see
    `runtime.compiler_flags`. `load` adds it to XLA_FLAGS, which has an effect only before this process first uses a
    device; after that, predictions equal those of the command line to float32 rounding.

    Args:
      run: the folder of the run, --workdir of its training; or a list of such folders, and of folders with runs below
        them, which predict together. A folder may be in a bucket, such as 's3://bucket/runs/first'.
      checkpoint: 'best' by config.checkpoint.best_metric, 'last', or the number of a saved step.
      batch_size: images in a batch, over all devices; rounded up to a multiple of them. By default
        config.eval.batch_size of the run. Another batch size may round probabilities differently (1e-5).
      devices: JAX devices to compute on; by default all.

    Raises:
      ValueError: there is no run or no such checkpoint in a folder, or it is damaged; or the runs are of different
        classes.
    """
    # No plug-ins: the flags for GPUs could make the caller's own programs fail to compile.
    compiler_flags.add(os.environ, plugins=())
    # Images are read in threads: worker processes would run the caller's script again.
    overrides = {"eval.checkpoint": str(checkpoint), "data.on_bad_image": "skip", "data.num_workers": 0}
    if batch_size is not None:
        overrides["eval.batch_size"] = checked("eval.batch_size", batch_size)
    places = [run] if isinstance(run, PathLike) else run
    with contextlib.ExitStack() as stack, jax_settings_of_the_program():
        places = [stack.enter_context(staging.downloaded(place)) for place in places]
        folders = [RunFolder(places[0])] if isinstance(run, PathLike) else ensembles.find(places)[1]
        found = [runs.read_run(folder.path, overrides) for folder in folders]
        ensembles.refuse_other_classes({str(folder.path): config for folder, config in found})
        mesh = meshes.create(devices)
        members = [Predictor(folder, runs.experiment(folder, config, mesh=mesh)) for folder, config in found]
    return members[0] if isinstance(run, PathLike) else Ensemble(members)


class Ensemble:
    """Computes the mean of the predictions of several runs. Created by `load`.

    Attributes:
      members: a `Predictor` of each run.
    """

    def __init__(self, members: Sequence[Predictor]):
        self.members = list(members)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, see `Predictor.classes`; they are the same in all runs."""
        return self.members[0].classes

    def __repr__(self) -> str:
        return f"Ensemble({self.members!r})"

    def predict(
        self,
        images: PathLike | Sequence[PathLike] | np.ndarray | Sequence[np.ndarray],
        passes: int | None = None,
        names: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> ImageProbabilities:
        """Predicts images as `Predictor.predict` does, with each run, and returns the mean.

        `std` is the standard deviation of the probability over the runs. An image that one run cannot use has no
        probability. `metadata` are for the runs that take them.
        """
        takers = [member for member in self.members if member.experiment.metadata] or self.members
        given = [metadata if member in takers else None for member in self.members]
        found = [member.predict(images, passes, names, values) for member, values in zip(self.members, given)]
        return mean_over_runs(found)
