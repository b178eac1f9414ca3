"""The annotated shapes and dtypes of ops and models hold: arguments and results are checked against them in calls."""

import functools
import inspect
import types
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from stochconv_jax import ops
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import Head, LayerConfig, MBConv, SqueezeExcite, Stem, survival_scales
from stochconv_jax.models.stochastic_conv import StochasticConv

KEY = jax.random.key(0)
KEYS = {"params": KEY, "windows": KEY}
IMAGE = jnp.zeros((2, 40, 44, 3), jnp.uint8)
EXAMPLES = jnp.arange(2, dtype=jnp.uint32)


def matches(value, hint) -> bool:
    """Returns whether `value` is of the type `hint`; of hints without arrays, everything is."""
    if typing.get_origin(hint) is tuple:
        return len(value) == len(typing.get_args(hint)) and all(map(matches, value, typing.get_args(hint)))
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if any(isinstance(part, type) and issubclass(part, jaxtyping.AbstractArray) for part in parts):
        return isinstance(value, hint)
    return True


def checked(function):
    """Returns `function` with its array arguments and results checked; dimensions of one name must agree in a call."""

    @jaxtyping.jaxtyped(typechecker=None)
    @functools.wraps(function)
    def call(*args, **kwargs):
        signature = inspect.signature(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            assert matches(value, signature.parameters[name].annotation), name
        result = function(*args, **kwargs)
        assert matches(result, signature.return_annotation), "result"
        return result

    return call


def stochastic_conv(**changes):
    settings = {"output_size": (9, 7), "examples": EXAMPLES} | changes
    return checked(ops.stochastic_conv)(KEY, IMAGE, jnp.ones((3, 3, 3, 5)), jnp.ones(5), **settings)


@pytest.mark.parametrize("sampling", ["per_image", "per_batch", "shared"])
def test_windows_and_stochastic_convolutions(sampling):
    sizes = {"image_size": (40, 44), "window_size": (19, 15), "batch": 2, "features": 5}
    windows = checked(ops.sample_windows)(KEY, **sizes, sampling=sampling, examples=EXAMPLES)
    checked(ops.window_conv)(IMAGE, windows, jnp.ones((3, 3, 3, 5)), strides=(2, 2), window_size=(19, 15))
    stochastic_conv(sampling=sampling)
    stochastic_conv(sampling=sampling, mean=(0.5,) * 3, std=(0.2,) * 3, examples=None)


def test_depthwise_and_pointwise_convolutions():
    x = jnp.ones((2, 9, 8, 4))
    checked(ops.depthwise_conv)(x, jnp.ones((3, 5, 4)), strides=(2, 1))
    checked(ops.pointwise_conv)(x, jnp.ones((4, 6)))
    checked(ops.pointwise_conv)(x[0, 0], jnp.ones((4, 6)))


@pytest.mark.parametrize(
    "module, inputs",
    [
        (StochasticConv(5, output_size=(9, 7)), (IMAGE, EXAMPLES)),
        (MBConv(6, 4, 3, 2, LayerConfig()), (jnp.ones((2, 9, 8, 4)), jnp.ones(2))),
        (MBConv(4, 4, 3, 1, LayerConfig(jnp.bfloat16)), (jnp.ones((2, 9, 8, 4), jnp.bfloat16), None)),
        (Stem(6, (0.5,) * 3, (0.2,) * 3, LayerConfig()), (IMAGE,)),
        (Head(6, LayerConfig(jnp.bfloat16)), (jnp.ones((2, 3, 3, 4), jnp.bfloat16),)),
        (SqueezeExcite(2, LayerConfig()), (jnp.ones((2, 3, 3, 4)),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers(module, inputs):
    arguments = {} if isinstance(module, StochasticConv | SqueezeExcite) else {"train": True}
    jax.eval_shape(initialised(module, checked(type(module).__call__), **arguments), *inputs)


def initialised(module, call, **arguments):
    """Returns a function of inputs that initialises the module in a call of it."""
    return lambda *inputs: nn.init(lambda bound, *inputs: call(bound, *inputs, **arguments), module)(KEYS, *inputs)


@pytest.mark.parametrize("branches", [("thumbnail",), ("windows",), ("thumbnail", "windows")], ids=str)
@pytest.mark.parametrize("merge_after", [0, 1, "head"])
def test_the_classifier(branches, merge_after):
    model = Classifier(variants.get("two_blocks"), branches, merge_after, num_classes=3, window_output=(16, 16))
    inputs = {"image": IMAGE, "thumbnail": jnp.zeros((2, 32, 32, 3), jnp.uint8), "example": EXAMPLES}

    def call(bound, inputs):
        features = {branch: checked(Classifier.encode)(bound, branch, inputs) for branch in branches}
        return checked(Classifier.join)(bound, features)

    logits, _ = jax.eval_shape(nn.init_with_output(call, model), KEYS, inputs)
    assert logits.shape == (2, 3) and logits.dtype == jnp.float32


def test_survival_scales():
    assert checked(survival_scales)(KEY, variants.get("tiny"), 0.2, 5).shape == (4, 5)


def test_a_wrong_shape_or_dtype_is_found():
    def wrong_shape(x: jaxtyping.Float[jax.Array, "rows columns"]) -> jaxtyping.Float[jax.Array, "columns rows"]:
        return x

    def wrong_dtype(x: jaxtyping.Float[jax.Array, "rows columns"]) -> jaxtyping.Int[jax.Array, "rows columns"]:
        return x

    for function in (wrong_shape, wrong_dtype):
        with pytest.raises(AssertionError, match="result"):
            checked(function)(jnp.ones((2, 3)))
