"""A classifier that takes metadata: where they join, for every merge point, and in several passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import summary, variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.training import steps

FEATURES = 3
INPUTS = {
    "image": jax.ShapeDtypeStruct((2, 40, 44, 3), jnp.uint8),
    "thumbnail": jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8),
    "example": jax.ShapeDtypeStruct((2,), jnp.uint32),
    "metadata": jax.ShapeDtypeStruct((2, FEATURES), jnp.float32),
}


def model_of(**settings):
    settings = {"merge_after": 1, "metadata_features": FEATURES} | settings
    return Classifier(variant=variants.get("two_blocks"), window_output=(8, 8), **settings)


def drawn(model, seed=0):
    """Returns random inputs and variables."""
    random = np.random.default_rng(seed)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    shapes = jax.eval_shape(model.init, keys, INPUTS)
    variables = jax.tree.map(lambda x: np.abs(random.normal(size=x.shape)).astype(x.dtype) / 4, shapes)
    inputs = {name: random.integers(0, 256, x.shape).astype(x.dtype) for name, x in INPUTS.items()}
    return inputs | {"metadata": random.normal(size=(2, FEATURES)).astype(np.float32)}, variables


@pytest.mark.parametrize("settings", [{"merge_after": 1}, {"merge_after": "head"}, {"branches": ("thumbnail",)}])
def test_metadata_join_the_pooled_features_and_add_to_the_logits_alike_in_every_pass(settings):
    model = model_of(**settings)
    inputs, variables = drawn(model)

    @jax.jit
    def logits(inputs):
        return steps.predict_passes(variables, inputs, jnp.arange(2), model=model, seed=1)[0]

    found = logits(inputs)
    of_metadata = model.apply(variables, "metadata", inputs, method="encode")
    kernel = variables["params"]["classifier"]["kernel"][-128:]  # the last rows are those of the metadata
    other = inputs | {"metadata": inputs["metadata"][::-1]}
    expected = of_metadata[::-1] @ kernel - of_metadata @ kernel
    change = logits(other) - found
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(change, np.stack([expected] * 2), rtol=1e-3, atol=1e-4)


def test_a_classifier_without_metadata_has_the_parameters_of_one_with_them_but_theirs():
    with_metadata, without = (model_of(metadata_features=features) for features in (FEATURES, 0))
    rows = {row.name: row for row in summary.parts(with_metadata, one_image(INPUTS))}
    plain = {row.name: row for row in summary.parts(without, one_image(INPUTS))}
    assert list(rows) == [*list(plain)[:-1], "metadata", "classifier"]
    assert rows["metadata"].parameters == 3 * 512 + 512 + 2 * 512 + 512 * 128 + 128 + 2 * 128
    assert rows["classifier"].parameters == plain["classifier"].parameters + 128
    assert with_metadata.parts() == list(rows) and without.encoders == without.branches


def one_image(inputs):
    return {name: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for name, x in inputs.items()}


@pytest.mark.parametrize("frozen", [(), ("metadata",)])
def test_frozen_metadata_keep_their_statistics_and_drop_nothing(frozen):
    model = model_of(frozen=frozen, branches=("thumbnail",), dropout=0.0, stochastic_depth=0.0)
    inputs, variables = drawn(model)

    def train(key):
        rngs = {"dropout": jax.random.key(key)}
        return model.apply(variables, "metadata", inputs, method="encode", train=True, rngs=rngs, mutable="batch_stats")

    (one, stats), (other, _) = train(0), train(1)
    assert np.array_equal(one, other) == bool(frozen)
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), stats["batch_stats"]["metadata"], variables["batch_stats"]["metadata"]
    )
    assert set(jax.tree.leaves(changed)) == {not frozen}
