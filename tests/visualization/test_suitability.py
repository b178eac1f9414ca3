"""Chances are those of drawn windows, sizes are those of planted details, and the figure has the user's own case."""

import cv2
import jax
import numpy as np
import pytest

from benchmarks.real import cells
from stochconv_jax.ops import sample_windows
from stochconv_jax.visualization import detail_size, figures, suitability
from stochconv_jax.visualization.suitability import Detail
from stochconv_jax.visualization.window_chance import chance
from tests.conftest import ROOT

RETINA = suitability.Windows((1024, 1024), (224, 224), (225, 225), 32)


@pytest.mark.parametrize("axes", ["independent", "diagonal"])
@pytest.mark.parametrize(("image", "window", "detail"), [((60, 60), (21, 21), 8), ((40, 90), (31, 21), 3)])
def test_the_chance_that_a_window_contains_a_detail_is_that_of_drawn_windows(axes, image, window, detail):
    draws, windows = 20000, 5
    sizes = {"image_size": image, "window_size": window}
    drawn = sample_windows(jax.random.key(0), **sizes, batch=draws, features=windows, axes=axes)
    places = [side - detail + 1 for side in image]
    details = np.random.default_rng(0).integers(0, places, (draws, 1, 2))
    inside = (drawn <= details) & (details + detail <= drawn + np.array(window))
    share = np.asarray(inside).all(2).any(1).mean()
    assert abs(share - chance(**sizes, detail=detail, windows=windows, axes=axes)) < 4 * 0.5 / np.sqrt(draws)


@pytest.mark.parametrize("axes", ["independent", "diagonal"])
def test_one_window_that_is_the_image_contains_everything_and_none_contains_what_is_larger(axes):
    sizes = {"image_size": (60, 60), "windows": 99, "axes": axes}
    assert chance(**sizes, window_size=(60, 60), detail=1) == 1
    assert chance(**sizes, window_size=(21, 21), detail=22) == 0


