"""Parameters split over the devices: the same numbers, less memory, and checkpoints that fit either way."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from stochconv_jax.models import variants
from stochconv_jax.planning import cost, hlo
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import state
from stochconv_jax.training.checkpoints import Checkpoints
from tests.training.network import BATCH, Setup, batch_of, batch_shapes, classifier


def setup(split_state):
    """Returns a setup on eight devices with Adam, whose state is large."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3, eps=1e-3))
    model = classifier(variant=variants.get("tiny"))
    return Setup(meshes.create(), model, optimizer, split_state=split_state)


def test_an_array_is_split_along_its_longest_axis_that_the_devices_divide():
    mesh = meshes.create()
    place = meshes.placement(mesh, split=True)
    assert place((40, 128)).spec == P(None, "data") and place((3, 3, 64, 60)).spec == P(None, None, "data")
    assert place((1001, 999)).spec == P() and place((8, 8)).spec == P() and place(()).spec == P()
    assert meshes.placement(mesh, split=False)((40, 128)).spec == P()


def run(split_state):
    """Returns the shapes planned for a state, the state after two steps, and the logits that it evaluates to."""
    made = setup(split_state)
    with jax.set_mesh(made.mesh):
        shapes, step = made.shapes, made.train_step
        now = state.create(made.init, state.shardings(shapes))
        for seed in range(2):
            now, _ = step(now, batch_of(made.mesh, seed))
        batch = batch_of(made.mesh, 2)
        batch["mask"] = batch["label"] >= 0
        return shapes, now, made.eval_step(now.to_evaluate(), batch).compute()["rows"]["logits"]


@pytest.fixture(scope="module")
def runs():
    """By whether the state is split."""
    return {split: run(split) for split in (False, True)}


@pytest.mark.slow
def test_split_parameters_train_and_evaluate_like_whole_ones(runs):
    (_, whole, logits), (_, split, spread) = runs[False], runs[True]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), whole, split)
    np.testing.assert_allclose(logits, spread, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("split_state", [False, True])
def test_a_step_leaves_the_state_where_it_was(runs, split_state):
    shapes, now, _ = runs[split_state]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, shapes, now)))
    split = [x for x in jax.tree.leaves(now) if not x.sharding.is_fully_replicated]
    assert bool(split) == split_state


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True])
def test_a_checkpoint_fits_the_other_placement(runs, saved, tmp_path):
    shapes = runs[not saved][0]
    with Checkpoints(tmp_path / "saved", best_metric="val_roc_auc") as kept:
        kept.save(2, runs[saved][1].to_items(), {})
    with Checkpoints(tmp_path / "saved", best_metric="val_roc_auc", read_only=True) as kept:
        _, items, _ = kept.restore("last", shapes.to_items())
    restored = state.TrainState.from_items(items)
    jax.tree.map(np.testing.assert_array_equal, restored, runs[saved][1])
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, shapes)))


@pytest.mark.slow
def test_splitting_saves_memory_and_moves_parameters_but_no_image():
    programs = {}
    for split_state in (False, True):
        made = setup(split_state)
        batch, shapes = batch_shapes(made.mesh, BATCH), made.shapes
        with jax.set_mesh(made.mesh):
            programs[split_state] = cost.compile_step(made.train_step, shapes, batch, parameters=shapes.params)
    whole, split = programs[False], programs[True]
    hlo.refuse_images(split.moved)
    gathered = sum(c.bytes for c, what in split.moved if what == hlo.PARAMETERS)
    sharded = [x.size for x in jax.tree.leaves(shapes.params) if not x.sharding.is_fully_replicated]
    assert gathered >= 4 * sum(sharded) > 0 and hlo.PARAMETERS not in {what for _, what in whole.moved}
    # Parameters, both moments of Adam and the average: seven eighths of each split array are elsewhere.
    saved = whole.memory["arguments"] - split.memory["arguments"]
    assert saved == pytest.approx(4 * 4 * sum(sharded) * 7 / 8, rel=0.01)
