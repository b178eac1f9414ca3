"""Small networks with random parameters and statistics, as programs to export."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.exporting.program import Program
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, LayerConfig

IMAGE, THUMBNAIL = (60, 52), (24, 20)


def make_program(
    passes=2, views=1, conventions="official", dtype=jnp.float32, lite=False, normalization="batch", **settings
):
    """Returns a program of the network `two_blocks`; all its variables are random numbers."""
    model = Classifier(
        variant=dataclasses.replace(variants.get("two_blocks"), lite=lite),
        window_output=tuple(-(-side // 2) for side in THUMBNAIL),
        layers=LayerConfig(dtype=dtype, conventions=CONVENTIONS[conventions], normalization=normalization),
        **{"merge_after": 1} | settings,
    )
    inputs = {"image": jnp.zeros((1, *IMAGE, 3), jnp.uint8), "example": jnp.zeros(1, jnp.uint32)}
    inputs["thumbnail"] = jnp.zeros((1, *THUMBNAIL, 3), jnp.uint8)
    inputs["metadata"] = jnp.zeros((1, model.metadata_features))
    keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
    shapes = jax.eval_shape(model.init, keys, inputs)
    random = np.random.default_rng(0)

    def draw(path, leaf):
        """Draws other numbers than the initial ones for statistics, scales and biases, so that none can be left out."""
        if path[-1].key in ("var", "scale"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        deviation = 0.2 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return (deviation * random.normal(size=leaf.shape)).astype(leaf.dtype)

    shapes = {name: shapes.get(name, {}) for name in ("params", "batch_stats")}
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return Program(model, variables, 7, passes, views, IMAGE, THUMBNAIL)


def pictures(count, seed=0):
    """Returns images of random patches, uint8 `[count, *IMAGE, 3]`."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 3), np.uint8)
    return np.stack([cv2.resize(one, IMAGE[::-1], interpolation=cv2.INTER_NEAREST) for one in patches])


@pytest.fixture(scope="package")
def program():
    return make_program()


def broken(program):
    """Returns the program with one other number among its parameters."""
    leaves, tree = jax.tree.flatten(program.variables)
    return dataclasses.replace(program, variables=jax.tree.unflatten(tree, [leaves[0] + 1, *leaves[1:]]))
