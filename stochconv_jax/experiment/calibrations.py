"""The file calibration.json of a run: the numbers of a `Calibration`, and which predictions they are for."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stochconv_jax import decisions
from stochconv_jax.decisions import Calibration
from stochconv_jax.run_folder import RunFolder

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
# `fitted_to` of calibration.json: which predictions of the validation images the numbers were fitted to.
OWN = "the predictions of the model"
SOME_RUNS = "the mean of {} of {} runs, those that did not train on an image; approximate for the mean of all runs"
ADVICE = "evaluate the validation images with the same checkpoint, passes and views (config.eval)"


def decide(
    labels: np.ndarray,
    probability: np.ndarray,
    spread: np.ndarray,
    folder: RunFolder,
    predicted_by: Mapping[str, Any],
    wanted: Mapping[str, float] | None,
    groups: Sequence[str] | None = None,
    fitted_to: str = OWN,
) -> dict[str, Any]:
    """Returns the entries of evaluation.json about decisions.

    Args:
      labels: integer classes `[N]`.
      probability, spread: float64 `[N, classes]`, the probabilities and their standard deviation over passes.
      folder: where calibration.json is written or read.
      predicted_by: how the probabilities were predicted, such as the checkpoint's step and the number of passes.
      wanted: the arguments of `Calibration.fit` where the images are those to fit to. Their figures are then
        cross-fitted. None for other images, to which the calibration in `folder` is applied, if it has one.
      groups: the group of each image, such as the patient, '' for none, or None if no groups are known.
      fitted_to: which predictions these are, in words, for calibration.json.
    """
    if wanted:
        calibration = Calibration.fit(labels, probability, **wanted)
        outcomes = decisions.cross_fit(labels, probability, groups=groups, **wanted)
        write(folder, calibration, predicted_by, wanted, fitted_to)
    else:
        calibration = read(folder, predicted_by)
        outcomes = calibration.apply(probability) if calibration else None
    used = {"calibration": dataclasses.asdict(calibration), "cross_fitted": bool(wanted)} if calibration else {}
    spread = np.take_along_axis(spread, probability.argmax(axis=1)[:, None], axis=1)[:, 0]
    return used | decisions.summary(labels, probability, spread, outcomes)


def write(
    folder: RunFolder,
    calibration: Calibration,
    predicted_by: Mapping[str, Any],
    wanted: Mapping[str, float],
    fitted_to: str = OWN,
) -> None:
    """Writes calibration.json.

    `predicted_by` says how the probabilities were predicted, such as the checkpoint's step and the number of passes;
    `wanted` are the shares that `Calibration.fit` was given. `fitted_to` says in words which predictions it was given.
    """
    if jax.process_index() == 0:
        about = {**predicted_by, "fitted_to": fitted_to, "wanted": wanted}
        folder.write_json(CALIBRATION, about | dataclasses.asdict(calibration))


def read(folder: RunFolder, predicted_by: Mapping[str, Any]) -> Calibration | None:
    """Returns the calibration for probabilities that are `predicted_by`, or None, with a log line, if there is none.

    Raises ValueError, naming the file, if it is damaged.
    """
    content, file = folder.read_json(CALIBRATION), folder.path / CALIBRATION
    if content is None:
        logger.info("no thresholds and prediction sets, because there is no %s: %s", file, ADVICE)
        return None
    if differing := [name for name, value in predicted_by.items() if content.get(name) != value]:
        there = ", ".join(f"{name} {content.get(name)!r}" for name in differing)
        here = ", ".join(f"{name} {predicted_by[name]!r}" for name in differing)
        logger.warning("%s is not used, because it is for %s and not for %s: %s", file, there, here, ADVICE)
        return None
    try:
        thresholds = {name: float(value) for name, value in content["thresholds"].items()}
        found = Calibration(float(content["temperature"]), thresholds, tuple(map(float, content["set_limits"])))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): remove it, then {ADVICE}") from error
    if not (found.temperature > 0 and np.isfinite([*found.thresholds.values(), *found.set_limits]).all()):
        raise ValueError(f"{file} is damaged, a number is not finite: remove it, then {ADVICE}")
    return found
