"""Files of one name in several folders: one picture, different ones, or ambiguous labels."""

import pathlib
import unicodedata

import cv2
import numpy as np
import pytest
import simplejpeg

from stochconv_jax.data.isic import image_encoding, labels, same_names
from stochconv_jax.data.isic.records import split_name
from tests.data.isic.files import picture
from tests.modes.isic_archive import run, table


def jpeg(content, quality=95):
    return simplejpeg.encode_jpeg(np.ascontiguousarray(content), quality=quality)


def noisy(seed):
    """Returns a picture that differs from that of another seed only in its grain."""
    grain = np.random.default_rng(seed).normal(0, 8, (96, 96, 3))
    return np.clip(picture(96, 96, 1) + grain, 0, 255).astype(np.uint8)


def prepare(tmp_path, files, rows):
    """Prepares files with these contents and two more pictures, y and z; returns the workdir."""
    more = {f"raw/more/{name}.jpg": jpeg(picture(80, 80, ord(name))) for name in "yz"}
    for path, content in (files | more).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "labels.csv").write_text("\n".join(["image,target", *rows, "y,0", "z,1"]))
    return run(tmp_path / "run", raw=tmp_path / "raw", labels=tmp_path / "labels.csv", formats=("folder",))


def reason(workdir, name):
    (row,) = [row for row in table(workdir / "report.csv") if row["file"] == name and row["status"] == "dropped"]
    return row["reason"]


def test_the_same_bytes_are_one_picture_and_the_report_says_what_was_compared(tmp_path):
    content = jpeg(picture(80, 90, 1))
    workdir = prepare(tmp_path, {"raw/a/1.jpg": content, "raw/b/1.jpg": content}, ["1,0"])
    assert reason(workdir, "1.jpg").startswith("the same bytes: ") and (workdir / "images" / "1.jpg").exists()


def test_the_same_picture_saved_anew_is_one_picture_and_the_larger_is_used(tmp_path):
    whole = picture(180, 240, 1)
    small = jpeg(cv2.resize(whole, (120, 90), interpolation=cv2.INTER_AREA), 75)
    workdir = prepare(tmp_path, {"raw/a/1_downsampled.jpg": small, "raw/b/1.jpg": jpeg(whole)}, ["1,0"])
    assert reason(workdir, "1_downsampled.jpg").startswith(f"the same looks: {tmp_path / 'raw/b/1.jpg'} shows")


@pytest.mark.parametrize("other", [jpeg(picture(80, 90, 2)), jpeg(picture(60, 60, 2)), jpeg(picture(400, 400, 2))])
def test_different_pictures_of_one_name_are_refused_with_their_files(tmp_path, other):
    with pytest.raises(ValueError, match=r"1\.jpg and .*1\.jpg are different pictures, and the labels name 1 alone"):
        prepare(tmp_path, {"raw/a/1.jpg": jpeg(picture(80, 90, 1)), "raw/b/1.jpg": other}, ["1,0"])
    assert not (tmp_path / "run" / "labels.csv").exists()


def test_grain_alone_makes_another_picture_and_compression_does_not():
    first, other = noisy(1), noisy(2)
    again = simplejpeg.decode_jpeg(jpeg(first, 75))
    assert image_encoding.same_picture(first, again) and not image_encoding.same_picture(first, other)


def test_one_of_them_damaged_is_said_to_be(tmp_path):
    content = jpeg(picture(80, 90, 1))
    workdir = prepare(tmp_path, {"raw/a/1.jpg": content, "raw/b/1.jpg": jpeg(picture(80, 90, 2))[:500]}, ["1,0"])
    assert reason(workdir, "1.jpg").startswith("1.jpg: a damaged JPEG, cut short in its header")


@pytest.mark.parametrize("rows", [["a/1.jpg,0", "b/1.jpg,1"], ["raw\\a\\1,0", "C:\\raw\\b\\1,1"]])
def test_pictures_that_the_labels_name_by_folder_are_kept_apart(tmp_path, rows):
    first, second = picture(80, 90, 1), picture(80, 90, 2)
    workdir = prepare(tmp_path, {"raw/a/1.jpg": jpeg(first), "raw/b/1.jpg": jpeg(second)}, rows)
    targets = {row["image"]: row["target"] for row in table(workdir / "labels.csv")}
    assert targets == {"a_1.jpg": "0", "b_1.jpg": "1", "y.jpg": "0", "z.jpg": "1"}
    for name, content in (("a_1", first), ("b_1", second)):
        made = simplejpeg.decode_jpeg((workdir / "images" / f"{name}.jpg").read_bytes())
        assert image_encoding.same_picture(made, content)


def test_a_folder_in_the_labels_says_which_file_is_meant(tmp_path):
    second = picture(80, 90, 2)
    workdir = prepare(tmp_path, {"raw/a/1.jpg": jpeg(picture(80, 90, 1)), "raw/b/1.jpg": jpeg(second)}, ["b/1.jpg,0"])
    assert image_encoding.same_picture(simplejpeg.decode_jpeg((workdir / "images" / "1.jpg").read_bytes()), second)
    assert reason(workdir, "1.jpg") == "no label file names it"


def test_a_folder_that_has_no_such_file_is_not_taken_for_another_one(tmp_path):
    files = {"raw/a/1.jpg": jpeg(picture(80, 90, 1)), "raw/b/2.jpg": jpeg(picture(80, 90, 2))}
    report = table(prepare(tmp_path, files, ["b/1.jpg,0", "elsewhere/2.jpg,1"]) / "report.csv")
    fate = {row["image"]: row["reason"] for row in report if row["file"] == "labels.csv"}
    assert fate == {"1": "no image file", "2": "", "y": "", "z": ""}


def contents(tmp_path, *rows):
    (tmp_path / "labels.csv").write_text("\n".join(["image,target", *rows]))
    return [labels.read(tmp_path / "labels.csv")]


@pytest.mark.parametrize(
    "rows, message",
    [
        (["a/1,0", "b/1,1", "1,0"], r"labels\.csv, row 4: '1' may be a/1 or b/1, as other .*; give the folder"),
        (["a/1,0", "b/1,1", "a_1,0"], "a_1 would be the name of two pictures"),
        (["a/1,0", "b/1,1", "a/b_1,0", "c/b_1,0", "b_1,1"], "b_1 would be the name of two pictures"),
    ],
)
def test_names_that_do_not_say_which_is_meant_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        same_names.by_folder(contents(tmp_path, *rows))


@pytest.mark.parametrize(
    "rows, names",
    [
        (["a/1,0", "a/2,1"], ["1", "2"]),
        (["a/1,0", "1,1"], ["1", "1"]),
        (["x/a/1,0", "a/1,1"], ["1", "1"]),  # one folder, from further up
        (["x/a/1,0", "y/a/1,1"], ["x_a_1", "y_a_1"]),
        (["x/a/1,0", "y/b/1,1", "a/1,1"], ["a_1", "b_1", "a_1"]),
    ],
)
def test_what_images_are_called(tmp_path, rows, names):
    (content,) = same_names.by_folder(contents(tmp_path, *rows))
    assert [row.image for row in content.records] == names


def test_a_file_is_found_however_its_letters_are_composed(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    assert split_name(f"x\\{decomposed}_downsampled.JPG") == ("x", composed)
    for number, (label, file) in enumerate([(composed, decomposed), (decomposed, composed)]):
        folder = tmp_path / str(number)
        workdir = prepare(folder, {f"raw/{file}.jpg": jpeg(picture(80, 90, 1))}, [f"{label},0"])
        assert pathlib.Path(workdir / "images" / f"{composed}.jpg").exists()
