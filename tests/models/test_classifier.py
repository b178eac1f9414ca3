"""The classifier: sizes, meeting points, and what an image's prediction may depend on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier, sown_windows
from stochconv_jax.models.efficientnet import LayerConfig
from tests.models.random_variables import random_variables

IMAGE, THUMBNAIL, OUTPUT = (96, 80), (48, 32), (24, 16)
BOTH = ("thumbnail", "windows")
MEETINGS = [(("thumbnail",), "head"), (("windows",), "head"), *[(BOTH, m) for m in (0, 1, 2, 3, 4, "head")]]


def pictures(batch, seed):
    """Draws a batch of inputs with random pixels; images are not square on purpose."""
    random = np.random.default_rng(seed)
    return {
        "image": random.integers(0, 256, (batch, *IMAGE, 3), dtype=np.uint8),
        "thumbnail": random.integers(0, 256, (batch, *THUMBNAIL, 3), dtype=np.uint8),
        "example": random.integers(0, 2**32, batch, dtype=np.uint32),
    }


def tiny(**settings):
    return Classifier(**({"variant": variants.get("tiny"), "window_output": OUTPUT} | settings))


def shapes_of(model, inputs):
    keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
    return jax.eval_shape(lambda: model.init(keys, inputs))


def variables_of(model, inputs, seed=0):
    return random_variables(shapes_of(model, inputs), np.random.default_rng(seed))


@functools.cache
def applied(model):
    return jax.jit(lambda variables, inputs, key: model.apply(variables, inputs, rngs={"windows": key}))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))


# The counts for 1000 classes, of keras.applications less batch norm's statistics and of timm, and those for one logit.
@pytest.mark.parametrize(
    "name, one_logit, thousand",
    [
        ("b0", 4_008_829, 5_288_548),
        ("b1", 6_514_465, 7_794_184),
        ("b2", 7_702_403, 9_109_994),
        ("b3", 10_697_769, 12_233_232),
        ("b4", 17_550_409, 19_341_616),
        ("b5", 28_342_833, 30_389_784),
        ("b6", 40_738_009, 43_040_704),
        ("b7", 63_789_521, 66_347_960),
        ("lite0", 3_372_289, 4_652_008),
        ("lite1", 4_136_961, 5_416_680),
        ("lite2", 4_812_353, 6_092_072),
        ("lite3", 6_917_377, 8_197_096),
        ("lite4", 11_726_849, 13_006_568),
    ],
)
def test_parameter_counts_are_the_official_ones(name, one_logit, thousand):
    shapes = shapes_of(Classifier(variant=variants.get(name), branches=("thumbnail",)), pictures(1, seed=0))
    assert count(shapes) == one_logit
    features, outputs = shapes["params"]["classifier"]["kernel"].shape
    assert outputs == 1 and one_logit + 999 * (features + 1) == thousand


@pytest.mark.parametrize("merge_after", [*range(8), "head"])
def test_branches_of_b0_meet_with_both_their_channels(merge_after):
    b0 = variants.get("b0")
    stages = tuple(dataclasses.replace(stage, repeats=1) for stage in b0.stages)  # the others' channels are the first's
    model = Classifier(variant=dataclasses.replace(b0, stages=stages), merge_after=merge_after, window_output=OUTPUT)
    params = shapes_of(model, pictures(2, seed=0))["params"]
    single = b0.filters_after(7 if merge_after == "head" else merge_after)
    if merge_after == "head":
        assert params["classifier"]["kernel"].shape == (2 * 1280, 1)
        return
    for branch in BOTH:
        assert list(params.get(branch, {})) == [f"stage{number}" for number in range(1, merge_after + 1)]
    if merge_after == 7:
        assert params["merged"]["head"]["conv"]["kernel"].shape == (2 * single, 1280)
        return
    first = params["merged"][f"stage{merge_after + 1}"]["block1"]
    if merge_after == 0:  # the first stage's block has no expansion
        assert first["depthwise"]["kernel"].shape == (3, 3, 2 * single)
    else:
        assert first["expand"]["kernel"].shape == (2 * single, 6 * 2 * single)


@pytest.mark.parametrize(
    "branches, merge_after", [pytest.param(*m, marks=pytest.mark.slow) if m[1] in (1, 3, 4) else m for m in MEETINGS]
)
def test_a_prediction_is_the_same_alone_and_in_any_batch(branches, merge_after):
    model, inputs = tiny(branches=branches, merge_after=merge_after), pictures(5, seed=1)
    variables, key = variables_of(model, inputs), jax.random.key(7)
    together = applied(model)(variables, inputs, key)
    assert together.shape == (5, 1) and together.dtype == jnp.float32
    assert np.ptp(together) > 1e-3, "the predictions hardly differ: the comparison would show nothing"
    some = {name: rows[[3, 1]] for name, rows in inputs.items()}
    # Sums are ordered otherwise in another batch size: float32 rounding, no more.
    np.testing.assert_allclose(applied(model)(variables, some, key), together[np.array([3, 1])], rtol=1e-4, atol=1e-5)


def test_windows_follow_the_example_and_the_key():
    model, inputs = tiny(branches=("windows",)), pictures(3, seed=2)
    variables = variables_of(model, inputs)
    first = applied(model)(variables, inputs, jax.random.key(0))
    other_key = applied(model)(variables, inputs, jax.random.key(1))
    other_example = applied(model)(variables, inputs | {"example": inputs["example"] + np.uint32(1)}, jax.random.key(0))
    assert not np.allclose(first, other_key) and not np.allclose(first, other_example)


def test_the_window_branch_alone_has_more_filters_and_each_has_its_window():
    model, inputs = tiny(window_stem_filters=24), pictures(3, seed=0)
    variables = variables_of(model, inputs)
    assert Classifier.stem_kernel(variables["params"], "windows").shape == (3, 3, 3, 24)
    assert Classifier.stem_kernel(variables["params"], "thumbnail").shape == (3, 3, 3, 8)
    _, sown = model.apply(variables, inputs, rngs={"windows": jax.random.key(0)}, mutable=["intermediates"])
    windows = np.asarray(sown_windows(sown["intermediates"]))
    assert windows.shape == (3, 24, 2) and len(np.unique(windows[0], axis=0)) > 12


def test_group_norm_computes_the_same_in_training_and_for_an_image_alone():
    layers = LayerConfig(normalization="group")
    model, inputs = tiny(layers=layers, dropout=0.0, stochastic_depth=0.0), pictures(3, seed=0)
    variables, keys = variables_of(model, inputs), {"windows": jax.random.key(0)}
    assert variables.keys() == {"params"}
    trained = model.apply(variables, inputs, train=True, rngs=keys)
    np.testing.assert_allclose(trained, model.apply(variables, inputs, rngs=keys), rtol=1e-5, atol=1e-5)
    first = {name: x[:1] for name, x in inputs.items()}
    np.testing.assert_allclose(model.apply(variables, first, train=True, rngs=keys), trained[:1], rtol=1e-4, atol=1e-4)
    assert np.ptp(trained) > 0.01


@pytest.mark.parametrize("branches, unseen", [(("windows",), "thumbnail"), (("thumbnail",), "image")])
def test_a_single_branch_needs_only_its_own_input(branches, unseen):
    model, inputs = tiny(branches=branches), pictures(2, seed=3)
    variables = variables_of(model, inputs)
    without = {name: rows for name, rows in inputs.items() if name != unseen}
    np.testing.assert_array_equal(
        applied(model)(variables, inputs, jax.random.key(0)), applied(model)(variables, without, jax.random.key(0))
    )


def test_merge_weights_of_zero_leave_the_thumbnail_model():
    inputs = pictures(2, seed=4)
    alone, merged = tiny(branches=("thumbnail",)), tiny(merge_after=2)
    variables = variables_of(alone, inputs)
    both = variables_of(merged, inputs, seed=1)
    for kind in ("params", "batch_stats"):
        own = variables[kind]
        if kind == "params":
            both[kind]["classifier"] = own["classifier"]
        both[kind]["thumbnail_stem"] = own["thumbnail_stem"]
        for number in (1, 2):
            both[kind]["thumbnail"][f"stage{number}"] = own["thumbnail"][f"stage{number}"]
        both[kind]["merged"]["stage4"] = own["thumbnail"]["stage4"]
        both[kind]["merged"]["head"] = own["thumbnail"]["head"]
    # Stage 3 takes 2 x 16 channels and widens them by 4: the first 64 filters see the thumbnail's, the rest are cut.
    merged_block, stats = (both[kind]["merged"]["stage3"]["block1"] for kind in ("params", "batch_stats"))
    block, own_stats = (variables[kind]["thumbnail"]["stage3"]["block1"] for kind in ("params", "batch_stats"))
    wide, narrow = merged_block["expand"]["kernel"].shape[1], block["expand"]["kernel"].shape[1]
    assert wide == 2 * narrow
    for source, target in ((block, merged_block), (own_stats, stats)):
        _embed(source, target)
    merged_block["expand"]["kernel"][16:, :] = 0.0
    got = applied(merged)(both, inputs, jax.random.key(0))
    np.testing.assert_allclose(got, applied(alone)(variables, inputs, jax.random.key(0)), rtol=1e-4, atol=1e-5)


def _embed(source, target):
    """Embeds a narrow block's arrays in a wide block's, with zeros in the rest, or ones for variances and scales."""
    for name, value in source.items():
        if isinstance(value, dict):
            _embed(value, target[name])
            continue
        wide = np.full(target[name].shape, 1.0 if name in ("var", "scale") else 0.0, np.float32)
        wide[tuple(slice(size) for size in value.shape)] = value
        target[name] = wide


@pytest.mark.parametrize("branches", [("thumbnail", "thumbnail"), (), ("window",)])
def test_unknown_branches_are_refused(branches):
    with pytest.raises(ValueError, match=r"^branches="):
        shapes_of(tiny(branches=branches), pictures(1, seed=0))


@pytest.mark.parametrize("merge_after", [5, -1, "tail"])
def test_an_impossible_meeting_is_refused(merge_after):
    with pytest.raises(ValueError, match=r"merge_after.*expected 0\.\.4 or 'head'"):
        shapes_of(tiny(merge_after=merge_after), pictures(1, seed=0))
