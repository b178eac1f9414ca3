"""The maps have what the sweeps of their cells measured, at the size of the detail and how often windows see it."""

import dataclasses
import itertools
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

from benchmarks.real import cells, deeppcb, detail_map
from benchmarks.real.archive import Archive
from benchmarks.real.cells import Digits
from configs.ablations import quick_real
from stochconv_jax.data import table_reader
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.visualization import figures
from tests.benchmarks.boards import board_archive, board_place
from tests.conftest import ROOT
from tests.reporting.folders import SPLIT, THUMBNAIL, write


def test_the_windows_of_a_pass_are_those_of_the_network():
    cell = Digits(160, 32, 8, 16)
    config = quick_real.get_config("160,32")
    for rival in cells.RIVALS:
        changed = config.copy_and_resolve_references()
        for key, value in quick_real.sweep("160,32")[rival].items():
            changed.update_from_flattened_dict({key: value})
        network = Experiment(changed).model
        assert (network.window_size, network.windows_per_pass) == ((33, 33), cells.WINDOWS_OF_A_PASS[rival])
    starts = np.random.default_rng(0).integers(0, 160 - 33 + 1, (200000, 2))
    places = np.random.default_rng(1).integers(0, 160 - 8 + 1, (200000, 2))
    inside = ((starts <= places) & (places + 8 <= starts + 33)).all(1).mean()
    assert cell.seen("per_image") == pytest.approx(8 * 16 * inside, rel=0.03)
    assert cell.seen("shared_crop") == pytest.approx(16 * inside, rel=0.03)
    assert cell.in_thumbnail() == pytest.approx(2.4)


def test_the_detail_of_a_mosaic_is_smaller_and_its_defects_are_as_many(tmp_path):
    one, four = (cells.Boards(320, 64, grid, piece=640, defective=1) for grid in (1, 2))
    assert one.decides == (16, 6.7) and four.decides == (8, 6.7) and one.in_thumbnail() == pytest.approx(4.8)
    all_four = dataclasses.replace(four, defective=4)
    assert all_four.decides == (8, 26.8) and all_four.seen("per_image") == pytest.approx(4 * four.seen("per_image"))
    with pytest.raises(ValueError, match=r"git clone --bare .*--source=CLONE"):
        one.build(tmp_path, None)


@pytest.mark.parametrize("cell", cells.MAPS["boards"], ids=lambda cell: cell.name)
def test_a_cell_of_boards_builds_its_images(tmp_path, monkeypatch, cell):
    places = [board_place(number, defects=4) for number in range(cell.grid**2)]
    archive = board_archive(tmp_path / "clone", places)
    monkeypatch.setattr(
        deeppcb, "ARCHIVE", Archive("", "PCBData", archive.git("rev-parse", "HEAD:PCBData").decode().strip())
    )
    cell.build(tmp_path / "out", tmp_path / "clone")
    table = table_reader.read(tmp_path / "out" / "labels.csv").columns
    defects = [int(number) for number in table["defects"][1::2]]
    assert len(defects) == len(places)
    most = {640: 4, 320: 3, 176: 2}[cell.piece]  # defects are 120 pixels from each other
    assert all(cell.defective <= number <= most * cell.defective for number in defects)
    picture = cv2.imread(str(tmp_path / "out" / "images" / table["image"][0]), cv2.IMREAD_GRAYSCALE)
    assert picture.shape == (cell.side, cell.side)


def command(monkeypatch, *words):
    """Runs the command line, and returns the cells that it trains."""
    trained = []
    monkeypatch.setattr(detail_map, "train", lambda folder, cells, more, source: trained.extend(cells))
    monkeypatch.setattr(sys, "argv", ["detail_map", "train", *words])
    detail_map.main()
    return trained


def test_a_shard_has_its_part_of_the_cells_and_all_shards_have_all(monkeypatch):
    parts = [command(monkeypatch, "digits", "runs", f"--shard={number}/3") for number in (1, 2, 3)]
    assert sorted(itertools.chain(*parts), key=str) == sorted(cells.MAPS["digits"], key=str) and len(parts[0]) == 4


@pytest.mark.parametrize("shard", ["3/2", "0/2", "2", "a/b", "1/99"])
def test_an_impossible_shard_is_refused(monkeypatch, capsys, shard):
    with pytest.raises(SystemExit):
        command(monkeypatch, "digits", "runs", f"--shard={shard}")
    expected = "1/99: the map has 11 cells" if shard == "1/99" else f"{shard}: write 1/2 for the first"
    assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_the_rivals_are_trained_on_the_images_of_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(Digits, "number", 120)
    cell = Digits(80, 32, 8, 2)
    more = [f"--config.{setting}" for setting in ("num_epochs=1", "data.num_workers=0", "sweep.seeds=(1,)")]
    detail_map.train(tmp_path, [cell], more)
    runs = sorted((tmp_path / "runs" / cell.name).glob("*/seed_*"))
    assert [run.parent.name for run in runs] == ["per_image", "shared_crop", "thumbnail_equal_cost"]
    for run in runs:
        found = json.loads((run / "evaluation.json").read_text())
        assert found["n"] == 24 and len(found["roc_auc_by_passes"]) == detail_map.PASSES
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.[bc]*") if file.name != "sweep.csv"}
    detail_map.train(tmp_path, [cell], more)
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
    parent = f"import sys\nfrom benchmarks.real import detail_map\ndetail_map._run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not ((tmp_path / "started").exists() and catches(process.pid, signal.SIGTERM)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code and (tmp_path / "saved").exists()


def test_the_map_has_the_difference_of_each_trained_cell(tmp_path):
    chosen = (
        Digits(160, 32, 8, 4),
        Digits(160, 32, 8, 16),
        Digits(160, 32, 16, 1),
        Digits(160, 32, 16, 4),
        Digits(160, 32, 8, 64),
    )
    images = [(f"i{k:02d}", k % 2) for k in range(40)]
    random = np.random.default_rng(0)
    odds = {"per_image": 0.4, "thumbnail_equal_cost": 0.1}  # the shared crop is not trained yet
    for number, cell in enumerate(chosen[:3]):
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
    (tmp_path / "runs" / Digits(160, 32, 16, 4).name).mkdir()  # its first epoch is not over
    rows = detail_map.read(tmp_path, chosen)
    assert [(row.cell, row.rival, row.seeds) for row in rows] == [(cell, "per_image", 2) for cell in chosen[:2]]
    for row in rows:
        assert row.baseline == pytest.approx(0.7) and row.difference.low > 0
        assert row.by_passes[0] == pytest.approx(0.55) and row.by_passes[-1] == pytest.approx(0.9)
    assert "| a window for each filter | 160 | 8 | 16 | 2.4 | 3.7 | 2 |" in detail_map.table(rows)
    assert all(row.significant for row in rows)
    figure = detail_map.draw(rows)
    circles = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    places = [(row.cell.in_thumbnail(), row.cell.seen("per_image")) for row in rows]
    np.testing.assert_allclose([line.get_xydata()[0] for line in circles], places)
    assert {line.get_color() for line in circles} == {figures.BLUE} and not figure.axes[1].lines
