"""Classes by words: their order, their numbers, and the layouts of folders that name them."""

import numpy as np
import pytest

from stochconv_jax.data import class_names, image_io
from stochconv_jax.data.sources import FolderSource, Subset
from tests.data.drawn import encoded, random_picture


@pytest.fixture
def images(tmp_path):
    """Class folders `nevus` and `melanoma`, one of them with a folder below, and files that are of no class."""
    for name in ("nevus/a.png", "nevus/b.png", "melanoma/a.png", "melanoma/2019/c.jpg", "stray.png", ".trash/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(random_picture(), name[-4:]))
    (tmp_path / "notes").mkdir()
    return tmp_path


def from_folders(folder, subfolder="", **settings):
    return FolderSource.from_class_folders(str(folder), subfolder, **{"num_classes": 2, **settings})


def test_class_folders_name_the_classes_in_sorted_order(images, caplog):
    (images / "nevus" / "about.txt").touch()
    source = from_folders(images)
    assert source.classes == ("melanoma", "nevus")
    found = dict(zip(source.names, source.labels.tolist()))
    assert found == {"melanoma/2019/c.jpg": 0, "melanoma/a.png": 0, "nevus/a.png": 1, "nevus/b.png": 1}
    assert "2 images outside the class folders are not used" in caplog.text
    assert "files that are not read: 1 .txt (about.txt)" in caplog.text
    last = source.names.index("nevus/b.png")
    np.testing.assert_array_equal(source.read(last), image_io.decode((images / "nevus/b.png").read_bytes()))
    assert Subset(source, [2]).classes == source.classes


def test_given_names_say_which_class_is_1(images):
    source = from_folders(images, classes=("nevus", "melanoma"))
    assert source.classes == ("nevus", "melanoma")
    assert source.labels.tolist() == [name.startswith("melanoma") for name in source.names]


def test_a_subfolder_has_classes_of_its_own_and_names_from_the_top(images):
    for name in ("train/nevus/a.png", "train/melanoma/b.png"):
        (images / name).parent.mkdir(parents=True)
        (images / name).write_bytes(encoded(random_picture()))
    source = from_folders(images, "train")
    assert source.names == ["train/melanoma/b.png", "train/nevus/a.png"] and source.labels.tolist() == [0, 1]


def test_folders_of_numbers_are_the_classes_of_these_numbers(tmp_path):
    for number in (0, 2, 10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.png").write_bytes(encoded(random_picture()))
    source = from_folders(tmp_path, num_classes=11)
    assert source.classes == () and dict(zip(source.names, source.labels)) == {
        "0/a.png": 0,
        "10/a.png": 10,
        "2/a.png": 2,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 3}, r": the names of the classes are melanoma, nevus, 2 in all, and `num_classes`=3"),
        (
            {"classes": ("melanom", "nevus")},
            r"melanoma: target 'melanoma' is none of .*nevus\. Did you mean \"melanom\"",
        ),
        ({"subfolder": "notes"}, r"`labels` is not set, and .*notes has no folder of images for each class"),
    ],
)
def test_faults_of_class_folders_are_named(images, settings, message):
    with pytest.raises(ValueError, match=message):
        from_folders(images, **settings)


def test_words_of_a_table_become_classes(images):
    (labels := images / "labels.csv").write_text("image,target\nnevus/b,nevus\nc,melanoma\n")
    settings = {"num_classes": 2}
    source = FolderSource.from_csv(str(images), str(labels), **settings)
    assert (source.classes, source.labels.tolist()) == (("melanoma", "nevus"), [1, 0])
    source = FolderSource.from_csv(str(images), str(labels), classes=("nevus", "melanoma"), **settings)
    assert source.labels.tolist() == [0, 1]


def test_names_given_for_numbers_are_kept_with_them(images):
    (labels := images / "labels.csv").write_text("image,target\nnevus/b,0\nc,1.0\n")
    source = FolderSource.from_csv(str(images), str(labels), num_classes=2, classes=("nevus", "melanoma"))
    assert source.classes == ("nevus", "melanoma") and source.labels.tolist() == [0, 1]


def test_words_are_in_sorted_order_whatever_their_order_in_the_table():
    words = [f"word{number}" for number in (7, 3, 9, 1, 8, 2, 5)]
    assert class_names.find(words, 7) == tuple(sorted(words))


def test_a_class_is_described_by_its_name_or_its_number():
    assert class_names.describe(1, ("nevus", "melanoma")) == "melanoma" and class_names.describe(1, ()) == "class 1"
