"""The estimate of batch norm's statistics at the end of each epoch, if config.model.batch_norm_images asks for one."""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from stochconv_jax.data import augment, pipeline
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.runtime import goodput, mesh
from stochconv_jax.runtime.goodput import Goodput
from stochconv_jax.training import batch_statistics
from stochconv_jax.training.state import TrainState


def at_epoch_ends(
    experiment: Experiment, wall_time: Goodput, stack: contextlib.ExitStack
) -> Callable[[TrainState], TrainState]:
    """Returns a function of the state after the last step of an epoch, see `batch_statistics.refit`.

    It changes nothing if config.model.batch_norm_images is 0. `stack` closes the stream of its images.
    """
    config = experiment.config
    if not config.model.batch_norm_images:
        return lambda state: state
    batch_size = config.batch_size // config.optimizer.accumulate_steps
    count = max(1, min(config.model.batch_norm_images, len(experiment.train_source)) // batch_size)
    batches = stack.enter_context(contextlib.closing(_batches(experiment, batch_size, count)))
    settings = {"seed": config.seed, "split_state": config.sharding.parameters == "sharded"}
    add = wall_time.compiled(batch_statistics.compiled(experiment.model, experiment.mesh, **settings))
    on_devices = mesh.to_devices(batches, experiment.mesh)

    def refit(state: TrainState) -> TrainState:
        return batch_statistics.refit(state, on_devices, count, add)

    return wall_time.timed(goodput.EVALUATION, refit)


def _batches(experiment: Experiment, batch_size: int, count: int) -> Generator[dict[str, Any]]:
    """Returns this host's rows of `count` batches of training images, again and again.

    The images are those of the first epoch's order, as evaluation sees them: without augmentation, since the statistics
    are for evaluation.
    """
    return pipeline.train_batches(
        experiment.train_source,
        seed=experiment.config.seed,
        batch_size=batch_size,
        start_step=0,
        augmentation=augment.UNCHANGED,
        repeat_after=count,
        **experiment.pixels,
        **experiment.reading,
    )
