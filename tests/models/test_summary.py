"""The table of parts against the figures of the EfficientNet paper and against the parameters themselves."""

import jax
import jax.numpy as jnp
import pytest

from stochconv_jax.models import summary, variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import Conventions, LayerConfig


def inputs(resolution, image=256):
    return {
        "thumbnail": jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.uint8),
        "image": jax.ShapeDtypeStruct((1, image, image, 3), jnp.uint8),
        "example": jax.ShapeDtypeStruct((1,), jnp.uint32),
    }


# Billion multiply-adds of the official networks, 1000 classes, at their own resolution.
@pytest.mark.parametrize("name, billions", [("b0", 0.386), ("b1", 0.687), ("b2", 0.994), ("b3", 1.827), ("b4", 4.394)])
def test_multiply_adds_are_the_official_ones(name, billions):
    variant = variants.get(name)
    model = Classifier(variant=variant, branches=("thumbnail",), num_classes=1000)
    rows = summary.parts(model, inputs(variant.resolution))
    assert sum(row.multiply_adds for row in rows) / 1e9 == pytest.approx(billions, abs=0.0006)


def test_a_shared_block_costs_as_often_as_it_is_called():
    costs = []
    for share in (False, True):
        layers = LayerConfig(conventions=Conventions(share_repeats=share))
        model = Classifier(variant=variants.get("b0"), branches=("thumbnail",), layers=layers)
        costs.append(summary.totals(summary.parts(model, inputs(224)))["multiply_adds"])
    assert costs[0] == costs[1]


def test_every_parameter_is_in_one_row_and_rows_follow_the_computation():
    model = Classifier(variant=variants.get("b0"), merge_after=3, window_output=(112, 112))
    rows = summary.parts(model, inputs(224))
    branch = ["stage1", "stage2", "stage3"]
    assert [row.name for row in rows] == [
        "thumbnail_stem",
        *(f"thumbnail/{name}" for name in branch),
        "windows_stem",
        *(f"windows/{name}" for name in branch),
        *(f"merged/{name}" for name in ("stage4", "stage5", "stage6", "stage7", "head")),
        "classifier",
    ]
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    params = jax.eval_shape(lambda x: model.init(keys, x), inputs(224))["params"]
    assert sum(row.parameters for row in rows) == sum(leaf.size for leaf in jax.tree.leaves(params)) == 4_140_329
    by_name = {row.name: row for row in rows}
    assert by_name["windows/stage3"].output == (28, 28, 40)
    # The stochastic stem costs what the ordinary one does.
    assert by_name["windows_stem"].multiply_adds == by_name["thumbnail_stem"].multiply_adds == 112 * 112 * 27 * 32
    assert "4,140,329" in summary.table(rows)
