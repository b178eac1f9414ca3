"""--mode=evaluate: measures the run in --workdir on its validation images, or on a test set."""

import contextlib
import logging
import math
import pathlib
import zlib
from collections.abc import Container, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.atomic_files import make_writable, write_csv
from stochconv_jax.experiment import batch_checks, calibrations, ensembles, evaluated_images, runs
from stochconv_jax.experiment.evaluated_images import VALIDATION
from stochconv_jax.experiment.prediction_rows import group_of_each, prediction_rows
from stochconv_jax.experiment.runs import EVALUATE_LOCK, EVALUATION, PREDICTIONS
from stochconv_jax.predictor import Predictor
from stochconv_jax.run_folder import RunFolder, locked
from stochconv_jax.training.checkpoints import BEST
from stochconv_jax.training.evaluation import Predictions

logger = logging.getLogger(__name__)

SHOWN = (
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier_score",
    "accuracy",
    "balanced_accuracy",
    "calibration_error",
)
CHOOSE_ANOTHER = "choose another folder with --config.eval.output"


def run(_, overrides, workdir) -> None:
    """Writes evaluation.json and predictions.csv into config.eval.output, and calibration.json for validation images.

    Those of other images than the run validated on are never written over the run's own. Raises ValueError, before the
    work, for images that are not the run's and that the command line does not ask for. Several runs are evaluated as an
    ensemble, see `ensembles`.
    """
    root, folders = ensembles.of_workdir(workdir)
    if [folder.path for folder in folders] == [root.path]:
        _evaluate_run(root, overrides)
    else:
        _evaluate_ensemble(root, folders, overrides)


def _evaluate_run(folder: RunFolder, overrides: Mapping[str, Any]) -> None:
    _, config = runs.read_run(folder.path, overrides)
    experiment = runs.experiment(folder, config)
    experiment.use_compilation_cache()
    kind, source = evaluated_images.choose(folder, config, overrides)
    data = runs.fingerprint(source, config.data.metadata_columns)
    output = evaluated_images.output_folder(folder, config, kind, data)
    with _locked(output):
        epochs = folder.epochs()  # raises ValueError before the work
        batch_checks.check_shared_memory(experiment, eval_images=len(source))
        predictor = Predictor(folder, experiment)
        predictions, _ = predictor.predict_source(source)
        groups = group_of_each(source, config.data.group_by)
        made = predictor.predicted_by
        # An epoch is None for a checkpoint inside it.
        steps = {"checkpoint_epoch": epochs.get(predictor.step), "run_step": max([predictor.step, *epochs])}
        about = {"images": kind, **made, **steps, **_choice(config), "data": data, "classes": list(config.data.classes)}
        decided = _decide(predictions, groups, output if kind == VALIDATION else folder, made, config, kind)
        summary = about | predictions.quality(groups) | decided
        summary["skipped"] = [source.names[index] for index in predictions.skipped]
        _write(output, summary, prediction_rows(source, predictions, groups))


def _evaluate_ensemble(root: RunFolder, folders: Sequence[RunFolder], overrides: Mapping[str, Any]) -> None:
    """Evaluates runs as one model on a test set, or on the validation images of all of them together."""
    configs = {ensembles.name_of(folder, root): runs.read_run(folder.path, overrides)[1] for folder in folders}
    ensembles.refuse_other_classes(configs)
    asked = next(iter(configs.values())).eval
    output = RunFolder(root.path / pathlib.Path(asked.output).expanduser())
    make_writable(output.path, CHOOSE_ANOTHER)
    if not (asked.path or asked.labels):  # else a subfolder is written
        _refuse_other_runs(output, configs)
    found = [_predict(folder, name, configs[name], overrides) for folder, name in zip(folders, configs)]
    kinds, members = zip(*found)
    config, kind = next(iter(configs.values())), evaluated_images.kind_of_all(kinds)
    source, predictions, rank = ensembles.pool(members)
    data = runs.fingerprint(source)
    output = evaluated_images.output_folder(root, config, kind, data)
    with _locked(output):
        groups = group_of_each(source, config.data.group_by)
        made = ensembles.predicted_by((one.name, one.predicted_by) for one in members)
        by_run = {one.name: one.predictions.quality()["roc_auc"] for one in members}
        about = {"images": kind, "roc_auc_by_run": by_run, "predictions_per_image": len(predictions.logits), **made}
        about |= {**_choice(config), "data": data, "classes": list(config.data.classes)}
        fitted_to = ensembles.fitted_to(len(predictions.logits), len(members))
        where = output if kind == VALIDATION else root
        decided = _decide(predictions, groups, where, made, config, kind, fitted_to)
        quality = {name.replace("passes", "runs"): value for name, value in predictions.quality(groups).items()}
        ranked = {} if rank is None else {"mean_of_ranks": ensembles.rank_figures(predictions.label, rank)}
        summary = about | quality | ranked | decided | {"skipped": ensembles.skipped(members)}
        _write(output, summary, prediction_rows(source, predictions, groups, rank))


