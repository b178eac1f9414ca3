"""--mode=predict: applies the run in --workdir to other images."""

import logging
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from stochconv_jax.atomic_files import make_writable, write_csv
from stochconv_jax.data import requested
from stochconv_jax.decisions import Calibration
from stochconv_jax.experiment import batch_checks, calibrations, ensembles, runs
from stochconv_jax.experiment.prediction_rows import decision_cells, further_columns, probability_cells
from stochconv_jax.predictor import ImageProbabilities, Predictor, mean_over_runs

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes config.predict.output with image, probability and std for each of config.predict.images, in order.

    Where the run has a calibration for these predictions, the columns of `decision_cells` follow. Where an image cannot
    be used, its probability is empty and the column `reason` says why. Where the images are the rows of a table, its
    other columns come last. Raises ValueError if no image can be used.

    Several runs predict as an ensemble: the mean probability, its standard deviation over the runs, and for two classes
    the column `rank`, the mean of the images' ranks.
    """
    root, folders = ensembles.of_workdir(workdir)
    overrides = {**overrides, "data.on_bad_image": "skip"}
    configs = {ensembles.name_of(folder, root): runs.read_run(folder.path, overrides)[1] for folder in folders}
    ensembles.refuse_other_classes(configs)
    first = next(iter(configs.values()))
    asked = requested.find(first.predict.images, "predict.images", first.data.image_column)
    output = root.path / pathlib.Path(first.predict.output).expanduser()
    make_writable(output.parent, "choose another file with --config.predict.output")
    found, made = [], []
    for folder, (name, config) in zip(folders, configs.items()):
        experiment = runs.experiment(folder, config)
        experiment.use_compilation_cache()
        batch_checks.check_shared_memory(experiment, eval_images=len(asked.found))
        predictor = Predictor(folder, experiment)
        found.append(predictor.predict_files(asked))
        made.append((name, predictor.predicted_by))
    if [folder.path for folder in folders] == [root.path]:
        (result,), rank, how = found, None, made[0][1]
    else:
        result, rank, how = mean_over_runs(found), mean_rank(found), ensembles.predicted_by(made)
    logger.info("%d of %d images predicted", result.reasons.count(""), len(result.names))
    for reason in filter(None, result.reasons):
        logger.warning("  %s", reason)
    if jax.process_index() == 0:
        rows = _rows(result, asked.columns, first.data.classes, calibrations.read(root, how), rank)
        write_csv(output, list(rows[0]), rows)
    logger.info("written: %s", output)


def mean_rank(found: Sequence[ImageProbabilities]) -> np.ndarray | None:
    """Returns the mean of the ranks that several runs give to the images, `[N]`; None for more than two classes."""
    probability = np.stack([one.probability for one in found])
    if probability.shape[2] != 2:
        return None
    usable = np.isfinite(probability[..., 1]).all(axis=0)
    rank = np.full(len(usable), np.nan)
    rank[usable] = ensembles.mean_of_ranks([ensembles.ranks(one[usable, 1]) for one in probability])
    return rank


def _rows(
    found: ImageProbabilities,
    columns: Mapping[str, list[str]],
    classes: Sequence[str],
    calibration: Calibration | None,
    rank: np.ndarray | None,
) -> list[dict]:
    """Returns the rows of predicted.csv. `columns`: those of the table that the images were asked for by."""
    rows = []
    for place, (name, reason) in enumerate(zip(found.names, found.reasons)):
        probability = found.probability[place]
        cells = probability_cells(probability, found.std[place], classes)
        if rank is not None:
            cells["rank"] = float(rank[place])
        if calibration:
            cells |= decision_cells(probability, calibration, classes)
        rows.append({"image": name, **(dict.fromkeys(cells, "") if reason else cells), "reason": reason})
    more = further_columns(columns, rows[0])
    return [row | {name: more[name][place] for name in more} for place, row in enumerate(rows)]
