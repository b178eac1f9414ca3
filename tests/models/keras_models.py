"""Networks of keras.applications with random weights, and ours with the weights of their files.

Skips the tests that import it where Keras is not installed.
"""

import functools
import os
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import pretrained, variants
from stochconv_jax.models.classifier import Classifier

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="keras is not installed: pip install -r requirements-dev.txt")

CLASSES = 7


def keras_model(name, seed, shape=None):
    """Returns keras.applications' network with random weights and statistics as large as a trained network's.

    With a `shape` it ends in logits; without, in pooled features, and takes images of any size.
    """
    top = {"input_shape": shape, "classes": CLASSES, "classifier_activation": None} if shape else {"pooling": "avg"}
    # Keras would compile a generator for every shape, for values that are replaced below.
    scaled = keras.initializers.VarianceScaling
    zeros = mock.patch.object(scaled, "__call__", lambda self, shape, dtype=None: np.zeros(shape, dtype))
    with jax.numpy_dtype_promotion("standard"), zeros:
        build = getattr(keras.applications, f"EfficientNet{name.upper()}")
        model = build(weights=None, include_top=shape is not None, **top)
    random, variant = np.random.default_rng(seed), variants.get(name)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([np.array(variant.mean), np.array(variant.std) ** 2, np.int32(1)])
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape
            spread = [random.uniform(0.5, 1.5, n), random.normal(0, 0.2, n), random.normal(0, 0.2, n)]
            layer.set_weights([*spread, random.uniform(0.5, 1.5, n)])
        elif layer.weights:
            fan_in = max(1, np.prod(layer.weights[0].shape[:-1]))
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                fan_in = np.prod(layer.weights[0].shape[:2])
            layer.set_weights([random.normal(0, 1 / np.sqrt(fan_in), w.shape) for w in layer.weights])
    return model


def with_weights(name, file, branches=("thumbnail",), classes=CLASSES, **settings):
    """Returns our network of this name, with the weights of a file, and what `pretrained.load` reports."""
    model = Classifier(variant=variants.get(name), branches=branches, num_classes=classes, **settings)
    blank = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), shapes_of(model))
    return model, *pretrained.load(str(file), model, blank)


@functools.cache
def shapes_of(model):
    """Returns the shapes and dtypes of the variables."""
    inputs = {
        "thumbnail": jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8),
        "image": jax.ShapeDtypeStruct((1, 300, 300, 3), jnp.uint8),
        "example": jax.ShapeDtypeStruct((1,), jnp.uint32),
    }
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    return jax.eval_shape(lambda x: model.init(keys, x), inputs)
