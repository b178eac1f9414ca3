"""Helpers for tests that start several real processes."""

import concurrent.futures

import jax
import numpy as np

from tests.conftest import PATIENCE
from tests.modes.runs import rows, variables

# The network learns at this rate, and SGD does not amplify rounding from step to step as Adam's division does.
TRAINED = {
    "model__merge_after": 0,
    "model__dropout": 0.3,
    "optimizer__name": "sgd",
    "optimizer__learning_rate": 3e-3,
    "checkpoint__every_steps": 1,
    "num_epochs": 2,
}
ROUNDING = 1e-5


def outputs_of(processes, timeout=PATIENCE):
    """Returns the output of each process when all have ended.

    The outputs are read at the same time: a process whose pipe is full waits, and the others wait for it.
    """
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda process: process.communicate(timeout=timeout)[0], processes))


def finish(processes, code=0):
    """Returns the output of each process; all must end with `code`."""
    outputs = outputs_of(processes)
    assert [process.returncode for process in processes] == [code] * len(processes), "\n".join(outputs)
    return outputs


def assert_same_to_rounding(first, second):
    """Asserts that two runs, on other devices, have the same metrics and variables but for rounding."""
    for one, other in zip(rows(first / "metrics.csv"), rows(second / "metrics.csv"), strict=True):
        for name in one.keys() - {"images_per_second", "seconds"}:
            np.testing.assert_allclose(float(one[name]), float(other[name]), rtol=ROUNDING, err_msg=name)
    both = variables(first), variables(second)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=ROUNDING), *both)