def drawn(random, size, count=60):
    """Returns noisy pictures, every other of which has a disc of `size` pixels."""
    pictures = []
    for number in range(count):
        grey = random.normal(128, 12, (256, 256)).astype(np.float32)
        if number % 2 and size:
            disc = np.zeros_like(grey)
            cv2.circle(disc, tuple(random.integers(size, 256 - size, 2).tolist()), size // 2, 40, -1)
            grey += cv2.GaussianBlur(disc, (0, 0), size / 4)
        pictures.append(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return pictures, np.arange(count) % 2


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_size_of_a_detail_is_estimated_within_an_octave(size):
    pictures, labels = drawn(np.random.default_rng(size), size)
    found = detail_size.estimate([detail_size.contrasts(picture) for picture in pictures], labels)
    assert size / 2 <= found <= size * 2


def test_equal_contrasts_do_not_tell_classes_apart_by_the_order_of_the_images():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 2, (100, 256, 256, 1), np.uint8).repeat(3, axis=3) * 255
    contrasts = [detail_size.contrasts(picture) for picture in pictures]
    assert detail_size.estimate(contrasts, np.arange(100) // 50) == 0


def test_pictures_too_small_for_a_contrast_give_no_size():
    contrasts = [detail_size.contrasts(np.zeros((12, 12, 3), np.uint8))] * 8
    assert detail_size.estimate(contrasts, np.arange(8) % 2) == 0


def test_no_size_is_estimated_where_classes_do_not_differ_or_there_is_one():
    pictures, labels = drawn(np.random.default_rng(0), 0)
    contrasts = [detail_size.contrasts(picture) for picture in pictures]
    assert detail_size.estimate(contrasts, labels) == detail_size.estimate(contrasts, np.zeros(60, int)) == 0


def test_the_details_in_windows_are_those_of_drawn_windows():
    draws, places = 20000, 5
    sizes = {"image_size": (60, 90), "window_size": (31, 21)}
    drawn = sample_windows(jax.random.key(0), **sizes, batch=draws, features=3)
    details = np.random.default_rng(0).integers(0, [53, 83], (draws, places, 1, 2))
    starts = np.asarray(drawn)[:, None]
    inside = ((starts <= details) & (details + 8 <= starts + np.array([31, 21]))).all(3)
    windows = suitability.Windows((60, 90), (20, 30), (31, 21), 3)
    counts = inside.sum((1, 2))
    assert abs(counts.mean() - windows.seen(Detail(8, places))) < 4 * counts.std() / np.sqrt(draws)


def test_the_text_has_the_sizes_and_the_nearest_measured_data():
    text = suitability.describe(RETINA, Detail(16, 10))
    assert "A detail of 16 pixels has 3.5 in the thumbnail, and 4.9 in one at the cost of both branches" in text
    assert "0.66 in 1, 0.89 in 4, 0.97 in 16" in text and "retina, -0.005" in text
    boards = suitability.Windows((320, 320), (112, 112), (113, 113), 8)
    assert "boards, -0.070 [-0.128, -0.001]" in suitability.describe(boards, Detail(16, 6.7))
    assert "With 10 in an image (--config.show.places), the windows of a pass contain 14 on average" in text
    assert "a random crop for all filters 0.43. Measured" in text  # a 32nd
    assert text.endswith(
        " each filter, no measured data set gained with details of more than 1.2 pixels in the larger thumbnail"
    )
    few = "in the larger thumbnail, or with fewer than 14 details in the windows of a pass"
    assert suitability.describe(RETINA, Detail(16)).endswith(few)
    assert "larger than a window" in suitability.describe(RETINA, Detail(226)) and "larger than" not in text
    assert "Set --config.show.detail=PIXELS" in suitability.describe(RETINA, Detail(0))


def test_more_places_are_seen_more_often_and_lie_nearer_to_the_measured_texture():
    one, many = Detail(4), Detail(4, 2000)
    windows = suitability.Windows((320, 320), (64, 64), (65, 65), 8)
    assert windows.seen(many) == pytest.approx(2000 * windows.seen(one))
    assert suitability.describe(windows, many).endswith("texture, +0.470 [+0.404, +0.538] AUC against such a thumbnail")
    assert "texture" not in suitability.describe(windows, one)


@pytest.mark.parametrize("detail", [Detail(0), Detail(24), Detail(24, 30), Detail(226)])
def test_the_figure_has_the_detail_at_its_place(tmp_path, detail):
    figure = suitability.draw(RETINA, detail)
    right = figure.axes[1]
    stars = [line.get_xydata()[0] for line in right.lines if line.get_marker() == "*"]
    if detail.size:
        width, windows = 2**0.5 * detail.size * 224 / 1024, RETINA.seen(detail)
        np.testing.assert_allclose(stars, [(width, max(windows, suitability.LEAST_SEEN))])
    else:
        assert not stars
    content = cv2.imread(str(figures.save(figure, tmp_path / "figure.png")))
    assert content.shape[1] == 1440 and content.std() > 10


def test_what_was_measured_for_the_maps_is_that_of_the_documentation():
    rows = [line.split(" | ") for line in (ROOT / "docs/when-windows-help.md").read_text().splitlines()]
    rows = [row for row in rows if row[0] == "| a window for each filter"]
    assert len(rows) == sum(map(len, cells.MAPS.values()))
    rows = [row for row in rows if max(float(row[7]), float(row[10])) > 0.55]  # one of the networks learnt something
    assert len(rows) == len(suitability.OF_THE_MAPS)
    for row, one in zip(rows, suitability.OF_THE_MAPS):
        assert row[1:4] == [f"{value:g}" for value in (one.windows.image_size[0], *one.detail)]
        assert row[4:6] == [f"{one.width():.1f}", f"{one.seen():.2g}"]
        difference = f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        assert row[-1] == (f"**{difference}** |" if one.significant else f"{difference} |")


def test_circles_have_the_colours_of_gain_and_loss():
    right = suitability.draw(RETINA, Detail(24)).axes[1]
    circles = {
        tuple(line.get_xydata()[0]): line.get_color()
        for line in right.lines
        if line.get_marker() in "os" and len(line.get_xydata())
    }
    blue = {one.difference for one in suitability.MEASURED if circles[one.width(), one.seen()] == figures.BLUE}
    orange = {one.difference for one in suitability.MEASURED if circles[one.width(), one.seen()] == figures.VERMILLION}
    assert blue == {0.470, 0.335}
    assert orange == {-0.161, -0.227, -0.147, -0.198, -0.118, -0.262, -0.281, -0.138, -0.102}
