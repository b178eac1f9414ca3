"""The published code's own networks: sizes to the unit, shared weights, and that each difference makes one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, Conventions, LayerConfig, Stage
from stochconv_jax.models.variants import StageSpec
from tests.models.random_variables import random_variables

PUBLISHED, TORCH = CONVENTIONS["as_published"], CONVENTIONS["torch"]
LITE = Conventions().of_variant(variants.get("lite0"))
BOTH = ("thumbnail", "windows")


def shapes(variant, branches, conventions):
    model = Classifier(variant=variants.get(variant), branches=branches, layers=LayerConfig(conventions=conventions))
    inputs = {
        "thumbnail": jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8),
        "image": jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.uint8),
        "example": jax.ShapeDtypeStruct((1,), jnp.uint32),
    }
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    return jax.eval_shape(lambda x: model.init(keys, x), inputs)["params"]


@pytest.mark.parametrize(
    "variant, branches, shared, unshared",
    [
        ("b0", ("thumbnail",), 2_515_745, 3_999_521),
        ("b4", ("thumbnail",), 7_988_873, 17_521_417),
        ("b0", BOTH, 5_031_457, 7_999_009),
    ],
)
def test_published_sizes(variant, branches, shared, unshared):
    for share, expected in ((True, shared), (False, unshared)):
        conventions = dataclasses.replace(PUBLISHED, share_repeats=share)
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes(variant, branches, conventions))) == expected


def test_shared_repeats_get_one_gradient_the_sum_over_the_repeats():
    spec, x = StageSpec(4, 8, 4, 3, 1), jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 6, 8)), jnp.float32)
    shared, apart = (Stage(spec, LayerConfig(conventions=Conventions(share_repeats=share))) for share in (True, False))
    variables = jax.jit(lambda: shared.init(jax.random.key(0), x, None, False))()
    assert set(variables["params"]) == {"block1", "block2"}
    unrolled = {
        kind: {"block1": tree["block1"], **{f"block{n}": tree["block2"] for n in (2, 3, 4)}}
        for kind, tree in variables.items()
    }

    def gradient(stage, variables):
        def loss(params):
            return jnp.sin(stage.apply(variables | {"params": params}, x, None, False)).sum()

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    (value, got), (expected, parts) = gradient(shared, variables), gradient(apart, unrolled)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    total = jax.tree.map(lambda *each: sum(each), *(parts[f"block{n}"] for n in (2, 3, 4)))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves({"block1": parts["block1"], "block2": total}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@functools.cache
def made(conventions):
    """Returns the structure of the variables of a small network, and its output with random ones."""
    tiny = variants.get("tiny")
    spec = dataclasses.replace(tiny.stages[1], repeats=3)
    small = dataclasses.replace(tiny, stages=(spec,), head_filters=16)
    model = Classifier(variant=small, branches=("thumbnail",), layers=LayerConfig(conventions=conventions))
    random = np.random.default_rng(0)
    inputs = {"thumbnail": random.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)}
    variables = random_variables(jax.eval_shape(model.init, jax.random.key(0), inputs), random)
    return jax.tree.structure(variables), np.asarray(jax.jit(model.apply)(variables, inputs))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Conventions)])
def test_every_difference_makes_one(name):
    """Each convention alone changes the parameters or, with the same parameters, the output."""
    other = next(one for one in (PUBLISHED, TORCH, LITE) if getattr(one, name) != getattr(Conventions(), name))
    changed = dataclasses.replace(Conventions(), **{name: getattr(other, name)})
    (structure, output), (other_structure, other_output) = made(Conventions()), made(changed)
    assert structure != other_structure or not np.allclose(output, other_output, rtol=1e-6, atol=0)


def test_a_lite_network_has_no_squeeze_excite_and_bounded_activations():
    inputs = {"thumbnail": np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)}
    small = dataclasses.replace(variants.get("tiny"), lite=variants.get("lite0").lite)
    model = Classifier(variant=small, branches=("thumbnail",))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    assert not any("squeeze_excite" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables))
    large = jax.tree_util.tree_map_with_path(lambda path, x: 1e4 * x if "scale" in str(path) else x, variables)
    (pooled,) = jax.jit(lambda v: (model.apply(v, "thumbnail", inputs, method="encode"),))(large)
    assert pooled.min() >= 0 and pooled.max() <= 6 and pooled.max() > 1
