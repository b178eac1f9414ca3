"""Digits in large images tell the classes apart by their shape alone."""

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.real import digits
from stochconv_jax.data import table_reader


@pytest.mark.parametrize("detail", [8, 20])
def test_all_digits_have_the_same_grey_values_in_the_shape_of_their_pictures(detail):
    pictures, labels = load_digits(return_X_y=True)
    for digit, found in zip(digits.CLASSES, digits.read_digits(detail)):
        values = np.sort(found.reshape(len(found), -1), axis=1)
        np.testing.assert_array_equal(
            values, np.broadcast_to(np.sort(digits.read_digits(detail)[0][0].ravel()), values.shape)
        )
        assert values.mean() == pytest.approx(digits.MEAN) and values.std() == pytest.approx(digits.DEVIATION)
        original = [cv2.resize(one.reshape(8, 8), (detail, detail)) for one in pictures[labels == digit]]
        alike = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(found, original)]
        assert min(alike) > 0.8


@pytest.mark.parametrize(("detail", "copies"), [(8, 30), (20, 4)])
def test_an_image_has_all_its_digits_as_a_whole(monkeypatch, detail, copies):
    monkeypatch.setattr(digits, "GRAIN", 0.0)
    for pictures in digits.read_digits(detail):
        for seed in range(5):
            picture = digits.draw(np.random.default_rng(seed), pictures, side=120, copies=copies)
            ink = np.sort((digits.GROUND - picture)[picture != digits.GROUND])
            expected = np.sort(np.tile(np.round(pictures[0]), (copies, 1)).ravel())
            np.testing.assert_allclose(ink, expected[expected != 0], atol=1)


def test_the_digits_are_of_the_class_and_of_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "GRAIN", 0.0)
    digits.build(tmp_path, number=8, side=40, detail=8, copies=1)
    table = table_reader.read(tmp_path / "labels.csv").columns
    pools = [np.array_split(pictures, digits.POOLS) for pictures in digits.read_digits(8)]
    for name, target, pool in zip(table["image"], table["target"], table["pool"]):
        picture = digits.GROUND - cv2.imread(str(tmp_path / "images" / name), cv2.IMREAD_GRAYSCALE)
        best = {
            (str(label), str(number)): max(
                cv2.matchTemplate(picture.astype(np.float32), one, cv2.TM_CCOEFF_NORMED).max() for one in pictures
            )
            for label, parts in enumerate(pools)
            for number, pictures in enumerate(parts)
        }
        assert max(best, key=lambda key: best[key]) == (target, pool)
    assert table["target"] == ["0", "1"] * 4 and table["pool"] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_the_most_digits_fit_with_any_corner_and_more_are_refused(tmp_path):
    room = (41 // 10 - 1) ** 2
    digits.build(tmp_path, number=40, side=40, detail=8, copies=room)
    with pytest.raises(ValueError, match=f"copies={room + 1}: at most {room} digits of 8 pixels fit into 40x40"):
        digits.build(tmp_path, number=2, side=40, detail=8, copies=room + 1)
