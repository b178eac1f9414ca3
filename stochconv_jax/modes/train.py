"""--mode=train: trains the config's model, or goes on with the run in --workdir."""

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from stochconv_jax import early_stopping, modes
from stochconv_jax.atomic_files import write_text
from stochconv_jax.config import flatten, name_keys
from stochconv_jax.data import class_names, sources
from stochconv_jax.experiment import batch_checks, checking, initial_state, refitting, runs, skipped_images
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import summary
from stochconv_jax.run_folder import ALL_FOLDS, RunFolder, locked
from stochconv_jax.runtime import goodput, mesh, preemption, watchdog
from stochconv_jax.runtime.goodput import Goodput
from stochconv_jax.training import evaluation, loop, progress, storage_check, trackers
from stochconv_jax.training.checkpoints import Checkpoints
from stochconv_jax.training.metrics_log import MetricsLog

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> int:
    """Trains to the end of the config's last epoch, or until SIGTERM, after which it has saved.

    Returns the exit code: 0 if the last epoch is done, otherwise watchdog.STOPPED.
    """
    del overrides
    folder = RunFolder(workdir)
    config = runs.decide_dtype(folder, config, jax.devices()[0].platform)
    trackers.check_packages(config.log.trackers)
    experiment = runs.begin(folder, config)
    if not folder.has_checkpoint():
        storage_check.check_name(folder.checkpoints)
    experiment.use_compilation_cache()
    batch_checks.check_batch_size(experiment)
    batch_checks.check_shared_memory(experiment, trains=True)
    _log_balance(experiment.train_source, experiment.val_source, config.data.num_classes)
    overview = parameter_overview.get_parameter_overview(experiment.state_shapes.params, include_stats=False)
    folder.create()
    logger.info("parameters:\n%s", overview)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(locked(folder.path))
        _claim(folder, experiment)
        wall_time = stack.enter_context(_goodput(folder, config))
        checking.check_images(folder, config, experiment.mesh, experiment.train_source, experiment.val_source)
        if jax.process_index() == 0:
            write_text(folder.path / "parameters.txt", overview + "\n")
        stack.enter_context(jax.set_mesh(experiment.mesh))
        return _train(folder, experiment, wall_time, stack)


def _claim(folder: RunFolder, experiment: Experiment) -> None:
    """Writes config.json, or checks that the run in `folder` is this one."""
    size = summary.totals(summary.parts(experiment.model, experiment.inputs()))
    sides = {"train": experiment.train_source, "validation": experiment.val_source}
    columns = experiment.config.data.metadata_columns
    data = {side: runs.fingerprint(source, columns) for side, source in sides.items()}
    more: dict[str, Any] = {"class_weights": experiment.class_weights} if experiment.class_weights else {}
    if experiment.config.data.fold:
        more[ALL_FOLDS] = runs.all_folds_crc32(*sides.values())
    runs.claim(folder, experiment.config, size=size, data=data, classes=experiment.train_source.classes, **more)
    if experiment.metadata and jax.process_index() == 0:
        folder.write_json(runs.METADATA, experiment.metadata.as_json())


