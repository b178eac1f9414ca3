"""Parameters split over the devices: the same numbers, less memory, and checkpoints that fit either way."""

import jax
import numpy as np
import pytest

from configs import quickstart
from stochconv_jax.planning import hlo
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import state
from stochconv_jax.training.checkpoints import Checkpoints
from tests.training.step_cases import BATCH, IMAGE, THUMBNAIL, batch_of, case


def case_of(parameters):
    config = quickstart.get_config()
    config.update({"batch_size": BATCH, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.optimizer.update({"name": "adamw", "ema_decay": 0.9, "clip_norm": 1.0, "epsilon": 1e-3})
    config.sharding.parameters = parameters
    return case(config, meshes.create())


def run(parameters):
    """Returns the shapes planned for a state, the state after two steps, and the logits that it evaluates to."""
    made = case_of(parameters)
    shapes, step, mesh = made.shapes(), made.train_step(), made.mesh
    with jax.set_mesh(mesh):
        now = state.create(made.init, state.shardings(shapes))
        for seed in range(2):
            now, _ = step(now, batch_of(mesh, seed))
        batch = batch_of(mesh, 2)
        batch["mask"] = batch["label"] >= 0
        return shapes, now, made.eval_step()(now.to_evaluate(), batch).compute()["rows"]["logits"]


@pytest.fixture(scope="module")
def runs():
    return {parameters: run(parameters) for parameters in ("replicated", "sharded")}


@pytest.mark.slow
def test_split_parameters_train_and_evaluate_like_whole_ones(runs):
    (_, whole, logits), (_, split, spread) = runs["replicated"], runs["sharded"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), whole, split)
    np.testing.assert_allclose(logits, spread, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["replicated", "sharded"])
def test_a_step_leaves_the_state_where_it_was(runs, parameters):
    shapes, now, _ = runs[parameters]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, shapes, now)))
    split = [x for x in jax.tree.leaves(now) if not x.sharding.is_fully_replicated]
    assert bool(split) == (parameters == "sharded")


@pytest.mark.slow
@pytest.mark.parametrize("saved", ["replicated", "sharded"])
def test_a_checkpoint_fits_the_other_placement(runs, saved, tmp_path):
    other = {"replicated": "sharded", "sharded": "replicated"}[saved]
    with Checkpoints(tmp_path / "saved", best_metric="val_roc_auc") as kept:
        kept.save(2, runs[saved][1].to_items(), {})
    with Checkpoints(tmp_path / "saved", best_metric="val_roc_auc", read_only=True) as kept:
        _, items, _ = kept.restore("last", runs[other][0].to_items())
    restored = state.TrainState.from_items(items)
    jax.tree.map(np.testing.assert_array_equal, restored, runs[saved][1])
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, runs[other][0])))


@pytest.mark.slow
def test_splitting_saves_memory_and_moves_parameters_but_no_image():
    whole, split = (case_of(parameters).plan() for parameters in ("replicated", "sharded"))
    shapes = case_of("sharded").shapes()
    hlo.refuse_images(split.moved)
    gathered = sum(c.bytes for c, what in split.moved if what == hlo.PARAMETERS)
    sharded = [x.size for x in jax.tree.leaves(shapes.params) if not x.sharding.is_fully_replicated]
    assert gathered >= 4 * sum(sharded) > 0 and hlo.PARAMETERS not in {what for _, what in whole.moved}
    # Parameters, both moments of Adam and the average: seven eighths of each split array are elsewhere.
    saved = whole.memory["arguments"] - split.memory["arguments"]
    assert saved == pytest.approx(4 * 4 * sum(sharded) * 7 / 8, rel=0.01)
