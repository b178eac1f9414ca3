"""The exported function: thumbnails as OpenCV makes them, and one prediction in two forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.data import augment
from stochconv_jax.exporting.program import area_resize
from stochconv_jax.training import steps
from tests.exporting.conftest import IMAGE, THUMBNAIL, pictures


@pytest.mark.parametrize(
    ("size", "small"),
    [((64, 64), (16, 16)), ((64, 80), (32, 40)), ((1024, 512), (224, 112)), ((90, 120), (37, 50)), (IMAGE, THUMBNAIL)],
)
def test_thumbnails_are_those_of_the_reader(size, small):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    got = np.asarray(area_resize(jnp.asarray(images), small))
    expected = np.stack([augment.resize(image, small) for image in images])
    wrong = np.abs(got.astype(int) - expected)
    # OpenCV adds in another order: sums that are halves may round otherwise.
    assert wrong.max() <= 1 and (wrong > 0).mean() < 5e-3, (wrong.max(), (wrong > 0).mean())


def test_the_portable_form_predicts_the_same(program):
    """Other settings are compared in their ONNX files, which are made of this form, see test_files.py."""
    images, windows = pictures(3), program.windows()
    expected = np.asarray(jax.jit(program.probabilities)(images))
    got = np.asarray(jax.jit(lambda x: program.portable_probabilities(x, windows=windows))(images))
    assert got.dtype == np.float32 and np.ptp(got[:, 0]) > 1e-3  # the images differ in more than rounding
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


def test_windows_are_those_of_the_passes_for_an_image_whose_identity_is_0(program):
    inputs = {
        "image": pictures(1),
        "thumbnail": np.zeros((1, *THUMBNAIL, 3), np.uint8),
        "example": np.zeros(1, np.uint32),
    }
    predict = jax.jit(
        lambda: steps.predict_passes(program.variables, inputs, jnp.arange(2), model=program.model, seed=7)
    )
    np.testing.assert_array_equal(program.windows(), predict()[1][:, 0])
    assert len(np.unique(program.windows(), axis=0)) == 2


def test_a_prediction_depends_neither_on_the_batch_nor_on_the_place_in_it(program):
    predict, images = jax.jit(program.probabilities), pictures(3)
    expected = predict(images)
    np.testing.assert_allclose(predict(images[::-1])[::-1], expected, atol=1e-6)
    np.testing.assert_allclose(predict(images[1:2]), expected[1:2], atol=1e-6)
