"""The check of all images before the first step names bad ones and copies, and is not repeated for the same files."""

import json
import logging
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from configs import quickstart
from stochconv_jax.data import image_checks, image_io
from stochconv_jax.data.folds import Leak
from stochconv_jax.data.sources import BadImage, FolderSource, Subset
from stochconv_jax.experiment import checking
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime.watchdog import Stalled
from tests.data.drawn import Noise, encoded, random_picture

SIZE = (80, 96)


@pytest.fixture
def images(tmp_path):
    """A folder of twelve JPEGs and their CSV."""
    (tmp_path / "images").mkdir()
    for k in range(12):
        picture = cv2.resize(random_picture(20, 24), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        (tmp_path / "images" / f"{k:02d}.jpg").write_bytes(encoded(picture, ".jpg"))
    rows = [f"{k:02d},{k % 2}\n" for k in range(12)]
    (tmp_path / "labels.csv").write_text("image,target\n" + "".join(rows))
    return tmp_path / "images"


def checked(images, **data):
    """Checks the images as a run does; the first eight are the training images."""
    config = quickstart.get_config()
    config.data.update({"image_size": SIZE} | data)
    source = FolderSource.from_csv(str(images), str(images.parent / "labels.csv"), num_classes=2)
    folder = RunFolder(images.parent / "run").create()
    sides = Subset(source, range(8)), Subset(source, range(8, 12))
    checking.check_images(folder, config, None, *sides)


def spoil(images, *, header=(), pixels=()):
    """Makes files of which headers, or only the pixels behind them, cannot be read."""
    for k in header:
        (images / f"{k:02d}.jpg").write_bytes(b"<html>")
    for k in pixels:
        file = images / f"{k:02d}.jpg"
        file.write_bytes(file.read_bytes()[:-200])


def test_bad_images_are_counted_and_named_with_their_rows_before_the_first_step(images):
    spoil(images, header=(1, 2, 3, 5, 6, 9), pixels=(0,))
    (images / "10.jpg").write_bytes(encoded(random_picture(79, 96), ".jpg"))
    with pytest.raises(BadImage, match=r"^7 of 12 images cannot be used: .*and 2 more\. .*_image=skip$") as caught:
        checked(images)
    assert str(caught.value).count(" of " + str(images.parent / "labels.csv")) == checking.NAMED
    with pytest.raises(BadImage, match=r"^8 of 12"):
        checked(images, check="full")
    checked(images, check="none")


def test_what_is_too_small_gone_or_absurdly_large_is_bad(images, monkeypatch):
    (images / "10.jpg").write_bytes(encoded(random_picture(79, 96), ".jpg"))
    with pytest.raises(
        BadImage, match=r"1 of 12 .*10\.jpg \(row 12 of .*79x96 pixels .* smaller than .* 80x96.* Set a smaller"
    ):
        checked(images)
    (images / "10.jpg").unlink()
    (images / "10.jpg").symlink_to(images / "gone")
    with pytest.raises(BadImage, match=r"1 of 12 .*10\.jpg \(row 12 of .*No such file"):
        checked(images)
    (images / "10.jpg").unlink()
    (images / "10.jpg").write_bytes(encoded(random_picture(800, 960), ".jpg"))
    monkeypatch.setattr(image_io, "MAX_PIXELS", 100_000)
    with pytest.raises(BadImage, match=r"1 of 12 .*10\.jpg \(row 12 of .*800x960"):
        checked(images)


def test_bad_images_to_be_skipped_are_listed_in_the_log(images, caplog):
    spoil(images, header=(1, 9))
    with caplog.at_level(logging.INFO):
        checked(images, on_bad_image="skip")
    assert "2 of 12 images cannot be used and are skipped:" in caplog.text
    assert "01.jpg (row 3 of" in caplog.text and "09.jpg (row 11 of" in caplog.text
    assert "check (headers): 12/12 images (100 %)" in caplog.text
    spoil(images, header=(8, 10, 11))
    with pytest.raises(BadImage, match="none of the 4 validation images can be used"):
        checked(images, on_bad_image="skip")


def test_a_run_that_goes_on_does_not_look_again_but_where_something_has_changed(images, caplog, monkeypatch):
    spoil(images, header=(1,))
    with caplog.at_level(logging.INFO):
        checked(images, on_bad_image="skip", check="full")
    looked = []
    real = image_checks.check_source
    monkeypatch.setattr(image_checks, "check_source", lambda *args, **keys: looked.append(1) or real(*args, **keys))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        checked(images, on_bad_image="skip", check="full")
    assert not looked and "already checked" in caplog.text and "1 of 12 images" in caplog.text
    with pytest.raises(BadImage, match="1 of 12 images"):
        checked(images, check="full")
    changes = [{"check": "headers"}, {"check": "full", "hash_distance": 0}, {"check": "full", "image_size": (80, 80)}]
    for change in changes:
        looked.clear()
        checked(images, **{"on_bad_image": "skip"} | change)
        assert looked, change
    looked.clear()
    os.utime(images / "04.jpg", ns=(1, 1))
    checked(images, on_bad_image="skip", **changes[-1])
    assert looked
    (images.parent / "run" / checking.FILE).write_text(json.dumps({"of": "another", "bad": []}))
    looked.clear()
    checked(images, on_bad_image="skip", **changes[-1])
    assert looked


def test_a_validation_image_that_is_a_copy_of_a_training_image_is_a_leak(images):
    shutil.copy(images / "09.jpg", images / "03.jpg")
    shutil.copy(images / "05.jpg", images / "06.jpg")  # on one side: no leak
    with pytest.raises(Leak, match=r"1 validation images are copies, byte for byte, .*: 09\.jpg of 03\.jpg\. "):
        checked(images)
    checked(images, check="none")


def test_only_files_of_one_length_and_beginning_are_read_whole(images, monkeypatch):
    read = []
    real = image_checks._sha256
    monkeypatch.setattr(image_checks, "_sha256", lambda file: read.append(file.name) or real(file))
    checked(images)
    assert not read
    long = encoded(random_picture(400, 400), ".bmp")
    (images / "03.jpg").write_bytes(long)
    (images / "09.jpg").write_bytes(long[:-1] + bytes([long[-1] ^ 1]))
    checked(images)
    assert sorted(read) == ["03.jpg", "09.jpg"]


def test_pictures_that_look_the_same_are_a_leak_where_that_is_asked_for(images):
    picture = image_io.decode((images / "09.jpg").read_bytes())
    (images / "03.jpg").write_bytes(encoded(cv2.resize(picture, (192, 160)), ".png"))
    checked(images)
    with pytest.raises(Leak, match=r"1 validation images look like copies .*hash_distance=4.*: 09\.jpg of 03\.jpg"):
        checked(images, hash_distance=4)


def test_a_read_that_never_returns_is_named(images):
    (images / "02.jpg").unlink()
    os.mkfifo(images / "02.jpg")
    with pytest.raises(Stalled, match=r"`timeout_seconds`\): reading hangs, of 02\.jpg"):
        checked(images, timeout_seconds=1.0)
    os.close(os.open(images / "02.jpg", os.O_RDWR | os.O_NONBLOCK))


def test_a_source_without_files_is_decoded_if_asked(tmp_path):
    folder, config = RunFolder(tmp_path / "run").create(), quickstart.get_config()
    config.data.update(image_size=(24, 32))
    sides = Noise(5), Noise(5, seed=1, bad=(2,))
    checking.check_images(folder, config, None, *sides)
    config.data.check = "full"
    with pytest.raises(BadImage, match=r"1 of 10 .*noise_2\.jpg \(row 4 of labels\.csv\): it is torn"):
        checking.check_images(folder, config, None, *sides)
    assert not pathlib.Path(folder.path, checking.FILE).exists()


def test_looks_of_all_pairs_across_are_compared():
    random = np.random.default_rng(0)
    found = [
        [image_checks.CheckedImage(perceptual_hash=int(bits)) for bits in random.integers(0, 2**63, 6)]
        for _ in range(2)
    ]
    found[1][4] = image_checks.CheckedImage(perceptual_hash=found[0][2].perceptual_hash ^ 0b101)
    found[1][5] = image_checks.CheckedImage(problem="torn", perceptual_hash=found[0][2].perceptual_hash)
    assert image_checks.similar_pairs(found, 2) == [(2, 4)] and image_checks.similar_pairs(found, 1) == []
