"""Images of two prediction tables are matched by name, whatever form the tables have of the names."""

import pytest

from stochconv_jax.reporting import collect, image_names
from tests.reporting.folders import THUMBNAIL, write


@pytest.mark.parametrize(
    "other, same",
    [
        (["i1.png", "i1-a.png", "i2.png"], True),
        (["images\\i1.png", "images\\i1-a.png", "images\\i2.png"], True),
        (["a/i1", "b/i1", "i2"], False),
        (["i1", "i1-b", "i2"], False),
    ],
)
def test_images_are_the_same_by_whatever_name_the_label_files_have_for_them(tmp_path, other, same):
    """An earlier version wrote the files' names, and this one what the label file says."""
    targets, areas = (1, 0, 0), (0.9, 0.8, 0.1)
    for run, images in (("a", ["i1", "i1-a", "i2"]), ("b", other)):
        write(tmp_path / run, [0.6], config=THUMBNAIL, predictions=list(zip(images, targets, areas)))
    read = [collect.read(tmp_path / run, tmp_path).predictions for run in "ab"]
    assert read[0].same_images(read[1]) == same


def test_folders_are_left_out_of_images_names_only_where_they_tell_nothing_apart():
    assert image_names.normalize(["x/1.png", "x\\2.jpg", "3"]) == ["1", "2", "3"]
    assert image_names.normalize(["a/1.png", "b\\1.png"]) == ["a/1", "b/1"]


def test_names_without_endings_tell_images_apart():
    assert image_names.normalize(["a/x.jp2", "b\\y.JPG"]) == ["x", "y"]
    assert image_names.normalize(["a.left", "a.temp"]) == ["a.left", "a.temp"]
    assert image_names.normalize(["a.jpg", "a.png"]) == ["a.jpg", "a.png"]
    assert image_names.normalize(["1/a.jpg", "2/a.jpg"]) == ["1/a", "2/a"]
