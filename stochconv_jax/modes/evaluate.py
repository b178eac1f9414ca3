"""--mode=evaluate: measures the run in --workdir on its validation images, or on a test set."""

import contextlib
import logging
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stochconv_jax import metrics
from stochconv_jax.atomic_files import make_writable, write_csv
from stochconv_jax.data import sources, table_reader
from stochconv_jax.experiment import build, data_sources, runs
from stochconv_jax.run_folder import RunFolder, locked
from stochconv_jax.training import evaluation, mesh, progress
from stochconv_jax.training.checkpoints import BEST

logger = logging.getLogger(__name__)

VALIDATION, TEST, OTHER = "validation", "test", "other"  # whose images
FILE, PREDICTIONS = "evaluation.json", "predictions.csv"
LOCK = ".evaluate.lock"
LABELS = ("data.labels", "data.validation_labels")
NAME_A_TEST_SET = "to measure the run on a test set, name all of it by config.eval.path and config.eval.labels"


def run(_, overrides, workdir) -> None:
    """Writes evaluation.json and predictions.csv into `config.eval.output`.

    Those of other images than the run validated on are never written over the run's own. ValueError, before the work,
    for images that are not the run's and that the command line does not ask for.
    """
    folder, config = runs.load(overrides, workdir)
    build.use_compilation_cache(config)
    images, source = _images(folder, config, overrides)
    data = runs.fingerprint(source)
    output = _output(folder, config, images, data)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            # Two at once would leave the figures of one beside the predictions of the other.
            stack.enter_context(locked(output.path, LOCK))
        epochs = folder.epochs()  # ValueError before the work
        step, predictions = predict_with(folder, config, source)
        groups = groups_of(source, config)
        summary = {"images": images, **_checkpoint(config, step, epochs), "passes": config.eval.passes, "data": data}
        summary |= _figures(predictions, groups)
        summary["skipped"] = [source.names[index] for index in predictions.skipped]
        if jax.process_index() == 0:
            rows = prediction_rows(source, predictions, groups)
            file = write_csv(output.path / PREDICTIONS, list(rows[0]), rows)
            summary["predictions_crc32"] = zlib.crc32(file.read_bytes())
            output.write_json(FILE, {k: _json_number(v) for k, v in summary.items()})
    for name, value in summary.items():
        logger.info("%s: %s", name, value)
    logger.info("written: %s, %s", output.path / FILE, output.path / PREDICTIONS)
    if images == VALIDATION and summary["checkpoint_chosen_on"] == VALIDATION:
        logger.warning(
            "the checkpoint is the best by %s on these very images, so its figures flatter and their interval, which "
            "ignores the choice, is too narrow: evaluate with --config.eval.checkpoint=last, or a test set",
            summary["checkpoint_chosen_by"],
        )


def _images(folder: RunFolder, config, overrides: Mapping[str, Any]) -> tuple[str, sources.Source]:
    """Whose images are measured, and these.

    ValueError if they are neither a test set nor those that the run validated on, unless keys of data that say which
    images are meant are set to another value than the run's.
    """
    if config.eval.path or config.eval.labels:
        source = data_sources.test_set(config)
        _warn_of_training_images(folder, config, source)
        return TEST, source
    changed = [key for key in runs.changed(folder, overrides) if key.startswith("data.")]
    try:
        _, source = data_sources.training_and_validation(config)
    except ValueError as error:
        if not {"data.path", *LABELS}.intersection(changed):
            raise
        raise ValueError(f"{error}; {NAME_A_TEST_SET}") from error
    data, expected = runs.fingerprint(source), folder.read_config()["data"]["validation"]
    redrawn = config.data.source == "synthetic" and "data.seed" in changed  # drawn images have the same names
    if data == expected and not redrawn:
        return VALIDATION, source
    if "data.labels" in changed and not config.data.validation_labels:
        raise ValueError(f"config.data.labels would be split, and a share of it measured: {NAME_A_TEST_SET}")
    asked_for = [key for key in changed if key not in (*runs.FREE_DATA_KEYS, "data.labels")]
    if not asked_for:
        raise ValueError(
            f"the validation images are not those of the run in {folder.path} (names or labels differ: {data} now, "
            f"{expected} there), so some may have been trained on. Give the files that it was trained with, or, "
            f"{NAME_A_TEST_SET}"
        )
    logger.warning("other validation images than the run's own, as %s asks for", ", ".join(asked_for))
    return OTHER, source


def _warn_of_training_images(folder: RunFolder, config, source: sources.Source) -> None:
    """Says how many of a test set's images the run was trained on, where that can be seen.

    Names tell images apart in one folder only; and the training files need not be there.
    """
    one, other = (pathlib.Path(path).expanduser().resolve() for path in (config.data.path, config.eval.path or "."))
    if config.eval.path and one != other:
        return
    try:
        train, _ = data_sources.training_and_validation(config)
    except ValueError:
        return
    shared = sorted(set(train.names).intersection(source.names))
    if shared and runs.fingerprint(train) == folder.read_config()["data"]["train"]:
        logger.warning(
            "the run was trained on %d of the %d images of the test set (%s%s): its figures are too good",
            len(shared), len(source), ", ".join(shared[:3]), ", ..." if len(shared) > 3 else "",
        )  # fmt: skip


