"""The loss of a step whose images are mixtures."""

import jax
import numpy as np

from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import losses, state
from tests.training.step_cases import BATCH, batch_of, setup


def test_the_loss_is_shared_between_the_two_classes():
    mesh, init, step = setup(1, branches=("thumbnail",), dropout=0.0, stochastic_depth=0.0)
    random = np.random.default_rng(0)
    share = random.uniform(0, 0.5, BATCH).astype(np.float32)
    mixed = random.integers(0, 2, BATCH).astype(np.int32)
    with jax.set_mesh(mesh):
        batch = dict(batch_of(mesh, 0))
        extra = next(meshes.to_devices([{"label_mixed": mixed, "share_mixed": share}], mesh))
        _, metrics = step(state.create(init, meshes.replicated(mesh)), batch | extra)
        logits, (loss,) = metrics.compute()["rows"]["logits"], metrics.compute()["steps"]["loss"]
        first, second = (losses.example_losses(logits, label) for label in (batch["label"], mixed))
    expected = ((1 - share) * np.asarray(first) + share * np.asarray(second)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert abs(loss - float(np.mean(first))) > 1e-4