def _train(folder: RunFolder, experiment: Experiment, wall_time: Goodput, stack: contextlib.ExitStack) -> int:
    """Trains from the last checkpoint on and returns the exit code. What has to be closed is put on `stack`."""
    config, epochs = experiment.config, experiment.epochs
    grace_seconds = config.checkpoint.grace_seconds
    # Trackers end after the last save, because sending figures may take longer than the time after SIGTERM.
    after_saves = stack.enter_context(contextlib.ExitStack())
    saving = {"best_metric": config.checkpoint.best_metric, "timeout_seconds": grace_seconds}
    checkpoints = stack.enter_context(Checkpoints(folder.checkpoints, **saving))
    stack.callback(wall_time.begin, goodput.SAVES)  # closing `checkpoints` waits for the last save
    train_state, accumulator = initial_state.restore_or_create(experiment, checkpoints)
    start = int(train_state.step)
    runs.record_start(folder, config, start)
    wall_time.go_on_at(start)
    logger.info("%s: starting at step %d of %d", folder.path, start, epochs.total_steps)
    batches = stack.enter_context(contextlib.closing(experiment.train_batches(start)))
    val_batches = stack.enter_context(contextlib.closing(experiment.eval_batches(experiment.val_source)))
    stop_requested = wall_time.recording(preemption.on_sigterm(grace_seconds))
    evaluate = _evaluation(experiment, wall_time.compiled(experiment.eval_step), val_batches, stop_requested)
    first = start if accumulator.steps else start + 1
    told = (
        trackers.Trackers(config.log.trackers, folder, flatten(config.to_dict()), first)
        if jax.process_index() == 0
        else None
    )
    log_epoch = MetricsLog(folder, first, checkpoints.rows(), ended=epochs.ended_before(first), trackers=told)
    if told:
        after_saves.callback(lambda: told.close(finished=wall_time.state == "finished"))
    images = epochs.total_steps * config.batch_size
    patience = config.checkpoint.best_metric, config.checkpoint.patience
    wall_time.begin(goodput.STEPS)
    try:
        train_state, finished = loop.train(
            train_state,
            epochs=epochs,
            train_step=wall_time.compiled(experiment.train_step),
            evaluate=wall_time.timed(goodput.EVALUATION, evaluate),
            batches=wall_time.batches(mesh.to_devices(batches, experiment.mesh)),
            save=wall_time.timed(goodput.SAVES, checkpoints.save),
            accumulator=accumulator,
            log_epoch=log_epoch,
            learning_rate=experiment.schedule,
            save_every=config.checkpoint.every_steps,
            stop_requested=stop_requested,
            stop_early=lambda: early_stopping.is_over(log_epoch.rows, *patience),
            log_skipped=functools.partial(skipped_images.explain, experiment, experiment.train_source),
            end_epoch=refitting.at_epoch_ends(experiment, wall_time, stack),
            progress=progress.Progress(images, every=config.log_every_seconds, done=start * config.batch_size),
        )
    except Exception as error:
        # It is printed only when the save under way has ended, which may hang as well.
        watchdog.end_within(grace_seconds, since=f"{type(error).__name__}: {error}")
        if isinstance(error, loop.NonFiniteLoss):
            _write_bad_batch(folder, error, [experiment.train_source.names[index] for index in error.images])
        raise
    wall_time.state = "finished" if finished else "stopped"
    if finished and int(train_state.step) < epochs.total_steps:
        logger.info("stopped early: %s has not improved for %d epochs", *patience)
    done = int(train_state.step)
    # Where no step was made, there was nothing to save.
    logger.info("%s at step %d", "finished" if finished else "stopped and saved" if done else "stopped", done)
    return 0 if finished else watchdog.STOPPED


def _goodput(folder: RunFolder, config: ConfigDict) -> Goodput:
    """Returns the record of where this start's wall time goes."""
    return Goodput(
        folder,
        writes=jax.process_index() == 0,
        timeout_seconds=config.checkpoint.grace_seconds,
        advice=f"raise config.data.num_workers ({config.data.num_workers}), or prepare smaller images",
        began=modes.BEGAN,
    )


def _evaluation(
    experiment: Experiment, eval_step: Callable[..., Any], batches: Any, stop_requested: Callable[[], bool]
) -> Callable[[Any], evaluation.Predictions | None]:
    """Returns a function that predicts the validation images with given variables; see `evaluation.predict`."""

    def evaluate(variables: Any) -> evaluation.Predictions | None:
        on_devices = mesh.to_devices(batches, experiment.mesh)
        predictions = evaluation.predict(eval_step, variables, on_devices, stop_requested=stop_requested)
        if predictions is not None:
            skipped_images.explain(experiment, experiment.val_source, predictions.skipped)
        return predictions

    return evaluate


def _write_bad_batch(folder: RunFolder, error: loop.NonFiniteLoss, names: list[str]) -> None:
    """Lists the images of the step whose loss is not a number, in the log and in bad_batch.json."""
    file = folder.path / "bad_batch.json"
    logger.error("the images of step %d, which %s lists: %s", error.step, file, ", ".join(names))
    if jax.process_index() == 0:
        folder.write_json(file.name, {"step": error.step, "reason": name_keys(str(error), ()), "images": names})


def _log_balance(train: sources.Source, validation: sources.Source, num_classes: int) -> None:
    """Logs the number and the share of the images of each class."""
    for name, source in {"train": train, "validation": validation}.items():
        counts = sources.class_counts(source.labels, num_classes)
        names = [class_names.describe(k, source.classes) for k in range(num_classes)]
        shares = ", ".join(f"{name}: {n} ({n / len(source):.1%})" for name, n in zip(names, counts))
        logger.info("%s: %d images, %s", name, len(source), shares)
