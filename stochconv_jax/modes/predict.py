"""--mode=predict: applies the run in --workdir to other images."""

import logging
import pathlib

import jax

from stochconv_jax.atomic_files import make_writable, write_csv
from stochconv_jax.data.requested import RequestedImages, find
from stochconv_jax.experiment import build, runs
from stochconv_jax.modes import evaluate

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes `config.predict.output` with image, probability and std for each of `config.predict.images`, in order.

    Of an image that cannot be used the probability is empty, and the column `reason` says why. Where the images are the
    rows of a table, its other columns follow. ValueError if none can be used.
    """
    folder, config = runs.load(overrides, workdir)
    build.use_compilation_cache(config)
    asked = find(config.predict.images, "predict.images", config.data.image_column)
    with config.unlocked():
        config.data.on_bad_image = "skip"
    output = folder.path / pathlib.Path(config.predict.output).expanduser()
    make_writable(output.parent, "choose another file with --config.predict.output")
    source = asked.source()
    _, predictions = evaluate.predict_with(folder, config, source)
    reasons = list(asked.reasons)
    for index, reason in runs.reasons(config, source, predictions.skipped).items():
        reasons[asked.found[index]] = reason
    logger.info("%d of %d images predicted", len(predictions.index), len(asked.texts))
    for reason in filter(None, asked.reasons):
        logger.warning("  %s", reason)
    if jax.process_index() == 0:
        found = evaluate.probability_cells(predictions)
        rows = _rows(asked, {int(asked.found[index]): cells for index, cells in found.items()}, reasons)
        write_csv(output, list(rows[0]), rows)
    logger.info("written: %s", output)


def _rows(asked: RequestedImages, cells: dict[int, dict[str, float]], reasons: list[str]) -> list[dict]:
    """A row for each image that was asked for; `cells`: what was predicted, by its place among them."""
    none = dict.fromkeys(next(iter(cells.values())), "")
    rows = [
        {"image": text, **cells.get(place, none), "reason": reason}
        for place, (text, reason) in enumerate(zip(asked.texts, reasons))
    ]
    more = evaluate.further_columns(asked.columns, rows[0])
    return [row | {name: more[name][place] for name in more} for place, row in enumerate(rows)]
