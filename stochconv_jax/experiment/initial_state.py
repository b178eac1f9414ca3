"""The train state with which training starts: restored, initialised at random, or from pretrained weights."""

import logging

from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import pretrained
from stochconv_jax.training import state, storage_check
from stochconv_jax.training.checkpoints import LAST, Checkpoints
from stochconv_jax.training.loop import EpochAccumulator

logger = logging.getLogger(__name__)


def restore_or_create(experiment: Experiment, checkpoints: Checkpoints) -> tuple[state.TrainState, EpochAccumulator]:
    """Returns the state of the last intact checkpoint and the metrics of its unfinished epoch, or a fresh state.

    Before a fresh state is made, a small checkpoint is saved and restored as a trial. Raises ValueError if that fails,
    or if nothing of config.init.weights fits.
    """
    shapes = experiment.state_shapes
    found = checkpoints.restore(LAST, shapes.to_items())
    if found is not None:
        _, items, open_epoch = found
        return state.TrainState.from_items(items), EpochAccumulator.from_json(open_epoch)
    storage_check.check(checkpoints.folder, shapes, experiment.config.checkpoint.grace_seconds)
    fresh = state.create(experiment.initializer, state.shardings(shapes))
    return _with_pretrained(experiment, fresh), EpochAccumulator()


def _with_pretrained(experiment: Experiment, fresh: state.TrainState) -> state.TrainState:
    """Returns `fresh` with those weights of config.init.weights, if set, that fit. Logs which weights fit."""
    weights = experiment.config.init.weights
    if not weights:
        return fresh
    variables, report = pretrained.load(weights, experiment.model, fresh.trained())
    lists = {"initialised at random": report.fresh, "not used, because they fit nowhere": report.unused}
    logger.info("%d arrays from %s", report.loaded, weights)
    for what, names in lists.items():
        logger.info("%s: %s", what, "".join(f"\n  {name}" for name in names) or "none")
    return fresh.with_variables(variables)
