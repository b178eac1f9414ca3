"""Statistics estimated anew are those of all pixels of all batches, on any devices, and of nothing else."""

import dataclasses

import jax
import numpy as np
import pytest

from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import batch_statistics, state
from tests.training.step_cases import batch_of, case, step_config
from tests.training.test_frozen import changed, names

COUNT = 3


def fitted(devices=1, **keys):
    """Returns the experiment, the state before and the state after statistics of three batches."""
    settings = {"model.dropout": 0.5, "model.stochastic_depth": 0.5, "optimizer.ema_decay": 0.9}
    config = step_config(**settings | {key.replace("__", "."): value for key, value in keys.items()})
    made = case(config, meshes.create(jax.devices()[:devices]))
    with jax.set_mesh(made.mesh):
        before = state.create(made.init, state.shardings(made.shapes()))
        ema = before.ema and jax.tree.map(lambda x: 1.01 * x, before.ema)
        before = dataclasses.replace(before, ema=ema)
        split = config.sharding.parameters == "sharded"
        add = batch_statistics.compiled(made.model, made.mesh, seed=0, split_state=split)
        batches = (batch_of(made.mesh, number) for number in range(COUNT))
        return made, before, batch_statistics.refit(before, batches, COUNT, add)


def test_they_are_the_mean_and_the_variance_of_all_pixels_of_all_batches():
    made, before, after = fitted()
    kernel, variant, outputs = before.ema["params"]["thumbnail_stem"]["conv"]["kernel"], made.model.variant, []
    for number in range(COUNT):
        thumbnails = np.asarray(batch_of(made.mesh, number)["thumbnail"])
        pixels = np.float32((thumbnails / 255.0 - variant.mean) / variant.std)
        layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        outputs.append(jax.lax.conv_general_dilated(pixels, np.asarray(kernel), (2, 2), "SAME", **layout))
    found = after.ema["batch_stats"]["thumbnail_stem"]["norm"]
    pixels = np.concatenate(outputs).astype(np.float64)
    np.testing.assert_allclose(found["mean"], pixels.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], pixels.var((0, 1, 2)), rtol=1e-4)


def test_only_the_statistics_to_evaluate_with_change_and_all_of_them():
    _, before, after = fitted()
    assert not changed(before.trained(), after.trained()) and not changed(before.ema["params"], after.ema["params"])
    assert changed(before.ema["batch_stats"], after.ema["batch_stats"]) == names(before.ema["batch_stats"])
    _, before, after = fitted(optimizer__ema_decay=None)
    assert after.ema is None and not changed(before.params, after.params)
    assert changed(before.batch_stats, after.batch_stats) == names(before.batch_stats)


def test_they_do_not_depend_on_what_the_running_statistics_were():
    made, before, after = fitted(optimizer__ema_decay=None)
    other = dataclasses.replace(before, batch_stats=jax.tree.map(lambda x: 5 + x, before.batch_stats))
    with jax.set_mesh(made.mesh):
        add = batch_statistics.compiled(made.model, made.mesh, seed=0)
        batches = (batch_of(made.mesh, number) for number in range(COUNT))
        again = batch_statistics.refit(other, batches, COUNT, add)
    assert not changed(after.batch_stats, again.batch_stats)


@pytest.mark.parametrize("settings", [{}, {"sharding__parameters": "sharded"}])
def test_any_number_of_devices_gives_the_same(settings):
    one, four = (fitted(devices, **settings)[2].ema["batch_stats"] for devices in (1, 4))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), one, four)


def test_frozen_parts_keep_theirs_to_the_bit():
    _, before, after = fitted(optimizer__freeze=("thumbnail",))
    old, new = before.ema["batch_stats"], after.ema["batch_stats"]
    assert changed(old, new) == {name for name in names(old) if not name.startswith("thumbnail")}
