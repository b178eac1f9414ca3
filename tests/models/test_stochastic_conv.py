"""The layers are crops and the library's convolution, in Linen and in NNX, and a seed's windows stay what they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import stochconv_jax
from stochconv_jax import ops
from stochconv_jax.models import variants
from stochconv_jax.nnx import StochasticConv as NnxStochasticConv
from tests.ops import references

KEYS = {"params": jax.random.key(0), "windows": jax.random.key(1)}
SETTINGS = {"features": 4, "output_size": (5, 7), "kernel_size": (3, 2), "strides": (2, 3)}
WINDOW = ops.window_size(SETTINGS["output_size"], SETTINGS["kernel_size"], SETTINGS["strides"])


def images(channels=3, dtype=np.uint8, batch=2):
    pixels = np.random.default_rng(channels).integers(0, 256, (batch, 30, 40, channels), np.uint8)
    return jnp.asarray(pixels, dtype)


def crops(image, windows, kernel):
    return references.window_conv(image, windows, kernel, strides=SETTINGS["strides"], window_size=WINDOW)


def applied(layer, image, *examples):
    """Returns the output, parameters with a bias that is not zero, and the windows."""
    variables = layer.init(KEYS, image)
    params = {name: value + float(name == "bias") for name, value in variables["params"].items()}
    rngs = {"windows": jax.random.key(2)}
    out, sown = layer.apply({"params": params}, image, *examples, rngs=rngs, mutable=["intermediates"])
    return out, params, sown["intermediates"]["windows"][0]


@pytest.mark.parametrize(
    ("channels", "dtype", "sampling"),
    [
        (3, np.uint8, {"sampling": "per_image"}),
        (5, np.float32, {"sampling": "per_image"}),
        (1, np.uint8, {"sampling": "per_batch"}),
        (5, np.float32, {"sampling": "shared"}),
        (3, np.uint8, {"filters_per_window": 2}),
        (1, np.uint8, {"filters_per_window": 2}),
    ],
)
def test_the_layer_convolves_crops_of_any_number_of_channels(channels, dtype, sampling):
    image = images(channels, dtype)
    out, params, windows = applied(stochconv_jax.StochasticConv(**SETTINGS, **sampling), image)
    assert out.shape == (2, 5, 7, 4) and params["kernel"].shape == (3, 2, channels, 4)
    np.testing.assert_allclose(out, crops(image, windows, params["kernel"]) + 1, rtol=1e-4, atol=2e-3)


def test_normalisation_is_that_of_the_pixels():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    layer = stochconv_jax.StochasticConv(**SETTINGS, mean=mean, std=std, use_bias=False)
    out, params, windows = applied(layer, images())
    normalised = (images(dtype=np.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)
    assert set(params) == {"kernel"}
    np.testing.assert_allclose(out, crops(normalised, windows, params["kernel"]), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="mean and std must be given together or not at all"):
        applied(stochconv_jax.StochasticConv(**SETTINGS, mean=mean), images())


def test_dtypes_are_those_asked_for():
    for asked, parameters, output in (
        (None, jnp.float32, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.bfloat16),
        (None, jnp.bfloat16, jnp.bfloat16),
    ):
        layer = stochconv_jax.StochasticConv(
            **SETTINGS, dtype=asked, param_dtype=parameters, mean=(0.5,) * 3, std=(0.2,) * 3
        )
        variables = layer.init(KEYS, images())
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(parameters)}
        assert layer.apply(variables, images(), rngs=KEYS).dtype == output


def test_an_image_keeps_its_windows_in_any_batch():
    layer, pair = stochconv_jax.StochasticConv(**SETTINGS), images()
    identities = jnp.array([17, 5], jnp.uint32)
    together, _, _ = applied(layer, pair, identities)
    turned, _, _ = applied(layer, pair[::-1], identities[::-1])
    alone, _, _ = applied(layer, pair[1:], identities[1:])
    np.testing.assert_allclose(together[::-1], turned, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(together[1:], alone, rtol=1e-5, atol=1e-4)
    by_row, _, _ = applied(layer, pair)
    given, _, _ = applied(layer, pair, jnp.arange(2))
    np.testing.assert_array_equal(by_row, given)
    assert not np.allclose(together, by_row)


def test_linen_and_nnx_compute_the_same():
    settings = SETTINGS | {
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
        "dtype": jnp.bfloat16,
        "filters_per_window": 2,
    }
    linen = stochconv_jax.StochasticConv(**settings)
    layer = NnxStochasticConv(3, **settings, rngs=nnx.Rngs(0))
    params = {"kernel": layer.kernel[...], "bias": layer.bias[...] + 1}
    layer.bias[...] = params["bias"]
    key = linen.apply({}, rngs={"windows": jax.random.key(3)}, method=lambda module: module.make_rng("windows"))
    expected = linen.apply({"params": params}, images(), rngs={"windows": jax.random.key(3)})
    np.testing.assert_array_equal(layer(images(), key=key), expected)


def test_nnx_draws_anew_in_every_call_and_trains():
    layer = NnxStochasticConv(3, **SETTINGS, use_bias=False, rngs=nnx.Rngs(0))
    first, second = layer(images()), layer(images())
    assert not np.allclose(first, second)
    again = NnxStochasticConv(3, **SETTINGS, use_bias=False, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(first, again(images()))

    @nnx.jit
    def gradient(layer, image):
        return nnx.grad(lambda layer: layer(image).mean())(layer)

    assert np.abs(gradient(layer, images())["kernel"][...]).min() > 0


@pytest.mark.parametrize("merge_after", ["head", 0])
def test_the_windows_of_a_seed_are_pinned(merge_after):
    """A renamed module would redraw the windows of every trained run: Flax derives the layer's key from its path."""
    model = stochconv_jax.Classifier(variant=variants.get("tiny"), merge_after=merge_after, window_output=(16, 16))
    inputs = {
        "image": jnp.zeros((1, 200, 200, 3), jnp.uint8),
        "thumbnail": jnp.zeros((1, 32, 32, 3), jnp.uint8),
        "example": jnp.array([7], jnp.uint32),
    }

    @jax.jit
    def windows():
        variables, sown = model.init(KEYS, inputs), {"mutable": ["intermediates"]}
        return model.apply(variables, "windows", inputs, method="stem", rngs=KEYS, **sown)[1]["intermediates"]

    drawn = windows()["windows_stem"]["conv"]["windows"][0]
    np.testing.assert_array_equal(drawn[0, :2], [[78, 152], [37, 150]])


def test_positional_arguments_are_those_of_a_convolution():
    """A second positional argument is kernel_size, as in nn.Conv, and not silently the size of the output."""
    layer = stochconv_jax.StochasticConv(4, (5, 3), output_size=(7, 7))
    assert (layer.features, layer.kernel_size, layer.output_size) == (4, (5, 3), (7, 7))
    other = NnxStochasticConv(3, 4, (5, 3), output_size=(7, 7), rngs=nnx.Rngs(0))
    assert other.kernel[...].shape == (5, 3, 3, 4)
    with pytest.raises(TypeError, match="output_size"):
        stochconv_jax.StochasticConv(4, (5, 3))
