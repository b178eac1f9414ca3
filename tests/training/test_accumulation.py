"""A batch in parts: what it must not change, what moves between devices, and what it refuses."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stochconv_jax.planning import hlo
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import state, steps
from tests.training.step_cases import BATCH, batch_of, case, step_config

depthwise_conv = importlib.import_module("stochconv_jax.ops.depthwise_conv")  # ops has a function of this name


class Frozen:
    """A model whose batch norm uses running statistics, which stay as they are, and whose parameters all train."""

    frozen = ()

    def __init__(self, model):
        self.model = model

    def apply(self, variables, rows, *, train, rngs, mutable):
        del train, mutable
        logits = self.model.apply(variables, rows, rngs={"windows": rngs["windows"]})
        return logits, {"batch_stats": variables["batch_stats"]}


def config_of(parts, **keys):
    return step_config(**{"optimizer.name": "sgd", "optimizer.accumulate_steps": parts} | keys)


@functools.cache
def one_step(parts, devices, *, frozen, weights=()):
    """Returns the state after one step of plain gradient descent, and the step's metrics."""
    made = case(config_of(parts), meshes.create(jax.devices()[:devices]), optax.sgd(1.0))
    replicated = meshes.placement(made.mesh, split=False)

    def step(first, batch):
        return steps.train_step(
            first,
            batch,
            model=Frozen(made.model) if frozen else made.model,
            optimizer=made.optimizer,
            seed=3,
            label_smoothing=0.1,
            focal_gamma=2.0,
            class_weights=weights,
            ema_decay=None,
            accumulate_steps=parts,
            compute_sharding=replicated,
            state_sharding=replicated,
        )

    with jax.set_mesh(made.mesh):
        first = state.create(made.init, meshes.replicated(made.mesh))
        return jax.device_get(jax.jit(step)(first, batch_of(made.mesh, 1)))


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), one, other)


@pytest.mark.slow
def test_with_frozen_batch_norm_parts_change_nothing():
    parts, devices, weights = 2, 8, (1.0, 5.0)
    unsplit, metrics = one_step(1, 1, frozen=True, weights=weights)
    split, parted = one_step(parts, devices, frozen=True, weights=weights)
    assert_close(unsplit.params, split.params)
    assert_close(metrics, parted)  # rows in their own places, too


@pytest.mark.slow
def test_parts_do_not_depend_on_the_devices():
    (one, metrics), (eight, spread) = (one_step(2, devices, frozen=False) for devices in (1, 8))
    assert_close((one.params, one.batch_stats), (eight.params, eight.batch_stats))
    assert_close(metrics, spread)


@pytest.mark.slow
def test_statistics_are_the_average_of_those_of_the_parts():
    split, _ = one_step(2, 1, frozen=False)
    made = case(config_of(1), meshes.create(jax.devices()[:1]), optax.sgd(1.0))

    @jax.jit
    def statistics_of(variables, rows):
        keys = {"windows": steps.rngs.key(3, "windows", jnp.int32(0))}
        return made.model.apply(variables, rows, train=True, rngs=keys, mutable=["batch_stats"])[1]["batch_stats"]

    with jax.set_mesh(made.mesh):
        first = state.create(made.init, meshes.replicated(made.mesh))
        batch = batch_of(made.mesh, 1)
        parts = [{name: x[part::2] for name, x in batch.items()} for part in range(2)]
        expected = [statistics_of(first.trained(), rows) for rows in parts]
    mean = jax.tree.map(lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, *expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), split.batch_stats, mean)


def planned(parts, **keys):
    return case(config_of(parts, **keys), meshes.create()).plan(4 * BATCH, parts=parts)


@pytest.mark.slow
def test_parts_save_memory_and_move_no_image():
    whole, parts = planned(1), planned(4)
    hlo.refuse_images(parts.moved)
    assert parts.memory["temporaries"] < 0.6 * whole.memory["temporaries"]
    norms = [c.times for c, what in parts.moved if what == hlo.BATCH_NORM]
    assert norms and set(norms) == {4}


@pytest.mark.slow
def test_operations_are_counted_for_all_parts(monkeypatch):
    """Replaces the CPU's loops in the depthwise gradient, whose body the compiler counts once."""
    monkeypatch.setattr(depthwise_conv, "_shifted", depthwise_conv._library)
    whole, parts = (planned(number, **{"model.branches": ("thumbnail",)}) for number in (1, 4))
    assert parts.costs["flops"] == pytest.approx(whole.costs["flops"], rel=0.1)


def test_a_batch_that_cannot_be_split_into_parts_is_refused():
    mesh = meshes.create()
    with pytest.raises(ValueError, match=r"config.batch_size=16 .* 8 devices, 4 parts each; .* --config.batch_size=32"):
        meshes.check_batch_size(BATCH, mesh, "config.batch_size", 4)
