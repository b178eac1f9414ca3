"""Why images that a run has skipped cannot be used."""

import logging
from collections.abc import Iterable

from stochconv_jax.config import name_keys
from stochconv_jax.data import pipeline, sources
from stochconv_jax.experiment.experiment import Experiment

logger = logging.getLogger(__name__)


def explain(experiment: Experiment, source: sources.Source, skipped: Iterable[int]) -> dict[int, str]:
    """Logs and returns, by index, why images were skipped.

    Each image is read once more, because the workers that skipped it report only its index.
    """
    images, found = pipeline.Reader(source, **experiment.pixels), {}
    for index in sorted(set(map(int, skipped))):
        try:
            images.picture(index)
            found[index] = f"{source.names[index]} could not be read before, and can be now"
        except sources.BadImage as error:
            found[index] = name_keys(str(error), ["data"])
    if found:
        logger.warning("%d of %d images cannot be used:", len(found), len(source))
    for reason in found.values():
        logger.warning("  %s", reason)
    return found
