"""What of another network's variables starts a classifier: other branches, merge points and classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import pretrained, variants
from stochconv_jax.models.classifier import Classifier

BOTH = ("thumbnail", "windows")


def variables(branches, merge_after="head", classes=1, seed=0):
    """Returns random variables of a network of two blocks."""
    settings = {"window_output": (16, 16), "merge_after": merge_after, "num_classes": classes}
    model = Classifier(variants.get("two_blocks"), branches, **settings)
    inputs = {
        "thumbnail": jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8),
        "image": jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8),
        "example": jax.ShapeDtypeStruct((1,), jnp.uint32),
    }
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    shapes, random = jax.eval_shape(lambda x: model.init(keys, x), inputs), np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), dict(shapes))


def filled(target, source):
    arrays = {tuple(entry.key for entry in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(source)}
    return pretrained.fill(target, arrays)


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_one_branch_starts_both_and_a_last_layer_of_another_width_starts_at_zero():
    source, target = variables(("thumbnail",)), variables(BOTH, seed=1)
    got, report = filled(target, source)
    for branch in BOTH:
        for kind in ("params", "batch_stats"):
            equal(got[kind][branch], source[kind]["thumbnail"])
            equal(got[kind][f"{branch}_stem"], source[kind]["thumbnail_stem"])
    # The two branches' pooled features are concatenated, so the dense layer has twice as many inputs.
    assert report.fresh == ["classifier/kernel"] and report.unused == ["classifier/kernel"]
    equal(got["params"]["classifier"]["kernel"], np.zeros_like(target["params"]["classifier"]["kernel"]))


def test_the_same_branch_comes_first():
    source = variables(BOTH)
    got, report = filled(variables(BOTH, seed=1), source)
    equal(got, source)
    assert not report.fresh and not report.unused and report.loaded == len(jax.tree.leaves(source))


@pytest.mark.parametrize("merge_after", [0, 1])
def test_a_merge_point_moves(merge_after):
    """Two whole branches start a joint trunk, and a trunk starts the later stages of two branches."""
    whole, joint = variables(BOTH), variables(BOTH, merge_after, seed=1)
    got, report = filled(joint, whole)
    equal(got["params"]["merged"]["head"]["conv"], whole["params"]["thumbnail"]["head"]["conv"])
    stages = [f"merged/stage{merge_after + 1}/block1/"]  # its inputs are the channels of both branches
    assert all(name.startswith((*stages, "classifier/kernel")) for name in report.fresh) and report.fresh
    got, report = filled(whole, joint)
    for branch in BOTH:
        equal(got["params"][branch]["head"], joint["params"]["merged"]["head"])


def test_other_classes_take_all_but_the_last_layer():
    source, target = variables(("windows",), classes=1), variables(("windows",), classes=3, seed=1)
    got, report = filled(target, source)
    equal(got["params"]["windows"], source["params"]["windows"])
    assert sorted(report.fresh) == ["classifier/bias", "classifier/kernel"]
    assert not any(map(np.any, jax.tree.leaves(got["params"]["classifier"])))


def test_nothing_is_replaced_where_only_the_last_layer_fits():
    target = variables(("thumbnail",))
    got, report = filled(target, {"params": {"classifier": {"bias": np.ones(1, np.float32)}}})
    equal(got, target)
    assert report.loaded == 0
