"""Checks before any work that batches can be split over the devices, and fit into the memory of worker processes."""

import math

import jax

from stochconv_jax.data import reader, shared_memory
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.runtime import mesh as meshes


def check_batch_size(experiment: Experiment) -> None:
    """Raises ValueError if a batch cannot be split over the devices and into the parts of accumulate_steps."""
    parts = experiment.config.optimizer.accumulate_steps
    meshes.check_batch_size(experiment.config.batch_size, experiment.mesh, "config.batch_size", parts)


def check_shared_memory(experiment: Experiment, *, trains: bool = False, eval_images: float = math.inf) -> None:
    """Raises ValueError if the batches of the worker processes do not fit into shared memory.

    `trains` says whether there are training batches; `eval_images` is the number of images to evaluate.
    """
    config = experiment.config
    streams = trains * (2 if config.model.batch_norm_images else 1)
    batches = [(experiment.eval_batch_size, eval_images)] + [(config.batch_size, math.inf)] * streams
    row_bytes, num_workers = reader.row_bytes(**experiment.pixels), config.data.num_workers
    shared_memory.check(
        shared_memory.needed(row_bytes, size // jax.process_count(), num_workers, -(-images // size))
        for size, images in batches
    )
