"""A run folder of an earlier version evaluates, predicts and goes on.

tests/fixtures/jax_0_10_2/run was stopped by SIGTERM inside its second epoch: version 0.1 (commit bf194ca) on Python
3.11.7, jax 0.10.2 and one CPU device. `expected` holds what the same version made of the run without a stop: the
metrics.csv of its three epochs, and the predictions.csv of two passes.
"""

import csv
import shutil

import cv2
import numpy as np
import pytest

import stochconv_jax
from stochconv_jax.experiment import data_sources, runs
from tests.conftest import PATIENCE, ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "jax_0_10_2"
# Two versions of a compiler sum in other orders, and RMSProp divides gradients of nothing but rounding by their size.
# Without the optimiser's state, or with other windows, losses change by 0.1 and more, and probabilities by 0.04 to 0.2.
LOSSES, PROBABILITIES = {"rtol": 5e-3}, {"atol": 5e-3}


def columns(file, *names):
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.fixture
def run(tmp_path):
    """A copy of the old run."""
    return shutil.copytree(FIXTURE / "run", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.smoke
def test_an_old_run_evaluates_and_predicts_as_it_did(main, run, tmp_path):
    numbers = ("target", "probability", "std")
    then = columns(run / "predictions.csv", *numbers)
    main(run, mode="evaluate", eval__checkpoint="last", eval__passes=2)
    np.testing.assert_allclose(columns(run / "predictions.csv", *numbers), then, atol=1e-5)
    _, source = data_sources.training_and_validation(runs.read_run(run, {})[1])
    (pictures := tmp_path / "pictures").mkdir()
    for index in range(3):
        cv2.imwrite(str(pictures / f"{source.names[index]}.png"), source.read(index)[..., ::-1])
    main(run, mode="predict", predict__images=pictures, eval__checkpoint="last", eval__passes=2)
    np.testing.assert_allclose(columns(run / "predicted.csv", *numbers[1:]), then[:3, 1:], atol=1e-5)
    found = stochconv_jax.load(run, "last").predict(pictures, passes=2)
    np.testing.assert_allclose(np.stack([found.probability[:, 1], found.std[:, 1]], 1), then[:3, 1:], atol=1e-5)
    main(run, mode="show", show__images=pictures, show__topics="filters", eval__checkpoint="7")
    assert len(list((run / "show").glob("*_filters.png"))) == 3


@pytest.mark.slow
@pytest.mark.smoke
def test_an_old_run_goes_on_where_it_stopped_and_ends_as_without_a_stop(main, run):
    process = main.start(run, f"--config={run / 'config.json'}", mode=None)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "step 11 of 20" in output and "finished at step 20" in output, output
    assert (run / "checkpoints" / "step_20" / "variables").is_dir()  # beside those of the older format
    numbers = ("epoch", "step", "train_loss", "val_loss", "learning_rate")
    expected = FIXTURE / "expected"
    then, now = (columns(folder / "metrics.csv", *numbers) for folder in (expected, run))
    np.testing.assert_allclose(now, then, **LOSSES)
    main(run, mode="evaluate", eval__checkpoint="last", eval__passes=2)
    numbers = ("target", "probability", "std")
    then, now = (columns(folder / "predictions.csv", *numbers) for folder in (expected, run))
    np.testing.assert_allclose(now, then, **PROBABILITIES)
