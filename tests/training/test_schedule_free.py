"""A schedule-free optimiser in the training step: its average is what is evaluated, from the first weights on."""

import jax
import numpy as np

from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import optimizers, state
from tests.training.step_cases import batch_of, case, step_config
from tests.training.test_frozen import changed, names

KEYS = {
    "optimizer.name": "adamw",
    "optimizer.schedule": "constant",
    "optimizer.ema_decay": None,
    "optimizer.schedule_free": 0.9,
    "optimizer.weight_decay": 0.1,
    "optimizer.freeze": ("thumbnail",),
}


def test_the_average_of_loaded_weights_and_the_steps_is_evaluated_and_frozen_parts_stay():
    made = case(step_config(**KEYS), meshes.create(jax.devices()[:1]))
    with jax.set_mesh(made.mesh):
        fresh = state.create(made.init, state.shardings(made.shapes()))
        before = fresh.with_variables(jax.tree.map(lambda x: 2.0 * x + 1.0, fresh.trained()))
        start = jax.tree.map(np.array, before.trained())
        assert not changed(optimizers.averaged(before.opt_state, before.params), start["params"])
        after, step = before, made.train_step()
        for number in range(2):
            after, _ = step(after, batch_of(made.mesh, number))
    evaluated = after.to_evaluate()
    average = optimizers.averaged(after.opt_state, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), evaluated["params"], average)
    trained = {name for name in names(start["params"]) if not name.startswith("thumbnail")}
    assert changed(after.params, start["params"]) == changed(evaluated["params"], start["params"]) == trained
    far = jax.tree.map(lambda a, b: np.abs(a - b).max(), evaluated["params"], after.params)
    assert far["classifier"]["kernel"] > 1e-4
    for kernel, there in zip(*map(jax.tree.leaves, (evaluated["params"], start["params"]))):
        np.testing.assert_allclose(kernel, there, atol=0.1)  # near the loaded weights, not the random ones