def _output(folder: RunFolder, config, images: str, data: Mapping[str, int]) -> RunFolder:
    """The folder to write into; ValueError or OSError where that cannot be, or would lose figures of other images."""
    own = {VALIDATION: ".", TEST: f"test_{pathlib.Path(config.eval.labels).stem}", OTHER: ""}
    name = config.eval.output or own[images]
    if not name:
        raise ValueError("config.eval.output must name a folder for the figures of other images than the run's own")
    output = RunFolder(folder.path / pathlib.Path(name).expanduser())
    is_own = output.path.resolve() == folder.path.resolve()
    if not (is_own and images == VALIDATION):
        if (output.path / "config.json").exists():
            what = "what is there is of the validation images of a run"
            raise ValueError(f"config.eval.output={name!r}: {what}; choose another folder")
        before = output.read_json(FILE)
        if before is not None and before.get("data") != data:
            advice = "choose another folder with --config.eval.output, or remove it"
            raise ValueError(f"{output.path / FILE} is of other images: {advice}")
    make_writable(output.path, "choose another folder with --config.eval.output")
    return output


def _checkpoint(config, step: int, epochs: Mapping[int, int]) -> dict[str, Any]:
    """Which checkpoint is measured, how it was chosen and on what, and how far the run had come.

    `epochs`: their numbers by the step that ended each.
    """
    metric = config.checkpoint.best_metric
    best = config.eval.checkpoint == BEST
    return {
        "checkpoint_step": step,
        "checkpoint_epoch": epochs.get(step),  # None inside an epoch
        "checkpoint_asked_for": config.eval.checkpoint,
        "checkpoint_chosen_by": metric if best else "",
        "checkpoint_chosen_on": "" if not best else VALIDATION if metric.startswith("val_") else "training",
        "run_step": max([step, *epochs]),
    }


def _figures(predictions: evaluation.Predictions, groups: Sequence[str] | None) -> dict[str, Any]:
    """The quality of the predictions, after all passes and, for the ROC AUC, after 1, 2, ... of them.

    `groups`: of each image of the source, where known.
    """
    log_p = metrics.log_probabilities(predictions.logits)
    by_passes = [
        metrics.roc_auc(predictions.label, metrics.mean_log_probabilities(log_p[:passes]))
        for passes in range(1, len(log_p) + 1)
    ]
    known = None if groups is None else [groups[index] for index in predictions.index]
    figures = metrics.summary(predictions.label, predictions.log_p(), known)
    spread = float(predictions.spread()[:, -1].mean())
    return {**figures, "roc_auc_by_passes": by_passes, "mean_std_over_passes": spread}


def predict_with(folder, config, source: sources.Source) -> tuple[int, evaluation.Predictions]:
    """Restores the run's checkpoint and predicts every image of `source`; also returns the checkpoint's step."""
    devices = mesh.create()
    build.check_shared_memory(config, devices, trains=False, eval_images=len(source))
    with jax.set_mesh(devices):
        step, variables = runs.restore(folder, config, devices)
        report = progress.Progress(len(source), every=config.log_every_seconds)
        eval_step = build.eval_step(config, build.classifier(config), devices)
        with contextlib.closing(build.eval_batches(config, source, devices, rounds=1)) as batches:
            on_devices = mesh.to_devices(batches, devices)
            predictions = evaluation.predict(eval_step, variables, on_devices, on_batch=report.update)
    runs.log_skipped(config, source, predictions.skipped)
    if not len(predictions.index):
        raise ValueError(f"none of the {len(source)} images can be used")
    return step, predictions


def groups_of(source: sources.Source, config) -> Sequence[str] | None:
    """Of each image its group, by the column that config.data.group_by names; None where the source has none."""
    columns = source.columns
    name = table_reader.find_column(columns, config.data.group_by) if config.data.group_by else None
    return columns[name] if name else None


def prediction_rows(
    source: sources.Source, predictions: evaluation.Predictions, groups: Sequence[str] | None
) -> list[dict]:
    """Rows of predictions.csv: image, target, probability (of class 1, or of each class), std over passes.

    `image` is the user's own text. Where `groups` are known, `group` is the image's. After them come the source's own
    columns, such as year and patient_id.
    """
    texts, rows = source.texts, []
    for label, (index, cells) in zip(predictions.label, probability_cells(predictions).items()):
        group = {} if groups is None else {"group": groups[index]}
        rows.append({"image": texts[index], "target": int(label), **cells, **group})
    more = further_columns(source.columns, rows[0])
    return [row | {name: more[name][i] for name in more} for row, i in zip(rows, predictions.index)]


def probability_cells(predictions: evaluation.Predictions) -> dict[int, dict[str, float]]:
    """By index in the source: probability (of class 1 of two, or of each class) and its std over passes."""
    probability, spread = np.exp(predictions.log_p()), predictions.spread()
    classes = range(probability.shape[1])
    columns = {"": 1} if len(classes) == 2 else {f"_{k}": k for k in classes}
    cells: dict[int, dict[str, float]] = {int(index): {} for index in predictions.index}
    for row, index in enumerate(predictions.index):
        for suffix, k in columns.items():
            found = {f"probability{suffix}": float(probability[row, k]), f"std{suffix}": float(spread[row, k])}
            cells[int(index)] |= found
    return cells


def further_columns(columns: dict[str, list[str]], row: dict) -> dict[str, list[str]]:
    """The columns whose names `row` does not have, whatever their capitals; the log says which are left out."""
    taken = [name for name in columns if table_reader.find_column(row, name)]
    if lost := [name for name in taken if name.casefold() not in ("image", "target")]:
        logger.warning("the table's own %s is left out: the predictions have such a column", " and ".join(lost))
    return {name: texts for name, texts in columns.items() if name not in taken}


def _json_number(value):
    """NaN is not JSON; what is not defined becomes null."""
    if isinstance(value, list):
        return [_json_number(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
