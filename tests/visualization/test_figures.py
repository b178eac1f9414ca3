"""Figures show the right pixels in the right places."""

import cv2
import numpy as np
import pytest

from stochconv_jax.visualization import figures
from stochconv_jax.visualization.attribution import Relevance, coverage

SIZE, WINDOW, NAME = (60, 90), (15, 21), "a_$name$_of_a_file_that_is_rather_long_and_has_more_to_it.jpg"


@pytest.fixture
def random():
    return np.random.default_rng(0)


def picture_of(random, size=SIZE):
    return random.integers(0, 256, (*size, 3), np.uint8)


def boxes_of(random, *shape):
    return random.integers(0, [side - length + 1 for side, length in zip(SIZE, WINDOW)], (*shape, 2))


def shown(axes):
    """Returns the array of the last image in the axes."""
    return np.asarray(axes.get_images()[-1].get_array())


def corners(axes):
    """Returns (top, left, height, width) of each frame."""
    return [(p.get_y() + 0.5, p.get_x() + 0.5, p.get_height(), p.get_width()) for p in axes.patches]


def written(figure, tmp_path):
    content = cv2.imread(str(figures.save(figure, tmp_path / "figure.png")))
    assert content.shape[1] == 1440 and content.std() > 10


@pytest.mark.parametrize("count", [1, 2, 8, 32, 48])
def test_every_window_is_framed_where_it_lies_and_shown_beside(random, tmp_path, count):
    picture, boxes = picture_of(random), boxes_of(random, count)
    figure = figures.windows(NAME, picture, boxes, WINDOW)
    whole, *crops = figure.axes
    assert corners(whole) == [(*box, *WINDOW) for box in boxes]
    crops = [axes for axes in crops if axes.get_images()]
    assert len(crops) == count
    for axes, (top, left) in zip(crops, boxes):
        np.testing.assert_array_equal(shown(axes), picture[top : top + WINDOW[0], left : left + WINDOW[1]])
    looks = {(p.get_edgecolor(), p.get_linestyle()) for p in whole.patches}
    assert len(looks) == min(count, 30)
    written(figure, tmp_path)


def test_coverage_is_drawn_for_each_number_of_passes(random, tmp_path):
    boxes = boxes_of(random, 10, 4)
    drawn = {passes: boxes[:passes].reshape(-1, 2) for passes in (1, 10)}
    figure, shares = figures.covered(NAME, picture_of(random), drawn, WINDOW)
    for axes, (passes, some) in zip(figure.axes, drawn.items()):
        counts = coverage(some, window_size=WINDOW, image_size=SIZE)
        heat = axes.get_images()[-1].get_array()
        np.testing.assert_array_equal(heat.filled(0), counts)
        assert shares[passes] == (counts > 0).mean() and f"{shares[passes]:.0%}" in axes.get_title()
    written(figure, tmp_path)


def test_ways_of_sampling_stand_side_by_side(random, tmp_path):
    pictures = [picture_of(random) for _ in range(2)]
    drawn = {"per_image": boxes_of(random, 2, 8), "per_batch": boxes_of(random, 1, 8), "shared": boxes_of(random, 2, 1)}
    figure = figures.sampling([NAME, "b.jpg"], pictures, drawn, WINDOW)
    cells = np.reshape(figure.axes, (2, 3))
    for row in range(2):
        for cell, (way, boxes) in zip(cells[row], drawn.items()):
            expected = boxes[0 if way == "per_batch" else row][:6]
            assert corners(cell) == [(*box, *WINDOW) for box in expected]
            np.testing.assert_array_equal(shown(cell), pictures[row])
    written(figure, tmp_path)


def test_filters_and_their_maps_are_in_order(random, tmp_path):
    branches = {
        name: (random.normal(size=(3, 3, 3, count)), random.normal(size=(10, 14, count)))
        for name, count in (("thumbnail", 12), ("windows", 8))
    }
    figure = figures.filters(NAME, branches)
    drawn = [axes for axes in figure.axes if axes.get_images()]
    for count, (kernels, maps) in zip((12, 8), branches.values()):
        cells, drawn = drawn[: 2 * count], drawn[2 * count :]
        pairs = [pair for first in range(0, 2 * count, 16) for pair in _pairs(cells[first : first + 16])]
        assert len(pairs) == count
        for number, (above, below) in enumerate(pairs):
            kernel = kernels[..., number]
            np.testing.assert_allclose(shown(above), 0.5 + kernel / (2 * abs(kernel).max()), atol=1e-9)
            np.testing.assert_allclose(shown(below), maps[..., number], rtol=1e-6)
    written(figure, tmp_path)


def _pairs(row):
    """Returns pairs of axes: a filter and the feature map below it."""
    return list(zip(row[: len(row) // 2], row[len(row) // 2 :]))


def test_relevance_lies_over_the_picture(random, tmp_path):
    mapped = np.zeros(SIZE)
    mapped[5:20, 60:80], mapped[40:50, 10:20] = 2, -2
    odds = random.normal(size=20) * 3
    figure = figures.relevance(
        NAME, np.full((*SIZE, 3), 255, np.uint8), Relevance(mapped, 0.314), class_name="melanoma", odds=odds
    )
    left, right = figure.axes[:2]
    assert left.get_title() == f"melanoma: probability {np.mean(1 / (1 + np.exp(-odds))):.2f}"
    red_less_blue = shown(right)[..., 0] - shown(right)[..., 2]
    assert ((red_less_blue > 0.3) == (mapped > 0)).all() and ((red_less_blue < -0.3) == (mapped < 0)).all()
    assert "31%" in figure.get_supxlabel() and "20 passes" in figure.get_supxlabel()
    written(figure, tmp_path)


def test_draws_of_augmentation_stand_over_their_thumbnails(random, tmp_path):
    pictures = [picture_of(random) for _ in range(3)]
    thumbnails = [picture_of(random, (12, 18)) for _ in range(3)]
    figure = figures.augmentation(NAME, pictures, thumbnails)
    for axes, expected in zip(figure.axes, pictures + thumbnails):
        np.testing.assert_array_equal(shown(axes), expected)
    assert figure.axes[3].get_xticklabels()[1].get_text() == "18"
    written(figure, tmp_path)
