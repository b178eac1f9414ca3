"""Metrics merged over many steps are those of all steps, in their order."""

import numpy as np
import pytest

from stochconv_jax.training.step_metrics import MAX_ARRAYS, TrainMetrics, merge

pytestmark = pytest.mark.smoke


def test_merged_metrics_are_the_arrays_of_all_steps_in_order():
    random, total, steps = np.random.default_rng(0), TrainMetrics.empty(), 2 * MAX_ARRAYS + 7
    logits = random.normal(size=(steps, 3, 1)).astype(np.float32)
    for step in range(steps):
        rows = {name: np.arange(3, dtype=np.int32) + step for name in ("label", "index", "skipped")}
        one = TrainMetrics.single_from_model_output(
            loss=np.float32(step), norm=np.float32(-step), logits=logits[step], **rows
        )
        total = merge(total, one)
        assert len(total.rows.values["logits"]) <= MAX_ARRAYS
    values = total.compute()
    np.testing.assert_array_equal(values["steps"]["loss"], np.arange(steps))
    np.testing.assert_array_equal(values["rows"]["logits"], logits.reshape(-1, 1))
    np.testing.assert_array_equal(values["rows"]["index"], (np.arange(3) + np.arange(steps)[:, None]).ravel())
