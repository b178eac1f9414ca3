"""The train state: what a checkpoint keeps of it, and in what parts."""

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from stochconv_jax.training import state
from stochconv_jax.training.checkpoints import Checkpoints
from tests.training.checkpoint_files import PLACE

pytestmark = pytest.mark.smoke


def train_state(*, average):
    """Returns a small state with distinct numbers, on eight devices."""
    random = np.random.default_rng(0)

    def tree():
        arrays = {"kernel": random.normal(size=(64, 128)), "scale": random.normal(size=3)}
        return {name: jax.device_put(x.astype(np.float32), PLACE(x.shape)) for name, x in arrays.items()}

    params, step = tree(), jax.device_put(np.int32(7), PLACE(()))
    ema = {"params": tree(), "batch_stats": tree()} if average else None
    opt_state = jax.tree.map(lambda x: jax.device_put(x, PLACE(x.shape)), optax.adam(0.1).init(params))
    return state.TrainState(step, params, tree(), opt_state, ema)


def as_one_item(folder, saved):
    """Saves as earlier versions did."""
    items = {"state": ocp.args.StandardSave(saved), "open_epoch": ocp.args.JsonSave({})}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(folder / "step_7", args=ocp.args.Composite(**items))


def as_items(folder, saved):
    with Checkpoints(folder, best_metric="val_loss") as kept:
        kept.save(7, saved.to_items(), {})


@pytest.mark.parametrize("write", [as_one_item, as_items])
@pytest.mark.parametrize("average", [False, True])
def test_a_state_and_its_variables_alone_come_back_from_either_format(tmp_path, write, average):
    saved = train_state(average=average)
    write(tmp_path, saved)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved)
    part = {"ema": shapes.ema} if average else shapes.trained()
    with Checkpoints(tmp_path, best_metric="val_loss", read_only=True) as kept:
        _, items, _ = kept.restore("last", shapes.to_items())
        _, alone = kept.restore_part("last", {state.VARIABLES: part})
    restored = state.TrainState.from_items(items)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, restored, saved)
    variables = alone[state.VARIABLES]["ema"] if average else alone[state.VARIABLES]
    jax.tree.map(np.testing.assert_array_equal, variables, saved.to_evaluate())


def test_the_items_of_a_checkpoint_are_variables_and_the_optimiser(tmp_path):
    as_items(tmp_path, train_state(average=True))
    folders = {path.name for path in (tmp_path / "step_7").iterdir() if path.is_dir()}
    assert folders == {state.VARIABLES, state.OPTIMIZER, "open_epoch"}
