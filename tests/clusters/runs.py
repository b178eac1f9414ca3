"""The tiny run that the launchers start: its flags, its processes' environment, and the same run in one process."""

import json
import os
import pathlib
import sys

import cv2
import numpy as np

from stochconv_jax.experiment import data_sources, runs
from tests.conftest import CACHE, PROCESS, ROOT
from tests.modes.conftest import CHANGED, TINY
from tests.modes.runs import rows
from tests.runtime.processes import ROUNDING, TRAINED, assert_same_to_rounding

LAUNCHERS = ROOT / "docs" / "launchers"
ENVIRON = PROCESS | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "PYTHON": sys.executable,
    "SLOW_STEP": "1.5",
}
# A start that is to be interrupted: its steps take SLOW_STEP seconds more, so that there is time for it.
SLOW = """
import os, time
from stochconv_jax.training.progress import Progress
real = Progress.update
def update(*arguments, **keys):
    time.sleep(float(os.environ["SLOW_STEP"]))
    real(*arguments, **keys)
Progress.update = update
"""


def flags(workdir, **settings) -> list[str]:
    """Of a run of 13 steps; `settings`: config keys with '__' for dots."""
    keys = TINY | {name.replace("__", "."): value for name, value in (TRAINED | settings).items()}
    return [f"--config={ROOT / 'configs' / 'quickstart.py'}", *mode_flags(workdir, "train", **keys)]


def mode_flags(workdir, mode, **settings) -> list[str]:
    """Of any mode."""
    keys = {"compilation_cache": CACHE} | {name.replace("__", "."): value for name, value in settings.items()}
    return [f"--mode={mode}", f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in keys.items())]


def slow_python(folder: pathlib.Path, unless: str) -> pathlib.Path:
    """A Python that runs main.py slowly, unless the shell's condition `unless` holds."""
    (folder / "slow.py").write_text(CHANGED.format(root=str(ROOT), before=SLOW))
    (file := folder / "python").write_text(
        f'#!/bin/sh\nif {unless}; then exec {sys.executable} "$@"; fi\nexec {sys.executable} {folder}/slow.py "$@"\n'
    )
    file.chmod(0o755)
    return file


def pictures(workdir, folder) -> pathlib.Path:
    """The validation images of a run as files."""
    _, config = runs.read_run(workdir, {})
    _, source = data_sources.training_and_validation(config)
    folder.mkdir()
    for index, name in enumerate(source.names):
        cv2.imwrite(str(folder / f"{name}.png"), source.read(index)[..., ::-1])
    return folder


def assert_same_results(first, second) -> None:
    """Training, evaluation and prediction agree to rounding."""
    assert_same_to_rounding(first, second)
    one, other = (json.loads((workdir / "evaluation.json").read_text()) for workdir in (first, second))
    for name in ("roc_auc", "log_loss", "average_precision"):
        np.testing.assert_allclose(one[name], other[name], rtol=ROUNDING)
    for file in ("predictions.csv", "predicted.csv"):
        one, other = (rows(workdir / file) for workdir in (first, second))
        assert [row["image"] for row in one] == [row["image"] for row in other] and len(one) == 11
        probabilities = [[float(row["probability"]) for row in table] for table in (one, other)]
        np.testing.assert_allclose(*probabilities, atol=ROUNDING)


def environ(**more) -> dict[str, str]:
    """Of a launcher's command."""
    return os.environ | ENVIRON | more
