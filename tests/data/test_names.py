"""Finds the file that a name in a table means."""

import os
import unicodedata

import pytest

from stochconv_jax.data.names import FileIndex

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "naïve") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path):
    """Returns a function that makes empty files at paths, and returns their index."""

    def make(*paths):
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return FileIndex(tmp_path)

    return make


@pytest.mark.parametrize(
    "name, path",
    [
        ("i1", "i1.png"),
        ("i1.png", "i1.png"),
        ("c.d", "c.d.jpg"),
        ("UPPER", "UPPER.PNG"),
        ("./i1", "i1.png"),
        ("a/i2.png", "a/i2.png"),
        ("a\\i2", "a/i2.png"),
        ("i2", "a/i2.png"),
        ("a//i2", "a/i2.png"),
        ("x/../a/i2", "a/i2.png"),
        ("b/same", "b/same.png"),
        ("deep/b/same.png", "b/same.png"),
        ("same", "same.png"),  # in the folder itself before those below
        ("pictures/i1.png", "i1.png"),
        ("C:\\pictures\\a\\i2.png", "a/i2.png"),
        ("/mnt/pictures/i1", "i1.png"),
        ("back\\slash.png", "back\\slash.png"),
        ("i[1]", "i[1].png"),
        ("twice.png", "twice.png"),
        ("twice.png.png", "twice.png.png"),
        (" spaced ", " spaced .png"),
        ("spaced", " spaced .png"),
        ("picture.gif", "picture.gif"),  # the decoder shall say what it thinks of it
    ],
)
def test_a_name_means_a_file(folder, name, path):
    files = folder(
        *("i1.png", "c.d.jpg", "UPPER.PNG", "a/i2.png", "a/same.png", "b/same.png", "same.png", "back\\slash.png"),
        *("i[1].png", "twice.png", "twice.png.png", " spaced .png", "picture.gif", "notes.txt"),
    )
    assert files.name(files.find_one(name)) == path


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "no image is named"),
        ("i2", "there is no image 'i2' in "),
        ("b", r"no image 'b' in .*: .*/b\.psd is there, but its format is not supported"),
        ("two", r"'two' may be any of two\.jpg, two\.png in .*; give the ending"),
        ("same", r"'same' may be any of x/same\.png, y/same\.png in .*; give the folder too"),
        ("z/same", r"there is no image 'z/same' in "),
        ("x/i1.png", r"there is no image 'x/i1\.png' in "),  # i1.png is another: x is a folder here
        ("pictures\\x\\i1", r"there is no image 'pictures.*i1' in "),
    ],
)
def test_a_name_that_means_none_or_several_is_refused_with_what_to_do(folder, name, message):
    files = folder("i1.png", "b.psd", "two.jpg", "two.png", "x/same.png", "y/same.png")
    with pytest.raises(ValueError, match=message):
        files.find_one(name)


def test_a_path_out_of_the_folder_is_that_file(folder, tmp_path):
    folder("here/i1.png", "there/i2.png", "there/i1.png")
    files = FileIndex(tmp_path / "here")
    for name in ("../there/i2.png", "..\\there\\i2", str(tmp_path / "there" / "i2.png")):
        assert os.path.samefile(files.find_one(name), tmp_path / "there" / "i2.png")
    assert os.path.samefile(files.find_one(str(tmp_path / "there" / "i1.png")), tmp_path / "there" / "i1.png")


@pytest.mark.parametrize("place", ["", "sub/"])
@pytest.mark.parametrize("in_table, on_disk", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_letters_composed_or_not_are_one_name(folder, place, in_table, on_disk):
    files = folder(f"{place}{on_disk}.png")
    for name in (in_table, f"{in_table}.png", f"{place}{in_table}"):
        assert files.name(files.find_one(name)) == f"{place}{on_disk}.png"


def test_where_both_forms_exist_each_name_is_its_own_file(folder):
    files = folder(f"{COMPOSED}.png", f"{DECOMPOSED}.png")
    for name in (COMPOSED, DECOMPOSED):
        assert files.find_one(name).stem == files.find_one(f"{name}.png").stem == name


def test_a_name_of_other_bytes_is_found_as_it_is_written(folder):
    """A table holds such bytes as `atomic_files.open_text` writes them."""
    raw = os.fsdecode(b"caf\xe9.png")
    files = folder(raw)
    assert files.find_one("caf\\udce9.png").name == files.find_one("caf\\udce9").name == files.find_one(raw).name == raw
