"""Our EfficientNet against keras.applications, with weights that go through a file and the reader."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.keras_models import CLASSES, keras, keras_model, with_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own

# Keras pads a network for images of any size as if all sizes were even, so these stay even down to the last stage.
SIDES = {"b0": ((96, 160),), "b7": ((32, 32), (64, 32))}


# Optimising a program that runs once costs more than it saves.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def values(model):
    """Returns the arguments of Keras' `stateless_call`: the values of trainable and of other variables."""
    return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]


def pictures(batch, size):
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "b0")) for name in SIDES])
def test_the_forward_pass_is_keras(name, tmp_path, capsys):
    reference = keras_model(name, seed=0)
    file = tmp_path / "network.weights.h5"
    reference.save_weights(file)
    model, variables, report = with_weights(name, file)
    assert sorted(report.fresh) == ["classifier/bias", "classifier/kernel"]
    predict = compiled(lambda variables, pixels: reference.stateless_call(*variables, pixels, training=False)[0])
    encode = compiled(lambda variables, inputs: model.apply(variables, "thumbnail", inputs, method="encode"))
    largest = 0.0
    for size in SIDES[name]:
        pixels = pictures(2, size)
        with jax.numpy_dtype_promotion("standard"):
            expected = np.asarray(predict(values(reference), pixels.astype(np.float32)))
        got = np.asarray(encode(variables, {"thumbnail": pixels}))
        assert np.ptp(expected) > 1e-3 * np.abs(expected).max()
        largest = max(largest, np.abs(got - expected).max() / np.abs(expected).max())
    with capsys.disabled():
        print(f"\n{name}: largest relative error of the features against keras.applications {largest:.1e}")
    assert largest <= 1e-4


@pytest.mark.slow
def test_a_training_step_has_keras_gradients(tmp_path, capsys):
    reference = keras_model("b0", seed=0, shape=(64, 64, 3))
    for layer in reference.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    file = tmp_path / "network.weights.h5"
    reference.save_weights(file)
    model, variables, _ = with_weights("b0", file, dropout=0.0, stochastic_depth=0.0)
    pixels, weights = pictures(6, (64, 64)), np.random.default_rng(0).normal(size=(6, CLASSES)).astype(np.float32)

    def keras_loss(trainable, rest):
        logits, updated = reference.stateless_call(trainable, rest, pixels.astype(np.float32), training=True)
        return (logits * weights).sum(), updated

    with jax.numpy_dtype_promotion("standard"):
        gradients, updated = compiled(jax.grad(keras_loss, has_aux=True))(*values(reference))
    for variable, value in zip(reference.trainable_variables, gradients):
        variable.assign(value)
    for variable, value in zip(reference.non_trainable_variables, updated):
        variable.assign(value)
    reference.save_weights(file)  # gradients in the weights' places, and the statistics after the step
    _, expected, _ = with_weights("b0", file)

    def loss(params):
        state = variables | {"params": params}
        logits, changed = model.apply(state, {"thumbnail": pixels}, train=True, mutable=["batch_stats"])
        return (logits * weights).sum(), changed["batch_stats"]

    got, statistics = compiled(jax.grad(loss, has_aux=True))(variables["params"])

    # Where a shift is taken out again by the next batch norm its gradient is zero, and what is left is rounding.
    floor = 1e-3 * max(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(expected["params"]))

    def error(a, b):
        return float(jnp.linalg.norm(a - b) / max(jnp.linalg.norm(b), floor))

    errors = jax.tree.map(error, got, expected["params"])
    worst = max(jax.tree.leaves(errors))
    with capsys.disabled():
        print(f"\nb0: largest relative error of a parameter's gradient against Keras {worst:.1e}")
    assert worst <= 1e-4
    assert max(jax.tree.leaves(jax.tree.map(error, statistics, expected["batch_stats"]))) <= 1e-4
