"""Parts that stay as they are while others train, and factors of the learning rate by part."""

import jax
import numpy as np
import pytest

from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import parts, state
from tests.training.step_cases import batch_of, case, step_config

KEYS = {"optimizer.ema_decay": 0.9, "optimizer.weight_decay": 0.1, "model.stochastic_depth": 0.5}


def trained(steps=2, **keys):
    """Returns the state before and after steps of one device, as arrays of the host."""
    devices = meshes.create(jax.devices()[:1])
    made = case(step_config(**KEYS | {key.replace("__", "."): value for key, value in keys.items()}), devices)
    with jax.set_mesh(devices):
        before = state.create(made.init, meshes.replicated(devices))
        first, after, step = jax.device_get(before), before, made.train_step()
        for number in range(steps):
            after, _ = step(after, batch_of(devices, number))
    return first, jax.device_get(after)


def changed(before, after):
    """Returns the names of the arrays that differ."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {parts.name_of(path) for (path, old), new in pairs if not np.array_equal(old, new)}


def names(tree):
    return {parts.name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("accumulate_steps", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_frozen_branch_stays_to_the_bit_whatever_its_factors_and_the_rest_trains(accumulate_steps):
    factors = ("thumbnail=0.1", "thumbnail/stage1=2")
    settings = {"optimizer__freeze": ("thumbnail",), "optimizer__factors": factors}
    before, after = trained(**settings, optimizer__accumulate_steps=accumulate_steps)
    for kind in ("params", "batch_stats"):
        old, new = getattr(before, kind), getattr(after, kind)
        rest = {name for name in names(old) if not name.startswith("thumbnail")}
        assert rest < names(old) and changed(old, new) == rest
        assert not any(name.startswith("thumbnail") for name in changed(old, after.ema[kind]))
        assert any(name.startswith("windows/stage1") for name in rest)


@pytest.mark.slow
def test_a_stage_is_frozen_by_its_name():
    before, after = trained(optimizer__freeze=("windows/stage1", "classifier"), model__merge_after="1")
    still = names(before.params) - changed(before.params, after.params)
    assert still == {name for name in names(before.params) if name.startswith(("windows/stage1", "classifier"))}


def test_frozen_parts_compute_as_in_evaluation():
    """The features of a frozen branch do not depend on the other images of the batch, nor on dropped blocks."""
    made = case(step_config(**KEYS, **{"optimizer.freeze": ("thumbnail",)}), meshes.create(jax.devices()[:1]))
    variables = state.create(made.init, meshes.replicated(made.mesh)).trained()
    batch = batch_of(made.mesh, 0)
    rngs = {"stochastic_depth": jax.random.key(0)}
    apply = jax.jit(
        lambda train: made.model.apply(
            variables, "thumbnail", batch, train=train, method="encode", rngs=rngs, mutable=["batch_stats"]
        )[0],
        static_argnums=0,
    )
    np.testing.assert_array_equal(apply(True), apply(False))


def test_a_factor_multiplies_the_steps_of_its_part():
    """The last factor that fits counts."""
    devices, random = meshes.create(jax.devices()[:1]), np.random.default_rng(0)
    shapes = case(step_config(), devices).shapes().params
    given = [jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), shapes) for _ in range(2)]

    def first_step(factors):
        optimizer = case(step_config(**KEYS, **{"optimizer.factors": factors}), devices).optimizer
        update = jax.jit(lambda params, gradients: optimizer.update(gradients, optimizer.init(params), params)[0])
        with jax.numpy_dtype_promotion("standard"):
            return update(*given)

    steps, others = first_step(()), first_step(("windows=0.5", "windows/head=4", "classifier=0"))
    ratios = {"thumbnail": 1, "windows": 0.5, "windows/head": 4, "classifier": 0}
    factors = parts.values_by_part(shapes, ratios, 1.0)
    for factor, step, found in zip(*map(jax.tree.leaves, (factors, steps, others)), strict=True):
        assert np.all(step)
        np.testing.assert_allclose(found, factor * step, rtol=1e-6)


def test_parts_that_do_not_exist_are_refused():
    for keys, message in (
        (
            {"optimizer__freeze": ("thumbnails",)},
            r"`freeze`: no part's name begins with 'thumbnails'; the parts are thumb",
        ),
        ({"optimizer__freeze": ("thumbnail/stage1/block1",)}, r"no part's name begins with 'thumbnail/stage1/block1'"),
        ({"optimizer__freeze": ("thumbnail", "windows", "classifier")}, r"nothing is left to train"),
        ({"optimizer__factors": ("stem=2",)}, r"`factors`: no parameter's name begins with 'stem'; names begin with"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(steps=0, **keys)
