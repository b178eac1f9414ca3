"""The geometry of augmentation, in the affine map and, independently, in the pixels."""

import cv2
import numpy as np
import pytest

from stochconv_jax.data import augment, image_io
from stochconv_jax.data.augment import Augmentation
from tests.data.drawn import RANDOM

SIZE = (120, 200)
STILL = Augmentation(area=(1.0, 1.0), flip=False, rotation=0.0)


def random_picture(size):
    noise = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def maps(ranges, size=SIZE, count=400):
    """Returns random affine maps, `[count, 2, 3]`."""
    random = np.random.default_rng(0)
    return np.array([augment.random_affine(random, size, ranges) for _ in range(count)])


def place(affine, x, y):
    """Returns the place in the source from which the output's pixel (x, y) is read."""
    return affine @ [x, y, 1]


def test_no_range_means_no_change():
    picture = random_picture(SIZE)
    (affine,) = maps(STILL, count=1)
    np.testing.assert_allclose(affine, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_array_equal(augment.warp(picture, affine), picture)


def test_flips_are_flips_and_all_four_come():
    picture = random_picture(SIZE)
    flipped = {axes: np.flip(picture, axes).tobytes() for axes in ((), (0,), (1,), (0, 1))}
    ranges = Augmentation(area=(1.0, 1.0), rotation=0.0)
    seen = {augment.warp(picture, affine).tobytes() for affine in maps(ranges, count=60)}
    assert seen == set(flipped.values())


def test_the_crop_has_the_area_and_the_shape_asked_for():
    """Turned or not, the columns of the map are the crop's sides, a pixel of the output each."""
    ranges = Augmentation(area=(0.6, 0.9), aspect=(0.8, 1.25))
    found = maps(ranges)
    across, down = np.linalg.norm(found[:, :, 0], axis=1), np.linalg.norm(found[:, :, 1], axis=1)
    np.testing.assert_allclose(np.einsum("nc,nc->n", found[:, :, 0], found[:, :, 1]), 0, atol=1e-9)
    area, aspect = across * down, across / down
    assert area.min() >= 0.6 - 1e-9 and area.max() <= 0.9 + 1e-9 and np.ptp(area) > 0.25
    assert aspect.min() >= 0.8 - 1e-9 and aspect.max() <= 1.25 + 1e-9 and np.ptp(aspect) > 0.3
    np.testing.assert_allclose(area.mean(), 0.75, atol=0.03)


def test_an_upright_crop_lies_inside_the_picture_and_reaches_its_edges():
    height, width = SIZE
    found = maps(Augmentation(rotation=0.0), count=2000)
    corners = np.array([[x, y, 1] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)])
    places = np.einsum("nij,kj->nki", found, corners)
    assert places.min() >= -0.5 - 1e-6
    assert places[..., 0].max() <= width - 0.5 + 1e-6 and places[..., 1].max() <= height - 0.5 + 1e-6
    assert places.min() < 0.5 and places[..., 0].max() > width - 1.5 and places[..., 1].max() > height - 1.5


def test_an_upright_crop_lies_on_either_side_as_often():
    found = maps(Augmentation(area=(0.6, 0.6), flip=False, rotation=0.0), count=2000)
    middle = (np.array(SIZE[::-1]) - 1) / 2
    aside = found[:, :, :2] @ middle + found[:, :, 2] - middle
    np.testing.assert_allclose((aside > 0).mean(axis=0), 0.5, atol=0.06)  # five standard deviations


def test_a_turned_crop_lies_inside_the_picture_before_the_turn():
    height, width = SIZE
    found, center = maps(Augmentation(), count=1000), np.array([width - 1, height - 1]) / 2
    corners = np.array([[x, y, 1] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)])
    # A flip and half a turn more look alike here, and the picture's own outline is the same after half a turn.
    sides = found[:, :, 0] / np.linalg.norm(found[:, :, 0], axis=1, keepdims=True)
    cos, sin = sides.T
    back = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    places = np.einsum("nab,nkb->nka", back, np.einsum("nij,kj->nki", found, corners) - center)
    assert (np.abs(places) <= np.array([width, height]) / 2 + 1e-6).all()
    assert (np.abs(places).max((0, 1)) > np.array([width, height]) / 2 - 1).all()


def test_each_flip_comes_as_often_as_the_others():
    found = maps(Augmentation(area=(1.0, 1.0), rotation=0.0), count=2000)
    signs = np.stack([found[:, 0, 0], found[:, 1, 1]], axis=1) > 0
    counts = np.bincount(signs @ [1, 2], minlength=4)
    np.testing.assert_allclose(counts / 2000, 0.25, atol=0.05)  # five standard deviations


