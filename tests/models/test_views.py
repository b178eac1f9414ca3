"""Views: what each of them shows, and predictions over them."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from stochconv_jax.config import checked, flatten
from stochconv_jax.config_conflicts import check_together
from stochconv_jax.config_rules import RULES, BadValue
from stochconv_jax.models import variants, views
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.training import steps
from stochconv_jax.training.evaluation import Predictions

MODEL = Classifier(variants.get("two_blocks"), merge_after=0, window_output=(6, 6))
IMAGE, THUMBNAIL, PASSES = (20, 20), (12, 12), 2


def test_the_eight_views_are_the_flips_and_quarter_turns():
    image = np.arange(9).reshape(1, 3, 3, 1)
    got = [np.asarray(views.turn(jnp.asarray(image), view))[0, ..., 0] for view in range(8)]
    square = image[0, ..., 0]
    turns = [np.rot90(side, k) for side in (square, square[:, ::-1]) for k in range(4)]
    assert {str(one) for one in got} == {str(one) for one in turns} and len({str(one) for one in got}) == 8
    np.testing.assert_array_equal(got[0], square)
    np.testing.assert_array_equal(got[1], square[:, ::-1])
    np.testing.assert_array_equal(got[3], square[::-1, ::-1])


def test_a_number_of_views_is_a_rule_and_quarter_turns_need_squares():
    assert [RULES["eval.views"].read(number) for number in views.VIEWS] == list(views.VIEWS)
    for wrong in (0, 3, 16, "all"):
        with pytest.raises((ValueError, TypeError)):
            RULES["eval.views"].read(wrong)
    values = flatten(default.get_config().to_dict()) | {"eval.views": 8}
    check_together(checked(values))
    with pytest.raises(BadValue, match=r"config\.eval\.views=8 turns images by 90 degrees, so sizes must be square"):
        check_together(checked(values | {"data.thumbnail_size": (224, 200)}))


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    sizes = {"image": IMAGE, "thumbnail": THUMBNAIL}
    pixels = {name: random.integers(0, 256, (3, *size, 3), np.uint8) for name, size in sizes.items()}
    return pixels | {"example": random.integers(0, 2**32, 3, np.uint32)}


@pytest.fixture(scope="module")
def variables(inputs):
    keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
    return jax.jit(MODEL.init)(keys, inputs)


def test_each_view_is_predicted_as_the_turned_image_with_windows_of_its_own(inputs, variables):
    predict = functools.partial(steps.predict_views, variables, inputs, model=MODEL, seed=3, passes=PASSES)
    got = jax.jit(functools.partial(predict, views=8))()
    assert got.shape == (8 * PASSES, 3, 1)
    alone = jax.jit(functools.partial(steps.predict_passes, model=MODEL, seed=3))
    for view in range(8):
        turned = {name: np.asarray(views.turn(jnp.asarray(inputs[name]), view)) for name in ("image", "thumbnail")}
        numbers = view * PASSES + np.arange(PASSES)
        expected = alone(variables, inputs | turned, numbers)[0]
        np.testing.assert_allclose(got[view * PASSES : (view + 1) * PASSES], expected, atol=1e-5)
    np.testing.assert_allclose(got[:PASSES], jax.jit(predict)(), atol=1e-5)
    assert len(np.unique(np.round(np.asarray(got)[:, 0, 0], 5))) == 8 * PASSES


def test_the_thumbnail_of_a_view_is_encoded_once_for_all_its_passes(inputs, variables):
    stems = collections.Counter()

    def count(next_function, arguments, keywords, context):
        if context.method_name == "__call__" and context.module.name in ("thumbnail_stem", "windows_stem"):
            jax.debug.callback(lambda name=context.module.name: stems.update([name]))
        return next_function(*arguments, **keywords)

    with nn.intercept_methods(count):
        predict = functools.partial(steps.predict_views, model=MODEL, seed=3, views=4, passes=3)
        jax.block_until_ready(jax.jit(predict)(variables, inputs))
    jax.effects_barrier()
    assert stems == {"thumbnail_stem": 4, "windows_stem": 12}


def test_passes_are_counted_over_all_views():
    random = np.random.default_rng(0)
    logits, label = random.normal(size=(2 * 3, 40, 1)), np.arange(40) % 2
    found = Predictions(np.arange(40), label, logits, np.array([], int), views=2).quality()
    first_of_each = Predictions(np.arange(40), label, logits[[0, 3]], np.array([], int)).quality()
    assert len(found["roc_auc_by_passes"]) == 3 and found["roc_auc_by_passes"][-1] == found["roc_auc"]
    assert found["roc_auc_by_passes"][0] == first_of_each["roc_auc"]
