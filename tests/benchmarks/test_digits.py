"""Digits in large images tell the classes apart by their shape alone, and the map has what the sweeps measured."""

import json

import cv2
import numpy as np
import pytest

from benchmarks.real import digits, digits_map
from benchmarks.real.digits_map import Cell
from stochconv_jax.data import table_reader
from stochconv_jax.visualization import figures
from tests.reporting.folders import SPLIT, THUMBNAIL, write


@pytest.mark.parametrize(("detail", "copies"), [(8, 30), (20, 4)])
def test_an_image_has_whole_digits_of_equal_mean_and_deviation(monkeypatch, detail, copies):
    monkeypatch.setattr(digits, "GRAIN", 0.0)
    for digit in digits.CLASSES:
        picture = digits.draw(
            np.random.default_rng(0), digits.read_digits(digit), side=120, detail=detail, copies=copies
        )
        ink = digits.GROUND - picture
        mean = copies * detail**2 * digits.MEAN / 120**2
        square = copies * detail**2 * (digits.MEAN**2 + digits.DEVIATION**2) / 120**2
        assert ink.mean() == pytest.approx(mean, rel=0.02) and (ink**2).mean() == pytest.approx(square, rel=0.02)
        assert picture.min() > 0


def test_the_digits_are_of_the_class_and_of_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "GRAIN", 0.0)
    digits.build(tmp_path, number=8, side=40, detail=8, copies=1)
    table = table_reader.read(tmp_path / "labels.csv").columns
    pools = [np.array_split(digits.read_digits(digit), digits.POOLS) for digit in digits.CLASSES]
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


def test_the_digits_in_windows_are_counted():
    """The mean is windows x digits x the share of windows of 33 pixels that contain a place of 8 pixels."""
    starts = np.random.default_rng(0).integers(0, 160 - 33 + 1, (200000, 2))
    places = np.random.default_rng(1).integers(0, 160 - 8 + 1, (200000, 2))
    inside = ((starts <= places) & (places + 8 <= starts + 33)).all(1).mean()
    assert Cell(160, 32, 8, 16).seen() == pytest.approx(8 * 16 * inside, rel=0.03)
    assert Cell(160, 32, 8, 16).in_thumbnail() == pytest.approx(2.4)


def test_a_shard_has_its_part_of_the_cells_and_all_shards_have_all():
    parts = [digits_map.CELLS[digits_map._shard(f"{number}/3")] for number in (1, 2, 3)]
    assert sorted(sum(parts, ()), key=str) == sorted(digits_map.CELLS, key=str)
    with pytest.raises(digits_map.argparse.ArgumentTypeError, match="write 1/2"):
        digits_map._shard("3/2")


@pytest.mark.slow
def test_the_rivals_are_trained_on_the_images_of_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_map, "SEEDS", (1,))
    monkeypatch.setattr(digits_map, "RIVALS", ())
    monkeypatch.setattr(digits_map, "IMAGES", 120)
    cell = Cell(40, 16, 8, 2)
    for _ in range(2):  # the second finds all done
        digits_map.train(tmp_path, [cell], ["--config.num_epochs=1", "--config.data.num_workers=0"])
    (run,) = (tmp_path / "runs" / cell.name).glob("*/seed_*")
    assert run.parent.name == digits_map.BASELINE and run.name == "seed_1"
    assert json.loads((run / "evaluation.json").read_text())["n"] == 24


def test_the_map_has_the_difference_of_each_trained_cell(tmp_path, monkeypatch):
    cells = (Cell(160, 32, 8, 4), Cell(160, 32, 8, 16), Cell(160, 32, 16, 1))
    monkeypatch.setattr(digits_map, "CELLS", cells)
    images = [(f"i{k:02d}", k % 2) for k in range(40)]
    random = np.random.default_rng(0)
    odds = {"per_image": 0.4, "thumbnail_equal_cost": 0.1}  # the shared crop is not trained yet
    for number, cell in enumerate(cells):
        for name, gain in odds.items():
            for seed in range(2 if number < 2 else 1):  # one seed has no interval
                rows = [(image, target, 0.3 + gain * target + 0.2 * random.random()) for image, target in images]
                write(
                    tmp_path / "runs" / cell.name / name / f"seed_{seed}",
                    [0.9],
                    config=SPLIT if name == "per_image" else THUMBNAIL,
                    seed=seed,
                    predictions=rows,
                    evaluation={"roc_auc_by_passes": [0.5 + seed / 10] + [0.9] * 15},
                )
    rows = digits_map.read(tmp_path)
    assert [(row.cell, row.rival, row.seeds) for row in rows] == [(cell, "per_image", 2) for cell in cells[:2]]
    for row in rows:
        assert row.baseline < 1 and row.difference == pytest.approx(1 - row.baseline) and row.low > 0
        assert row.by_passes[0] == pytest.approx(0.55) and row.by_passes[-1] == pytest.approx(0.9)
    assert "| 160 | 32, 48 | 8, 16 | 2.4 |" in digits_map.table(rows)
    figure = digits_map.draw(rows)
    circles = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    places = [(row.cell.in_thumbnail(), row.cell.seen()) for row in rows]
    np.testing.assert_allclose([line.get_xydata()[0] for line in circles], places)
    assert {line.get_color() for line in circles} == {figures.BLUE} and not figure.axes[1].lines