def test_rotation_is_uniform_about_the_centre_within_its_limit():
    height, width = SIZE
    found = maps(Augmentation(area=(1.0, 1.0), flip=False, rotation=30.0), count=2000)
    angles = np.rad2deg(np.arctan2(found[:, 1, 0], found[:, 0, 0]))
    assert np.abs(angles).max() <= 30 and np.abs(angles).max() > 29
    np.testing.assert_allclose([angles.mean(), angles.std()], [0, 30 / np.sqrt(3)], atol=1.5)
    middle = (width - 1) / 2, (height - 1) / 2
    for affine in found[:20]:
        np.testing.assert_allclose(place(affine, *middle), middle, atol=1e-9)
    turned = maps(Augmentation(flip=False), count=2000)
    assert np.abs(np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))).max() > 170


def test_dots_are_found_where_the_map_says():
    """A red, a green and a blue dot, seen again in the output, lie where the map reads them from in the source."""
    random, found = np.random.default_rng(0), 0
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for _ in range(20):
        dots = np.stack([random.uniform(40, 160, 3), random.uniform(30, 90, 3)], axis=1)
        channels = [255 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 18) for a, b in dots]
        picture = np.stack(channels, axis=-1).astype(np.uint8)
        affine = augment.random_affine(random, SIZE, Augmentation())
        seen = augment.warp(picture, affine).astype(float)
        for channel, dot in enumerate(dots):
            out_x, out_y = np.linalg.solve(affine[:, :2], dot - affine[:, 2])
            if not (20 < out_x < SIZE[1] - 20 and 20 < out_y < SIZE[0] - 20):
                continue  # cut off, or beside its own mirror image
            near = seen[..., channel] * ((x - out_x) ** 2 + (y - out_y) ** 2 < 400)
            centroid = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
            np.testing.assert_allclose(place(affine, *centroid), dot, atol=0.15)
            found += 1
    assert found > 20


def test_corners_are_filled_with_the_picture_itself():
    picture = np.full((*SIZE, 3), (200, 150, 90), np.uint8)
    for affine in maps(Augmentation(), count=20):
        np.testing.assert_array_equal(augment.warp(picture, affine), picture)


def test_a_crop_shows_what_is_cut_out():
    """A map without turn or flip equals the cut-out piece, enlarged by the library."""
    picture = cv2.GaussianBlur(random_picture((256, 256)), (0, 0), 6)
    (affine,) = maps(Augmentation(area=(0.6, 0.7), flip=False, rotation=0.0), (256, 256), count=1)
    left, top = place(affine, -0.5, -0.5) + 0.5
    right, bottom = place(affine, 255.5, 255.5) + 0.5
    piece = picture[round(top) : round(bottom), round(left) : round(right)]
    enlarged = cv2.resize(piece, (256, 256), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(augment.warp(picture, affine).astype(int) - enlarged)[8:-8, 8:-8]
    assert difference.mean() < 1.5 < np.abs(picture.astype(int) - enlarged).mean()


def test_fitting_cuts_the_sides_and_averages():
    height, width = 8, 12
    inner = random_picture((3 * height, 3 * width))
    for margins in (((0, 0), (7, 7), (0, 0)), ((4, 4), (0, 0), (0, 0))):
        padded = np.pad(inner, margins, constant_values=0)
        expected = inner.reshape(height, 3, width, 3, 3).mean((1, 3))
        assert np.abs(augment.fit(padded, (height, width)) - expected).max() <= 0.51


def area_means(length, count):
    """Returns the share of each of `length` pixels in each of `count` area means, `[count, length]`."""
    edges = np.arange(count + 1)[:, None] * (length / count)
    covered = np.clip(edges - np.arange(length), 0, 1)
    return np.diff(covered, axis=0) * (count / length)


def test_fitting_is_the_mean_over_what_a_pixel_covers_at_any_ratio():
    random = np.random.default_rng(0)
    for _ in range(20):
        size = tuple(random.integers(5, 40, 2).tolist())
        picture = random.integers(0, 256, (*(size + random.integers(1, 60, 2)), 3), np.uint8)
        height, width = picture.shape[:2]
        scale = min(height / size[0], width / size[1])
        crop = [round(side * scale) for side in size]
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        piece = picture[top : top + crop[0], left : left + crop[1]].astype(float)
        down, across = (area_means(*pair) for pair in zip(crop, size))
        expected = np.einsum("yi,xj,ijc->yxc", down, across, piece)
        assert np.abs(augment.fit(picture, size) - expected).max() <= 0.51


def test_the_limit_of_a_file_s_pixels_is_not_one_of_pictures_in_memory(monkeypatch):
    monkeypatch.setattr(image_io, "MAX_PIXELS", 100)
    assert augment.fit(random_picture((16, 24)), (8, 12)).shape == (8, 12, 3)


def test_a_picture_of_the_right_size_is_left_alone():
    picture = random_picture((8, 12))
    np.testing.assert_array_equal(augment.fit(picture, (8, 12)), picture)


@pytest.mark.parametrize("size", [(7, 40), (40, 11)])
def test_a_picture_too_small_on_a_side_is_refused_with_both_sizes(size):
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} pixels .* smaller than .* 8x12"):
        augment.fit(random_picture(size), (8, 12))
