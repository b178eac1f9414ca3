"""--mode=evaluate: measures the run in --workdir on its validation images, or on a test set."""

import contextlib
import logging
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.atomic_files import write_csv
from stochconv_jax.experiment import calibrations, evaluated_images, runs
from stochconv_jax.experiment.evaluated_images import VALIDATION
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.experiment.prediction_rows import group_of_each, prediction_rows
from stochconv_jax.experiment.runs import EVALUATE_LOCK, EVALUATION, PREDICTIONS
from stochconv_jax.predictor import Predictor
from stochconv_jax.run_folder import locked
from stochconv_jax.training.checkpoints import BEST

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes evaluation.json and predictions.csv into config.eval.output, and calibration.json for validation images.

    Those of other images than the run validated on are never written over the run's own. Raises ValueError, before the
    work, for images that are not the run's and that the command line does not ask for.
    """
    folder, config = runs.read_run(workdir, overrides)
    experiment = Experiment(config)
    experiment.use_compilation_cache()
    kind, source = evaluated_images.choose(folder, config, overrides)
    data = runs.fingerprint(source)
    output = evaluated_images.output_folder(folder, config, kind, data)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            # Two at once would leave the figures of one beside the predictions of the other.
            stack.enter_context(locked(output.path, EVALUATE_LOCK))
        epochs = folder.epochs()  # raises ValueError before the work
        experiment.check_shared_memory(eval_images=len(source))
        predictor = Predictor(folder, experiment)
        predictions, _ = predictor.predict_source(source)
        groups = group_of_each(source, config.data.group_by)
        summary = {"images": kind, **_checkpoint(config, predictor.step, epochs), "passes": config.eval.passes}
        summary |= {"data": data, "classes": list(config.data.classes)} | predictions.quality(groups)
        probability, spread = np.exp(predictions.log_p()), predictions.spread()
        wanted = {name: config.eval[name] for name in ("sensitivity", "coverage")} if kind == VALIDATION else None
        places = (output if wanted else folder), predictor.predicted_by
        summary |= calibrations.decide(predictions.label, probability, spread, *places, wanted)
        summary["skipped"] = [source.names[index] for index in predictions.skipped]
        if jax.process_index() == 0:
            rows = prediction_rows(source, predictions, groups)
            file = write_csv(output.path / PREDICTIONS, list(rows[0]), rows)
            summary["predictions_crc32"] = zlib.crc32(file.read_bytes())
            output.write_json(EVALUATION, {name: _json_value(value) for name, value in summary.items()})
    for name, value in summary.items():
        logger.info("%s: %s", name, value)
    logger.info("written: %s, %s", output.path / EVALUATION, output.path / PREDICTIONS)
    if kind == VALIDATION and summary["checkpoint_chosen_on"] == VALIDATION:
        logger.warning(
            "the checkpoint is the best by %s on these same images, so its results are optimistic and their interval, "
            "which ignores the choice, is too narrow: evaluate with --config.eval.checkpoint=last, or a test set",
            summary["checkpoint_chosen_by"],
        )


def _checkpoint(config: ConfigDict, step: int, epochs: Mapping[int, int]) -> dict[str, Any]:
    """Returns which checkpoint is measured, how and on which images it was chosen, and the run's last step.

    `epochs`: the number of each epoch by the step that ended it.
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


def _json_value(value: Any) -> Any:
    """Returns None for NaN, which JSON does not have, also in lists and tables; other values as they are."""
    if isinstance(value, list):
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {name: _json_value(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
