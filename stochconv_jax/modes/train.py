"""--mode=train: trains the config's model, or goes on with the run in --workdir."""

import contextlib
import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import tensorboardX
from clu import parameter_overview

from stochconv_jax.atomic_files import explain_os_errors, write_text
from stochconv_jax.data import sources
from stochconv_jax.experiment import build, checking, data_sources, runs
from stochconv_jax.models import keras_weights, summary, variants
from stochconv_jax.run_folder import WORKDIR_ADVICE, RunFolder, locked
from stochconv_jax.runtime import preemption, watchdog
from stochconv_jax.training import evaluation, loop, mesh, progress, state, storage_check
from stochconv_jax.training.checkpoints import LAST, Checkpoints

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> None:
    """Trains to the end of the config's last epoch, or until SIGTERM, after which it has saved."""
    del overrides
    folder = RunFolder(workdir)
    if not folder.has_checkpoint():
        storage_check.check_name(folder.checkpoints)
    build.use_compilation_cache(config)
    devices = mesh.create()
    build.check_batch_size(config, devices)
    build.check_shared_memory(config, devices, trains=True)
    train_source, val_source = data_sources.training_and_validation(config)
    _log_balance(config, train=train_source, validation=val_source)
    epochs = build.epochs(config, len(train_source))
    rate = build.schedule(config, epochs.steps_per_epoch)
    model, optimizer = build.classifier(config), build.optimizer(config, rate)
    init = build.initializer(config, model, optimizer)
    with jax.set_mesh(devices):
        shapes = state.shapes(init, build.placement(config, devices))
    folder.create()
    parts = summary.parts(model, build.inputs(config, 1))
    overview = parameter_overview.get_parameter_overview(shapes.params, include_stats=False)
    logger.info("the parameters:\n%s", overview)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(locked(folder.path))
        runs.claim(
            folder,
            config,
            size=summary.totals(parts),
            data={"train": runs.fingerprint(train_source), "validation": runs.fingerprint(val_source)},
        )
        checking.check_images(folder, config, devices, train_source, val_source)
        if jax.process_index() == 0:
            write_text(folder.path / "parameters.txt", overview + "\n")
        stack.enter_context(jax.set_mesh(devices))
        saving = {"best_metric": config.checkpoint.best_metric, "timeout_seconds": config.checkpoint.grace_seconds}
        saved = stack.enter_context(Checkpoints(folder.checkpoints, **saving))
        train_state, accumulator = _begin_or_go_on(config, saved, init, shapes)
        start = int(train_state.step)
        runs.record_start(folder, config, start)
        logger.info("%s: step %d of %d", folder.path, start, epochs.total_steps)
        batches = stack.enter_context(contextlib.closing(build.train_batches(config, train_source, start)))
        val_batches = stack.enter_context(contextlib.closing(build.eval_batches(config, val_source, devices)))
        eval_step = build.eval_step(config, model, devices)
        stop_requested = preemption.on_sigterm(config.checkpoint.grace_seconds)

        def evaluate(variables):
            on_devices = mesh.to_devices(val_batches, devices)
            predictions = evaluation.predict(eval_step, variables, on_devices, stop_requested=stop_requested)
            if predictions is not None:
                runs.log_skipped(config, val_source, predictions.skipped)
            return predictions

        first = start if accumulator.steps else start + 1
        log_epoch = MetricsLog(folder, first, saved.rows(), ended=epochs.ended_before(first))
        try:
            train_state, finished = loop.train(
                train_state,
                epochs=epochs,
                train_step=build.train_step(config, model, optimizer, devices),
                evaluate=evaluate,
                batches=mesh.to_devices(batches, devices),
                checkpoints=saved,
                accumulator=accumulator,
                log_epoch=log_epoch,
                learning_rate=rate,
                save_every=config.checkpoint.every_steps,
                stop_requested=stop_requested,
                log_skipped=functools.partial(runs.log_skipped, config, train_source),
                progress=progress.Progress(
                    epochs.total_steps * config.batch_size,
                    every=config.log_every_seconds,
                    done=start * config.batch_size,
                ),
            )
        except Exception as error:
            # It is printed when the save under way has ended, which may hang as well.
            watchdog.end_within(config.checkpoint.grace_seconds, since=f"{type(error).__name__}: {error}")
            if isinstance(error, loop.NonFiniteLoss):
                _write_bad_batch(folder, error, [train_source.names[index] for index in error.images])
            raise
    done = int(train_state.step)
    # Where no step was made, there was nothing to save.
    logger.info("%s at step %d", "finished" if finished else "stopped and saved" if done else "stopped", done)


