"""--mode=train: trains the config's model, or goes on with the run in --workdir."""
import contextlib
import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import tensorboardX
from clu import parameter_overview

from stochconv_jax import ending, modes
from stochconv_jax.data import sources
from stochconv_jax.models import keras_weights, summary, variants
from stochconv_jax.modes import build, checking, data_sources, runs, stopping
from stochconv_jax.run_folder import RunFolder, locked, named, write_text
from stochconv_jax.runtime import goodput
from stochconv_jax.training import evaluation, loop, mesh, progress, state, trial
from stochconv_jax.training.checkpoints import LAST, Checkpoints

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> int:
    """Trains to the end of the config's last epoch, or until SIGTERM, after which it has saved.

    Returns the exit code: 0 where the last epoch is done, ending.STOPPED where it is not.
    """
    del overrides
    folder = RunFolder(workdir)
    if not folder.has_checkpoint():
        trial.check_name(folder.checkpoints)
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
        spent = stack.enter_context(_goodput(config, folder))
        checking.check_images(folder, config, devices, train_source, val_source)
        if jax.process_index() == 0:
            write_text(folder.path / "parameters.txt", overview + "\n")
        stack.enter_context(jax.set_mesh(devices))
        saving = {"best_metric": config.checkpoint.best_metric, "timeout_seconds": config.checkpoint.grace_seconds}
        saved = stack.enter_context(Checkpoints(folder.checkpoints, **saving))
        stack.callback(spent.begin, goodput.SAVES)  # the wait for the last one, where `saved` is closed
        train_state, open_epoch = _begin_or_go_on(config, saved, init, shapes)
        start = int(train_state.step)
        runs.record_start(folder, config, start)
        spent.go_on_at(start)
        logger.info("%s: step %d of %d", folder.path, start, epochs.total_steps)
        batches = stack.enter_context(contextlib.closing(build.train_batches(config, train_source, start)))
        val_batches = stack.enter_context(contextlib.closing(build.eval_batches(config, val_source, devices)))
        eval_step = spent.compiled(build.eval_step(config, model, devices))
        stop_requested = spent.recording(stopping.on_sigterm(config.checkpoint.grace_seconds))

        def evaluate(variables):
            on_devices = mesh.to_devices(val_batches, devices)
            predictions = evaluation.predict(eval_step, variables, on_devices, stop_requested=stop_requested)
            if predictions is not None:
                runs.log_skipped(config, val_source, predictions.skipped)
            return predictions

        first = start if open_epoch.steps else start + 1
        log_epoch = MetricsLog(folder, first, saved.rows(), ended=epochs.ended_before(first))
        spent.begin(goodput.STEPS)
        try:
            train_state, finished = loop.train(
                train_state,
                epochs=epochs,
                train_step=spent.compiled(build.train_step(config, model, optimizer, devices)),
                evaluate=spent.timed(goodput.EVALUATION, evaluate),
                batches=spent.batches(mesh.to_devices(batches, devices)),
                save=spent.timed(goodput.SAVES, saved.save),
                open_epoch=open_epoch,
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
            ending.end_within(config.checkpoint.grace_seconds, of=f"{type(error).__name__}: {error}")
            if isinstance(error, loop.NonFiniteLoss):
                _write_bad_batch(folder, error, [train_source.names[index] for index in error.images])
            raise
        spent.state = "finished" if finished else "stopped"
    done = int(train_state.step)
    # Where no step was made, there was nothing to save.
    logger.info("%s at step %d", "finished" if finished else "stopped and saved" if done else "stopped", done)
    return 0 if finished else ending.STOPPED


def _goodput(config, folder: RunFolder) -> goodput.Goodput:
    advice = f"raise config.data.num_workers ({config.data.num_workers}), or prepare smaller images"
    return goodput.Goodput(
        folder,
        writes=jax.process_index() == 0,
        timeout_seconds=config.checkpoint.grace_seconds,
        advice=advice,
        began=modes.BEGAN,
    )


def _begin_or_go_on(
    config, saved: Checkpoints, init, shapes: state.TrainState
) -> tuple[state.TrainState, loop.OpenEpoch]:
    """A fresh state, or that of the last sound checkpoint with the predictions of the epoch it lies in."""
    found = saved.restore(LAST, shapes)
    if found is None:
        trial.check(saved.folder, shapes, config.checkpoint.grace_seconds)
        fresh = state.create(init, state.shardings(shapes))
        return _start_from_weights(config, fresh) if config.init.weights else fresh, loop.OpenEpoch()
    _, restored, open_epoch = found
    return restored, loop.OpenEpoch.from_json(open_epoch)


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

    def __init__(
        self, folder: RunFolder, first_step: int, saved: Iterable[Mapping[str, Any]] = (), ended: int = 0
    ):
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
        with named("write into", self._folder.events):
            for name, value in row.items():
                if name not in runs.INTEGER_COLUMNS:
                    self._events.add_scalar(name, value, row["step"])
            self._events.flush()
