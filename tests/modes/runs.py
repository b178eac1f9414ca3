"""Helpers for tests of runs that main.py makes: reading and comparing them, and waiting for their steps."""

import csv
import time

import jax
import numpy as np

from stochconv_jax.experiment import runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.predictor import Predictor
from stochconv_jax.runtime import mesh
from tests.conftest import PATIENCE

TIMES = ("images_per_second", "seconds")


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def numbers(workdir):
    """Returns metrics.csv without the columns that measure time."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows(workdir / "metrics.csv")]


def restored(workdir, checkpoint, devices=()):
    """Returns a predictor of a run's checkpoint, on all devices of this process or on `devices`."""
    folder, config = runs.read_run(workdir, {"eval.checkpoint": checkpoint})
    return Predictor(folder, Experiment(config, mesh=mesh.create(devices)))


def variables(workdir, devices=()):
    """Returns the variables of a run's last checkpoint."""
    return jax.tree.map(np.asarray, restored(workdir, "last", devices).variables)


def assert_same_run(first, second):
    assert numbers(first) == numbers(second)
    best = max(rows(second / "metrics.csv"), key=lambda row: (float(row["val_roc_auc"]), int(row["step"])))
    assert restored(first, "best").step == restored(second, "best").step == int(best["step"])
    jax.tree.map(np.testing.assert_array_equal, variables(first), variables(second))


def wait_for_step(process, workdir, step):
    """Waits until a checkpoint of `step` or later is complete."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        names = [path.name.removeprefix("step_") for path in workdir.glob("checkpoints/step_*")]
        if any(name.isdigit() and int(name) >= step for name in names):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint of step {step}")


def ablation(folder, variants):
    """Writes a config file with these variants of the quickstart, and returns the flag that names it."""
    (file := folder / "ablation.py").write_text(
        f"from configs.quickstart import get_config\n\n\ndef sweep():\n    return {variants!r}\n"
    )
    return f"--config={file}"


def steps(workdir):
    return {path.name for path in workdir.glob("checkpoints/step_*")}


def step_of(name):
    """Returns the step of a complete checkpoint's folder; 0 for another folder."""
    return int(name[5:]) if name[5:].isdigit() else 0


def last_step(workdir):
    return max(map(step_of, steps(workdir)), default=0)


def states(workdir, name="sweep.csv"):
    with (workdir / name).open(newline="") as lines:
        return {row["run"]: (row["state"], row["reason"]) for row in csv.DictReader(lines)}