def _refuse_other_runs(output: RunFolder, names: Container[str]) -> None:
    """Raises ValueError if the evaluation in `output` is of runs that are not in `names`; more runs replace it."""
    before = output.read_json(EVALUATION) or {}
    if others := [name for name in before.get("roc_auc_by_run", ()) if name not in names]:
        what = f"{output.path / EVALUATION} is of other runs, such as {others[0]}"
        raise ValueError(f"{what}: {CHOOSE_ANOTHER}, or remove it")


def _predict(
    folder: RunFolder, name: str, config: ConfigDict, overrides: Mapping[str, Any]
) -> tuple[str, ensembles.Member]:
    """Returns the kind of images that a run of an ensemble evaluates, and its predictions of them."""
    experiment = runs.experiment(folder, config)
    experiment.use_compilation_cache()
    kind, source = evaluated_images.choose(folder, config, overrides)
    batch_checks.check_shared_memory(experiment, eval_images=len(source))
    predictor = Predictor(folder, experiment)
    predictions, _ = predictor.predict_source(source)
    return kind, ensembles.Member(name, source, predictions, predictor.predicted_by)


def _locked(output: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which no other evaluation writes into `output`.

    Two at once would leave the figures of one beside the predictions of the other.
    """
    return locked(output.path, EVALUATE_LOCK) if jax.process_index() == 0 else contextlib.nullcontext()


def _decide(
    predictions: Predictions,
    groups: Sequence[str] | None,
    folder: RunFolder,
    made: Mapping[str, Any],
    config: ConfigDict,
    kind: str,
    fitted_to: str = calibrations.OWN,
) -> dict[str, Any]:
    """Returns the entries of evaluation.json about decisions, see `calibrations.decide`.

    `groups`: the group of each image of the source, where known.
    """
    known = None if groups is None else [groups[int(index)] for index in predictions.index]
    wanted = {name: config.eval[name] for name in ("sensitivity", "coverage")} if kind == VALIDATION else None
    probability, spread = np.exp(predictions.log_p()), predictions.spread()
    return calibrations.decide(predictions.label, probability, spread, folder, made, wanted, known, fitted_to)


def _write(output: RunFolder, summary: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes predictions.csv, and then evaluation.json with its checksum; logs the figures."""
    if jax.process_index() == 0:
        file = write_csv(output.path / PREDICTIONS, list(rows[0]), rows)
        summary["predictions_crc32"] = zlib.crc32(file.read_bytes())
        output.write_json(EVALUATION, {name: _json_value(value) for name, value in summary.items()})
    logger.info("%s", in_words(summary))
    logger.info("written: %s with all figures, %s", output.path / EVALUATION, output.path / PREDICTIONS)
    if summary["images"] == VALIDATION and summary["checkpoint_chosen_on"] == VALIDATION:
        logger.warning(
            "the checkpoint is the best by %s on these same images, so its results are optimistic and their interval, "
            "which ignores the choice, is too narrow: evaluate with --config.eval.checkpoint=last, or a test set",
            summary["checkpoint_chosen_by"],
        )


def in_words(summary: Mapping[str, Any]) -> str:
    """Returns the main figures of evaluation.json as one line of text."""
    skipped = f", {len(summary['skipped'])} skipped" if summary["skipped"] else ""
    figures = []
    for name in SHOWN:
        if name in summary:
            bounds = summary.get(f"{name}_interval_95")
            interval = f" [{', '.join(f'{bound:.3f}' for bound in bounds)}]" if bounds else ""
            figures.append(f"{name} {summary[name]:.4g}{interval}")
    return f"{summary['n']} {summary['images']} images{skipped}: {', '.join(figures)}"


def _choice(config: ConfigDict) -> dict[str, str]:
    """Returns which checkpoint is measured, and how and on which images it was chosen."""
    metric = config.checkpoint.best_metric
    best = config.eval.checkpoint == BEST
    return {
        "checkpoint_asked_for": config.eval.checkpoint,
        "checkpoint_chosen_by": metric if best else "",
        "checkpoint_chosen_on": "" if not best else VALIDATION if metric.startswith("val_") else "training",
    }


def _json_value(value: Any) -> Any:
    """Returns None for NaN, which JSON does not have, also in lists and tables; other values as they are."""
    if isinstance(value, list):
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {name: _json_value(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
