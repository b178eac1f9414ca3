"""The training step: one device or eight, and what the compiled program moves between devices."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import state
from tests.training.step_cases import BATCH, IMAGE, batch_of, setup


def logits(metrics):
    """Returns the logits of a step's rows, [B, K]."""
    return metrics.compute()["rows"]["logits"]


def one_step(devices, seed, **model):
    mesh, init, step = setup(devices, **model)
    with jax.set_mesh(mesh):
        return step(state.create(init, meshes.replicated(mesh)), batch_of(mesh, seed))


@pytest.mark.slow
def test_a_step_on_eight_devices_is_the_step_on_one():
    seed = np.random.default_rng(0).integers(2**31)
    settings = {"stochastic_depth": 0.2, "dropout": 0.3, "merge_after": "1"}
    (one, metrics), (eight, spread) = (one_step(devices, seed, **settings) for devices in (1, 8))
    # float32 sums in another order; batch norm's statistics are over the whole batch on both.
    np.testing.assert_allclose(logits(metrics), logits(spread), rtol=1e-3, atol=1e-4)
    for a, b in zip(jax.tree.leaves(one.trained()), jax.tree.leaves(eight.trained()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert int(eight.step) == 1
    for state_after, found in (one, metrics), (eight, spread):
        arrays = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(state_after.trained())]
        sizes = [array.size for array in arrays]
        assert min(sizes) < meshes.SMALLEST_SPLIT <= max(sizes)
        expected = np.linalg.norm(np.concatenate(arrays))
        np.testing.assert_allclose(found.compute()["steps"]["norm"], expected, rtol=1e-6)


def test_the_shapes_of_a_state_and_its_making_share_a_trace():
    mesh, init, _ = setup(1)
    traced, function = [], init.function

    def counted(seed):
        traced.append(seed)
        return function(seed)

    init.function = counted
    with jax.set_mesh(mesh):
        state.create(init, state.shardings(state.shapes(init, meshes.placement(mesh, split=False))))
    assert len(traced) == 1


@pytest.mark.slow
def test_runs_of_other_seeds_share_their_programs_and_differ_in_their_numbers():
    texts, results = [], []
    for seed in np.random.default_rng(0).choice(2**31, 2, replace=False).tolist():
        mesh, init, step = setup(1, run_seed=seed)
        with jax.set_mesh(mesh):
            first, batch = state.create(init, meshes.replicated(mesh)), batch_of(mesh, 0)
            kernels = np.concatenate([np.ravel(x) for x in jax.tree.leaves(first.params)])
            texts.append([jax.jit(init.function).lower(seed=init.seed).as_text(), step.lower(first, batch).as_text()])
            # The second run's first step from the first run's state: what differs are the windows.
            results.append((kernels, logits(step(setup_state(mesh), batch)[1])))
    assert texts[0] == texts[1]
    for one, other in zip(*results):
        assert not np.allclose(one, other)


def setup_state(mesh):
    """Returns the initial state of seed 0."""
    return state.create(setup(1)[1], meshes.replicated(mesh))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_every_step_runs_the_program_of_the_first(devices):
    mesh, init, step = setup(devices)
    with jax.set_mesh(mesh):
        now = state.create(init, meshes.replicated(mesh))
        for seed in range(3):
            now, _ = step(now, batch_of(mesh, seed))
            assert step.function._cache_size() == 1


def test_the_average_follows_parameters_and_statistics():
    mesh, init, step = setup(1, branches=("thumbnail",))
    with jax.set_mesh(mesh):
        first = state.create(init, meshes.replicated(mesh))
        before = jax.tree.map(np.asarray, first.trained())
        after, _ = step(first, batch_of(mesh, 0))
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * np.asarray(b), before, after.trained())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.to_evaluate(), expected)
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after.trained())
    assert all(jax.tree.leaves(changed["batch_stats"]))


def collectives(text):
    """Returns (name, elements moved) of every collective of a compiled program."""
    found = []
    pattern = r"= (.*?) (all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)(?:-start)?\("
    for shapes, name in re.findall(pattern, text):
        sizes = [math.prod(map(int, dims.split(","))) for dims in re.findall(r"\w+\[([\d,]+)\]", shapes)]
        found.append((name, max(sizes, default=1)))
    return found


# tests/planning/test_hlo.py reads a step with a window for each image.
@pytest.mark.parametrize("sampling", [pytest.param("per_image", marks=pytest.mark.slow), "per_batch"])
def test_no_image_crosses_devices(sampling):
    mesh, init, step = setup(8, sampling=sampling)
    with jax.set_mesh(mesh):
        shapes = state.shapes(init, meshes.placement(mesh, split=False))
        text = step.lower(shapes, batch_of(mesh, 0)).compile().as_text()
    moved = collectives(text)
    assert any(name == "all-reduce" for name, _ in moved), "no gradient is reduced: the pattern misses the collectives"
    # Logits, labels and indices are gathered, a number or two an image; gradients and statistics are reduced.
    assert max((size for name, size in moved if name != "all-reduce"), default=0) <= 2 * BATCH
    largest = max(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init).params))
    assert max(size for _, size in moved) <= largest < math.prod(IMAGE)
    assert "scatter(" not in text


def test_a_bad_collective_is_seen():
    mesh, *_ = setup(8)
    with jax.set_mesh(mesh):
        images = batch_of(mesh, 0)["image"]
        gathered = jax.jit(lambda x: x.astype(jnp.float32), out_shardings=meshes.replicated(mesh))
        moved = collectives(gathered.lower(images).compile().as_text())
    assert max(size for _, size in moved) >= images.size
