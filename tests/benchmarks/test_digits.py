"""Digits in large images tell the classes apart by their shape alone, and the map has what the sweeps measured."""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.real import digits, digits_map
from benchmarks.real.digits_map import Cell
from configs.ablations import quick_real
from stochconv_jax.data import table_reader
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.visualization import figures
from tests.conftest import ROOT
from tests.reporting.folders import SPLIT, THUMBNAIL, write


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


def test_the_windows_of_a_pass_are_those_of_the_network():
    cell = Cell(160, 32, 8, 16)
    config = quick_real.get_config("160,32")
    for rival in digits_map.RIVALS:
        changed = config.copy_and_resolve_references()
        for key, value in quick_real.sweep("160,32")[rival].items():
            changed.update_from_flattened_dict({key: value})
        network = Experiment(changed).model
        assert (network.window_size, network.windows_per_pass) == ((33, 33), digits_map.WINDOWS[rival])
    starts = np.random.default_rng(0).integers(0, 160 - 33 + 1, (200000, 2))
    places = np.random.default_rng(1).integers(0, 160 - 8 + 1, (200000, 2))
    inside = ((starts <= places) & (places + 8 <= starts + 33)).all(1).mean()
    assert cell.seen("per_image") == pytest.approx(8 * 16 * inside, rel=0.03)
    assert cell.seen("shared_crop") == pytest.approx(16 * inside, rel=0.03)
    assert cell.in_thumbnail() == pytest.approx(2.4)


def test_a_shard_has_its_part_of_the_cells_and_all_shards_have_all():
    parts = [digits_map.CELLS[digits_map._shard(f"{number}/3")] for number in (1, 2, 3)]
    assert sorted(sum(parts, ()), key=str) == sorted(digits_map.CELLS, key=str)
    for wrong in ("3/2", "0/2", "2", "a/b", "1/99"):
        with pytest.raises(argparse.ArgumentTypeError, match="write 1/2"):
            digits_map._shard(wrong)


@pytest.mark.slow
def test_the_rivals_are_trained_on_the_images_of_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_map, "IMAGES", 120)
    cell = Cell(80, 32, 8, 2)
    more = [f"--config.{setting}" for setting in ("num_epochs=1", "data.num_workers=0", "sweep.seeds=(1,)")]
    digits_map.train(tmp_path, [cell], more)
    runs = sorted((tmp_path / "runs" / cell.name).glob("*/seed_*"))
    assert [run.parent.name for run in runs] == ["per_image", "shared_crop", "thumbnail_equal_cost"]
    for run in runs:
        found = json.loads((run / "evaluation.json").read_text())
        assert found["n"] == 24 and len(found["roc_auc_by_passes"]) == digits_map.PASSES
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.[bc]*") if file.name != "sweep.csv"}
    digits_map.train(tmp_path, [cell], more)
    assert before == {file: file.stat().st_mtime_ns for file in before}


def catches(pid, number):
    """Returns whether a process has a handler for the signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 75)])
def test_a_signal_stops_the_sweep_too(tmp_path, number, code):
    """The child writes a file when it receives SIGTERM, as a sweep saves its run."""
    child = """if True:
        import pathlib, signal, sys, time

        def stop(*_):
            pathlib.Path("saved").touch()
            sys.exit(75)

        signal.signal(signal.SIGTERM, stop)
        pathlib.Path("started").touch()
        time.sleep(60)
    """
    parent = f"import sys\nfrom benchmarks.real import digits_map\ndigits_map._run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not ((tmp_path / "started").exists() and catches(process.pid, signal.SIGTERM)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code and (tmp_path / "saved").exists()


def test_the_map_has_the_difference_of_each_trained_cell(tmp_path, monkeypatch):
    cells = (
        Cell(160, 32, 8, 4),
        Cell(160, 32, 8, 16),
        Cell(160, 32, 16, 1),
        Cell(160, 32, 16, 4),
        Cell(160, 32, 8, 64),
    )
    monkeypatch.setattr(digits_map, "CELLS", cells)
    images = [(f"i{k:02d}", k % 2) for k in range(40)]
    random = np.random.default_rng(0)
    odds = {"per_image": 0.4, "thumbnail_equal_cost": 0.1}  # the shared crop is not trained yet
    for number, cell in enumerate(cells[:3]):
        for name, gain in odds.items():
            for seed in range(2 if number < 2 else 1):  # one seed has no interval
                rows = [(image, target, 0.3 + gain * target + 0.2 * random.random()) for image, target in images]
                by_passes = [0.5 + seed / 10] + [0.9 if name == "per_image" else 0.7] * 15
                write(
                    tmp_path / "runs" / cell.name / name / f"seed_{seed}",
                    [0.9],
                    config=SPLIT if name == "per_image" else THUMBNAIL,
                    seed=seed,
                    predictions=rows,
                    evaluation={"roc_auc_by_passes": by_passes},
                )
    (tmp_path / "runs" / Cell(160, 32, 16, 4).name).mkdir()  # its first epoch is not over
    rows = digits_map.read(tmp_path)
    assert [(row.cell, row.rival, row.seeds) for row in rows] == [(cell, "per_image", 2) for cell in cells[:2]]
    for row in rows:
        assert row.baseline == pytest.approx(0.7) and row.difference.low > 0
        assert row.by_passes[0] == pytest.approx(0.55) and row.by_passes[-1] == pytest.approx(0.9)
    assert "| a window for each filter | 160 | 8, 16 | 2.4 | 3.7 | 2 |" in digits_map.table(rows)
    assert all(row.significant for row in rows)
    figure = digits_map.draw(rows)
    circles = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    places = [(row.cell.in_thumbnail(), row.cell.seen("per_image")) for row in rows]
    np.testing.assert_allclose([line.get_xydata()[0] for line in circles], places)
    assert {line.get_color() for line in circles} == {figures.BLUE} and not figure.axes[1].lines
