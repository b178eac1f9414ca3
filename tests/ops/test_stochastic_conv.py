"""stochastic_conv is the convolution of normalised random crops. The layers over it are tested in tests/models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.ops import sample_windows, stochastic_conv
from tests.ops import references

SETTINGS = {"output_size": (5, 7), "strides": (2, 3)}
WINDOW = (11, 20)  # of 3x2 filters


def arrays(dtype):
    random = np.random.default_rng(0)
    image = jnp.asarray(random.integers(0, 256, (3, 30, 40, 3)), jnp.uint8)
    kernel, bias = (jnp.asarray(random.normal(size=size), dtype) for size in ((3, 2, 3, 4), 4))
    return image, kernel, bias


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)])
@pytest.mark.parametrize("mean, std", [(None, None), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))])
@pytest.mark.parametrize("sampling", ["per_image", "per_batch", "shared"])
def test_it_convolves_normalised_crops(sampling, mean, std, dtype, tolerance):
    (image, kernel, bias), key, examples = arrays(dtype), jax.random.key(4), jnp.array([7, 2, 9])
    out, windows = stochastic_conv(
        key, image, kernel, bias, **SETTINGS, sampling=sampling, examples=examples, mean=mean, std=std
    )
    drawn = {"image_size": (30, 40), "window_size": WINDOW, "batch": 3, "features": 4}
    np.testing.assert_array_equal(windows, sample_windows(key, **drawn, sampling=sampling, examples=examples))
    pixels = image.astype(jnp.float32)
    if mean is not None:
        pixels = (pixels / 255 - jnp.array(mean)) / jnp.array(std)
    crops = {"strides": SETTINGS["strides"], "window_size": WINDOW}
    expected = references.window_conv(pixels, windows, kernel.astype(jnp.float32), **crops) + bias.astype(jnp.float32)
    assert out.dtype == dtype and out.shape == (3, 5, 7, 4)
    largest = float(np.abs(expected).max())
    np.testing.assert_allclose(out.astype(jnp.float32), expected, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("one", [{"mean": (0.5,) * 3}, {"std": (0.5,) * 3}], ids=str)
def test_mean_and_std_come_together(one):
    image, kernel, _ = arrays(jnp.float32)
    with pytest.raises(ValueError, match="mean and std must be given together"):
        stochastic_conv(jax.random.key(0), image, kernel, **SETTINGS, **one)