def _begin_or_go_on(
    config, saved: Checkpoints, init, shapes: state.TrainState
) -> tuple[state.TrainState, loop.EpochAccumulator]:
    """A fresh state, or that of the last sound checkpoint with the predictions of the epoch it lies in."""
    found = saved.restore(LAST, shapes)
    if found is None:
        storage_check.check(saved.folder, shapes, config.checkpoint.grace_seconds)
        fresh = state.create(init, state.shardings(shapes))
        return _start_from_weights(config, fresh) if config.init.weights else fresh, loop.EpochAccumulator()
    _, restored, accumulator = found
    return restored, loop.EpochAccumulator.from_json(accumulator)


def _start_from_weights(config, fresh: state.TrainState) -> state.TrainState:
    """The fresh state with the weights of a Keras file where they fit."""
    variant = variants.get(config.model.variant)
    variables, report = keras_weights.load(config.init.weights, variant, fresh.trained())
    lists = {"initialised at random": report.fresh, "not used, for they fit nowhere": report.unused}
    logger.info("%d arrays from %s", report.loaded, config.init.weights)
    for what, names in lists.items():
        logger.info("%s: %s", what, "".join(f"\n  {name}" for name in names) or "none")
    return fresh.with_variables(variables)


def _write_bad_batch(folder: RunFolder, error: loop.NonFiniteLoss, names: list[str]) -> None:
    """Lists the images of the step that went wrong, in the log and in bad_batch.json."""
    file = folder.path / "bad_batch.json"
    logger.error("the images of step %d, which %s lists: %s", error.step, file, ", ".join(names))
    if jax.process_index() == 0:
        folder.write_json(file.name, {"step": error.step, "reason": str(error), "images": names})


def _log_balance(config, **parts: sources.Source) -> None:
    for name, source in parts.items():
        counts = sources.class_counts(source.labels, config.data.num_classes)
        shares = ", ".join(f"class {k}: {n} ({n / len(source):.1%})" for k, n in enumerate(counts))
        logger.info("%s: %d images, %s", name, len(source), shares)


class MetricsLog:
    """Writes an epoch's row to metrics.csv, to TensorBoard's event files and to the log. Only the first host writes.

    Rows of `first_step` and later are dropped: they are to come, and a killed run that did those steps did not save.
    Rows that the file has lost come back from `saved`, those of checkpoints. The log names them, and those of the first
    `ended` epochs that are nowhere.
    """

    def __init__(self, folder: RunFolder, first_step: int, saved: Iterable[Mapping[str, Any]] = (), ended: int = 0):
        self._folder = folder
        folder.epochs()  # names a row that is damaged
        rows = {int(row["step"]): row for row in folder.read_metrics()}
        lost = {row["step"]: row for row in saved if row["step"] not in rows}
        rows = {step: row for step, row in sorted((rows | lost).items()) if step < first_step}
        self._rows = list(rows.values())
        if back := [str(row["epoch"]) for step, row in rows.items() if step in lost]:
            logger.warning("metrics.csv had lost the row of epoch %s; it is that of the checkpoint", ", ".join(back))
        there = {int(row["epoch"]) for row in self._rows}
        if gone := [str(epoch) for epoch in range(1, ended + 1) if epoch not in there]:
            logger.warning("metrics.csv has lost the row of epoch %s, and no checkpoint has it", ", ".join(gone))
        self._writes = jax.process_index() == 0
        if self._writes:
            folder.write_metrics(self._rows)
            self._events = tensorboardX.SummaryWriter(str(folder.events), purge_step=first_step)

    def __call__(self, row: dict[str, float]) -> None:
        """Adds `row`, whose keys are the columns of metrics.csv."""
        self._rows.append(row)
        logger.info("epoch %d: %s", row["epoch"], ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
        if not self._writes:
            return
        self._folder.write_metrics(self._rows)
        with explain_os_errors("write into", self._folder.events, WORKDIR_ADVICE):
            for name, value in row.items():
                if name not in runs.INTEGER_COLUMNS:
                    self._events.add_scalar(name, value, row["step"])
            self._events.flush()
