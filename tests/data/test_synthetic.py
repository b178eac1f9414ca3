"""Drawn images are functions of seed and index, and thumbnails do not show their class."""

import cv2
import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.pipeline
import sklearn.preprocessing

from stochconv_jax.data import augment, synthetic
from stochconv_jax.data.augment import Augmentation
from stochconv_jax.data.synthetic import SyntheticSource

SIZE = (512, 512)


@pytest.fixture(scope="module")
def many():
    """Returns labels `[N]` and N augmented images."""
    random = np.random.default_rng(0)
    source = SyntheticSource(size=600, image_size=SIZE, seed=int(random.integers(1 << 30)))
    maps = [augment.random_affine(random, SIZE, Augmentation()) for _ in range(600)]
    return source.labels, [augment.warp(source.read(index), maps[index]) for index in range(600)]


def statistics(picture):
    """Returns features of a texture: energy by direction, spread and skew, at four scales of the middle."""
    grey, found = picture.astype(np.float32).mean(-1), []
    for _ in range(4):
        rows, columns = (slice(side // 3, 2 * side // 3) for side in grey.shape)
        fine = (grey - cv2.blur(grey, (3, 3)))[rows, columns]
        slanted = fine[1:, 1:] - fine[:-1, :-1], fine[1:, :-1] - fine[:-1, 1:]
        steps = np.diff(fine, axis=0), np.diff(fine, axis=1), *slanted
        energy = np.log([fine.var() + 1e-3, *(step.var() + 1e-3 for step in steps)])
        moments = [(fine**power).mean() / (fine.var() + 1e-3) ** (power / 2) for power in (3, 4)]
        found += [*energy, abs(energy[1] - energy[2]), abs(energy[3] - energy[4]), *moments]
        grey = augment.resize(grey, (grey.shape[0] // 2, grey.shape[1] // 2))
    return found


def learned_auc(labels, features):
    """Returns the ROC AUC of logistic regression on images that it was not fitted to."""
    model = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression(C=0.1, max_iter=1000)
    )
    scores = sklearn.model_selection.cross_val_predict(model, features, labels, cv=4, method="decision_function")
    return sklearn.metrics.roc_auc_score(labels, scores)


def test_an_image_is_a_function_of_seed_and_index():
    source, longer = (SyntheticSource(size=size, image_size=(96, 128), seed=5) for size in (6, 9))
    for index in (5, 0, 3):
        picture = source.read(index)
        assert picture.dtype == np.uint8 and picture.shape == (96, 128, 3)
        np.testing.assert_array_equal(picture, longer.read(index))
    other = SyntheticSource(size=6, image_size=(96, 128), seed=6)
    assert (source.read(0) != other.read(0)).any() and (source.read(0) != source.read(2)).any()


def test_classes_are_balanced_and_names_differ():
    source = SyntheticSource(size=31, image_size=SIZE, seed=0)
    assert len(source) == len(set(source.names)) == 31
    assert source.labels.dtype == np.int32 and np.bincount(source.labels).tolist() == [16, 15]


def test_the_mask_is_where_the_texture_is():
    source = SyntheticSource(size=4, image_size=(384, 512), seed=int(np.random.default_rng(0).integers(1000)))
    for index in range(4):
        mask, grey = source.mask(index), source.read(index).astype(np.float32).mean(-1)
        assert mask.dtype == bool and mask.shape == (384, 512) and 0.1 < mask.mean() < 0.6
        fine = (grey - cv2.GaussianBlur(grey, (0, 0), 2)) ** 2
        assert np.median(fine[mask]) > 10 * np.median(fine[~mask])
        assert grey[mask].mean() < grey[~mask].mean() - 30


@pytest.fixture(scope="module")
def both():
    """A source, and for two of its images class 1 minus class 0 of the same drawing, grey, float32 `[H, W]`."""
    light, dark = (SyntheticSource(size=2, image_size=(320, 448), seed=3) for _ in range(2))
    light.labels, dark.labels = np.int32([1, 1]), np.int32([0, 0])
    return light, [(light.read(index).astype(np.float32) - dark.read(index)).mean(-1) for index in range(2)]


def test_the_mask_has_the_outline_of_the_texture(both):
    """Whose border is where it is half as strong as in the middle."""
    source, textures = both
    for index, texture in enumerate(textures):
        strength, mask = cv2.GaussianBlur(texture**2, (0, 0), 3) ** 0.5, source.mask(index)
        textured = strength > np.median(strength[mask]) / 2
        assert (textured & mask).sum() / (textured | mask).sum() > 0.95


def test_the_class_changes_neither_the_tone_nor_the_skin(both):
    source, textures = both
    for index, texture in enumerate(textures):
        assert np.abs(augment.resize(texture, (5, 7))).max() < 1  # of 255 grey levels, over 64 x 64 pixels
        mask = source.mask(index)
        skin = texture[cv2.dilate(mask.astype(np.uint8), np.ones((81, 81))) == 0]
        # The border is soft: what is left of it here rounds a pixel in a thousand otherwise.
        assert skin.size and np.abs(skin).max() <= 1 and (skin != 0).mean() < 0.01
        assert np.abs(texture[mask]).mean() > 10


def test_hairs_are_long_and_gently_bent(monkeypatch):
    hairs, random = [], np.random.default_rng(0)
    monkeypatch.setattr(cv2, "polylines", lambda picture, curves, *rest: hairs.append(curves[0][:, 0] / 16))
    for _ in range(100):
        synthetic._hairs(random, np.zeros((300, 400, 3), np.uint8))
    assert 100 < len(hairs) < 300
    for hair in hairs:
        ends, length = np.linalg.norm(hair[-1] - hair[0]), np.linalg.norm(np.diff(hair, axis=0), axis=1).sum()
        assert length > 100 and ends > 0.9 * length


def test_the_classes_differ_by_the_sign_of_a_texture_alone():
    """So contrast, spectrum and direction are the same, in the picture and, a resize being linear, in the thumbnail."""
    seed = int(np.random.default_rng(0).integers(1000))
    light, dark = (synthetic._texture(np.random.default_rng(seed), SIZE, light_dots=light) for light in (True, False))
    np.testing.assert_array_equal(light, -dark)
    np.testing.assert_allclose([light.mean(), light.std()], [0, 1], atol=0.05)
    assert (light**3).mean() > 0.3  # few light pixels against many a little darker than the mean


def test_the_texture_stays_clear_of_black_and_white():
    source = SyntheticSource(size=40, image_size=SIZE, seed=int(np.random.default_rng(0).integers(1000)))
    inside = [source.read(index)[source.mask(index)] for index in range(40)]
    clipped = [((pixels == 0) | (pixels == 255)).mean() for pixels in inside]
    assert max(clipped) < 0.01


def test_a_whole_image_shows_the_class(many):
    labels, pictures = many
    assert learned_auc(labels[:160], [statistics(picture) for picture in pictures[:160]]) > 0.97


@pytest.mark.parametrize("size", [64, 80, 96])
def test_a_thumbnail_does_not(many, size):
    """At chance: 0.50 over ten draws of these images, with a standard deviation of up to 0.045."""
    labels, pictures = many
    thumbnails = [augment.resize(picture, (size, size)) for picture in pictures]
    assert learned_auc(labels, [statistics(picture) for picture in thumbnails]) < 0.68
