"""The train state with which training starts: restored, initialised at random, or from other weights."""

import logging
from typing import Any

import jax
import numpy as np

from stochconv_jax.experiment import runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import pretrained
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training import state, storage_check
from stochconv_jax.training.checkpoints import LAST, Checkpoints
from stochconv_jax.training.loop import EpochAccumulator

logger = logging.getLogger(__name__)


def restore_or_create(experiment: Experiment, checkpoints: Checkpoints) -> tuple[state.TrainState, EpochAccumulator]:
    """Returns the state of the last intact checkpoint and the metrics of its unfinished epoch, or a fresh state.

    Before a fresh state is made, a small checkpoint is saved and restored as a trial. Raises ValueError if that fails,
    or if nothing of config.init.weights or config.init.run fits.
    """
    shapes = experiment.state_shapes
    found = checkpoints.restore(LAST, shapes.to_items())
    if found is not None:
        _, items, open_epoch = found
        return state.TrainState.from_items(items), EpochAccumulator.from_json(open_epoch)
    storage_check.check(checkpoints.folder, shapes, experiment.config.checkpoint.grace_seconds)
    fresh = state.create(experiment.initializer, state.shardings(shapes))
    return _with_pretrained(experiment, fresh), EpochAccumulator()


def restore_variables(folder: RunFolder, experiment: Experiment) -> tuple[int, Any]:
    """Returns the step and the variables of the checkpoint that config.eval.checkpoint names, for evaluation.

    They are the moving averages if the run keeps them. No optimiser is made or read. Raises ValueError if there is no
    checkpoint in `folder`, or none that can be used.
    """
    config = experiment.config
    shapes = {"ema": experiment.variable_shapes} if experiment.keeps_average else experiment.variable_shapes
    with Checkpoints(folder.checkpoints, best_metric=config.checkpoint.best_metric, read_only=True) as kept:
        found = kept.restore_part(config.eval.checkpoint, {state.VARIABLES: shapes})
    if found is None:
        raise ValueError(f"no checkpoint in {folder.checkpoints}: train first, with the same --workdir")
    step, variables = found[0], found[1][state.VARIABLES]
    return step, variables["ema"] if experiment.keeps_average else variables


def _with_pretrained(experiment: Experiment, fresh: state.TrainState) -> state.TrainState:
    """Returns `fresh` with what fits of config.init.weights or of config.init.run, if set. Logs what fits."""
    init = experiment.config.init
    if not (init.weights or init.run):
        return fresh
    if init.weights:
        variables, report = pretrained.load(init.weights, experiment.model, fresh.trained())
    else:
        variables, report = _from_run(init.run, experiment, fresh)
    fresh_names = "initialised at random, the last layer at zero"
    lists = {fresh_names: report.fresh, "not used, because they fit nowhere": report.unused}
    logger.info("%d arrays from %s", report.loaded, init.weights or init.run)
    for what, names in lists.items():
        logger.info("%s: %s", what, "".join(f"\n  {name}" for name in names) or "none")
    return fresh.with_variables(variables)


def _from_run(path: str, experiment: Experiment, fresh: state.TrainState) -> tuple[dict[str, Any], pretrained.Report]:
    """Returns the variables of `fresh` with what fits of the run in the folder `path`."""
    if RunFolder(path).read_config() is None:
        raise ValueError(f"config.init.run={path}: no run in {RunFolder(path).path}, because it has no config.json")
    folder, config = runs.read_run(path, {"sharding.parameters": "replicated"})
    other = runs.experiment(folder, config, mesh=experiment.mesh)
    if other.metadata and experiment.metadata and other.metadata.features() != experiment.metadata.features():
        logger.warning("%s has other metadata: %s", folder.path, ", ".join(other.metadata.features()))
    if other.model.layers.conventions != experiment.model.layers.conventions:
        logger.warning("%s has config.model.conventions=%s", folder.path, config.model.conventions)
    there, here = config.data.classes, experiment.train_source.classes
    if there and here and len(there) == len(here) and there != here:
        logger.warning("the last layer of %s is for the classes %s, and those here are %s", folder.path, there, here)
    step, variables = restore_variables(folder, other)
    arrays = {
        tuple(entry.key for entry in key_path): np.asarray(value)
        for key_path, value in jax.tree_util.tree_leaves_with_path(variables)
    }
    logger.info("config.init.run: step %d of %s", step, folder.path)
    filled, report = pretrained.fill(fresh.trained(), arrays)
    if not report.loaded:
        raise ValueError(f"config.init.run={path}: none of its layers fits {experiment.config.model.variant}")
    return filled, report
