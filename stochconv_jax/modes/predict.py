"""--mode=predict: applies the run in --workdir to other images."""

import logging
import pathlib
from collections.abc import Mapping, Sequence

import jax

from stochconv_jax.atomic_files import make_writable, write_csv
from stochconv_jax.data import requested
from stochconv_jax.decisions import Calibration
from stochconv_jax.experiment import calibrations, runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.experiment.prediction_rows import decision_cells, further_columns, probability_cells
from stochconv_jax.predictor import ImageProbabilities, Predictor

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes config.predict.output with image, probability and std for each of config.predict.images, in order.

    Where the run has a calibration for these predictions, the columns of `decision_cells` follow. Where an image cannot
    be used, its probability is empty and the column `reason` says why. Where the images are the rows of a table, its
    other columns come last. Raises ValueError if no image can be used.
    """
    folder, config = runs.read_run(workdir, {**overrides, "data.on_bad_image": "skip"})
    experiment = Experiment(config)
    experiment.use_compilation_cache()
    asked = requested.find(config.predict.images, "predict.images", config.data.image_column)
    output = folder.path / pathlib.Path(config.predict.output).expanduser()
    make_writable(output.parent, "choose another file with --config.predict.output")
    experiment.check_shared_memory(eval_images=len(asked.found))
    predictor = Predictor(folder, experiment)
    found, calibration = predictor.predict_files(asked), calibrations.read(folder, predictor.predicted_by)
    logger.info("%d of %d images predicted", found.reasons.count(""), len(found.names))
    for reason in filter(None, asked.reasons):
        logger.warning("  %s", reason)
    if jax.process_index() == 0:
        rows = _rows(found, asked.columns, config.data.classes, calibration)
        write_csv(output, list(rows[0]), rows)
    logger.info("written: %s", output)


def _rows(
    found: ImageProbabilities,
    columns: Mapping[str, list[str]],
    classes: Sequence[str],
    calibration: Calibration | None,
) -> list[dict]:
    """Returns the rows of predicted.csv. `columns`: those of the table that the images were asked for by."""
    rows = []
    for name, probability, std, reason in zip(found.names, found.probability, found.std, found.reasons):
        cells = probability_cells(probability, std, classes)
        if calibration:
            cells |= decision_cells(probability, calibration, classes)
        rows.append({"image": name, **(dict.fromkeys(cells, "") if reason else cells), "reason": reason})
    more = further_columns(columns, rows[0])
    return [row | {name: more[name][place] for name in more} for place, row in enumerate(rows)]
