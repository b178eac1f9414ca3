"""Builders of image folders from public archives, and the probe of frozen features."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from benchmarks.real import confounds, coverage, deeppcb, idrid, probe
from benchmarks.real.archive import Archive
from stochconv_jax.data import table_reader
from tests.benchmarks.boards import board_archive, board_place, commit, jpeg


def test_an_archive_is_refused_unless_its_files_are_those_expected(tmp_path):
    clone = commit(tmp_path, {"data/a b.txt": b"1\n", "other.txt": b"2"})
    tree = subprocess.check_output(["git", "-C", str(clone), "rev-parse", "HEAD:data"]).decode().strip()
    opened = Archive("URL", "data", tree).open(clone)
    assert opened.names() == ["a b.txt"] and opened.read("a b.txt") == b"1\n"
    with pytest.raises(ValueError, match=f"have changed: {tree}, expected 0"):
        Archive("URL", "data", "0" * 40).open(clone)
    with pytest.raises(ValueError, match="git clone --bare URL"):
        Archive("URL", "missing", tree).open(clone)


def retina(seed):
    """Returns a bright disc on a black background, BGR."""
    picture = np.zeros((400, 640, 3), np.uint8)
    cv2.circle(picture, (300, 200), 120, (40, 90, 200), -1)
    return picture + np.random.default_rng(seed).integers(0, 8, picture.shape, np.uint8)


def test_fundus_photographs_are_cropped_to_the_disc_and_copies_are_left_out(tmp_path, monkeypatch):
    head, images = "Image name,Retinopathy grade,Risk of macular edema \n", "1. Original Images"
    files = {"LICENSE.txt": b"CC BY 4.0"}
    for part, letter, title in (("Training", "a", "Training Set"), ("Testing", "b", "Testing Set")):
        rows = "".join(f"IDRiD_{number},{number},{number % 3},,\n" for number in range(5))
        table = f"2. Groundtruths/{letter}. IDRiD_Disease Grading_{part} Labels.csv"
        files[table] = ("\N{ZERO WIDTH NO-BREAK SPACE}" + head + rows + ",,,\n").encode()
        files |= {f"{images}/{letter}. {title}/IDRiD_{number}.jpg": jpeg(retina(number)) for number in range(5)}
    clone = commit(tmp_path / "clone", {f"grading/{name}": content for name, content in files.items()})
    tree = subprocess.check_output(["git", "-C", str(clone), "rev-parse", "HEAD:grading"]).decode().strip()
    # Copies of one class, of which one stays, and copies of two classes, of which none does.
    monkeypatch.setattr(idrid, "COPIES", {"train_IDRiD_0": "test_IDRiD_0", "train_IDRiD_1": "test_IDRiD_3"})
    opened = Archive("", "grading", tree).open(clone)
    idrid.build(opened, tmp_path / "out", size=64, target="referable")
    table = table_reader.read(tmp_path / "out" / "labels.csv").columns
    kept = [f"train_IDRiD_{number}.jpg" for number in (2, 3, 4)]
    kept += [f"test_IDRiD_{number}.jpg" for number in (0, 1, 2, 4)]
    assert table["image"] == kept and table["target"] == list("1110011") and table["dme_risk"] == list("2010121")
    picture = cv2.imread(str(tmp_path / "out" / "images" / "train_IDRiD_3.jpg"))
    bright = picture.max(axis=2) > 100
    assert picture.shape == (64, 64, 3) and 0.6 < bright.mean() < 0.79  # a disc fills pi / 4 of its square
    assert abs(picture[32, 32].astype(int) - (40, 90, 200)).max() < 16  # blue, green and red are where they were
    # What is there in the right size stays, and another size is made anew.
    files = sorted((tmp_path / "out" / "images").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    idrid.build(opened, tmp_path / "out", size=64, target="referable")
    assert before == [file.stat().st_mtime_ns for file in files]
    idrid.build(opened, tmp_path / "out", size=48, target="referable")
    assert {cv2.imread(str(file)).shape for file in files} == {(48, 48, 3)}


@pytest.mark.parametrize(("keep", "kept"), [(1, 1), (0, 4)])
@pytest.mark.parametrize("defective", [1, 3])
def test_twins_of_boards_differ_in_the_kept_defects_alone(tmp_path, capsys, keep, kept, defective):
    archive = board_archive(tmp_path / "clone", [board_place(number, defects=4) for number in range(4)])
    deeppcb.build(archive, tmp_path / "out", deeppcb.Layout(grid=2, keep=keep, defective=defective))
    assert f"defects in an image of class 1: {kept * defective:.1f} on average" in capsys.readouterr().out
    table = table_reader.read(tmp_path / "out" / "labels.csv").columns
    assert (
        table["target"] == list("01") * 4
        and table["defects"] == ["0", str(kept * defective)] * 4
        and set(table["block"]) == {"1_0"}
    )
    for place in range(4):
        good, bad = (
            cv2.imread(str(tmp_path / "out" / "images" / f"0000{place}_{kind}.png"), cv2.IMREAD_GRAYSCALE)
            for kind in ("good", "bad")
        )
        changed = np.argwhere(good != bad)
        assert good.shape == (1280, 1280) and len(changed) == 400 * kept * defective  # defects of 20x20 pixels
        quarters, counts = np.unique(changed // 640, axis=0, return_counts=True)
        assert len(quarters) == defective and set(counts) == {400 * kept}
        if defective == 1:
            assert sorted(np.ptp(changed, axis=0)) == [19, 19 + 120 * (kept - 1)]


def test_a_piece_of_a_board_has_whole_defects_and_any_place():
    template, tested, lines = board_place(0, defects=4)
    boxes = np.array([line.split()[:4] for line in lines.split("\n")], int)
    place, random, corners = deeppcb.Place(template, tested, boxes), np.random.default_rng(0), []
    numbers = set()
    for _ in range(300):
        piece = place.piece(200, random)
        assert piece.template.shape == piece.tested.shape == (200, 200)
        numbers.add(len(piece.boxes))
        for left, top, right, bottom in piece.boxes:
            assert (right - left, bottom - top) == (19, 19)
            assert (piece.tested != piece.template)[top : top + 20, left : left + 20].all()
        corners.append(tuple(piece.boxes[0][:2]))
    assert numbers == {1, 2}  # defects are 120 pixels from each other
    assert len(set(corners)) > 200 and np.ptp([x for x, _ in corners]) <= 60  # and 60 from the board's edge


@pytest.mark.parametrize("piece", [0, 640])
def test_a_board_is_shrunk_and_a_copy_is_left_out(tmp_path, piece):
    places = [board_place(number, defects=1) for number in (0, 1, 0, 2)]
    layout = deeppcb.Layout(grid=1, piece=piece, side=96)
    deeppcb.build(board_archive(tmp_path / "clone", places), tmp_path / "out", layout)
    table = table_reader.read(tmp_path / "out" / "labels.csv").columns
    assert table["image"] == [f"0000{number}_{kind}.png" for number in (0, 1, 3) for kind in ("good", "bad")]
    picture = cv2.imread(str(tmp_path / "out" / "images" / "00001_good.png"), cv2.IMREAD_GRAYSCALE)
    large = np.repeat(np.repeat(places[1][0].astype(float), 3, 0), 3, 1)  # 1920 pixels, 20 for each of 96
    np.testing.assert_allclose(picture, large.reshape(96, 20, 96, 20).mean((1, 3)), atol=1)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"grid": 2, "defective": 5}, "defective=5: 1 to 4 of 2x2 places"),
        ({"grid": 2, "defective": 0}, "defective=0: 1 to 4"),
        ({"piece": 100}, "piece=100: 176 to 640 pixels"),
        ({"piece": 641}, "piece=641: 176 to 640 pixels"),
        ({"grid": 2, "piece": 200, "side": 401}, "side=401: at most 400 pixels"),
        ({"side": -1}, "side=-1: at most 1280"),
        ({"grid": 0}, "grid=0, keep=0: at least 1 and 0"),
        ({"keep": -1}, "keep=-1: at least 1 and 0"),
    ],
)
def test_an_impossible_layout_is_refused(layout, message):
    with pytest.raises(ValueError, match=message):
        deeppcb.Layout(**layout)


def test_the_probe_finds_a_feature_and_its_interval_covers_no_difference():
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    noise = random.normal(size=(200, 120))
    informative = noise + 3 * labels[:, None] * (np.arange(120) == 7)
    informative = informative[:, [7]] + 0.1 * noise  # the first components then hold it
    found, none = (probe.cross_validate(features, labels, repeats=2) for features in (informative, noise))
    assert found.shape == (10,) and found.mean() > 0.95 and abs(none.mean() - 0.5) < 0.12
    low, high = probe.interval(found - none)
    assert 0.2 < low < (found - none).mean() < high
    same = np.random.default_rng(1).normal(0, 0.02, 50)
    low, high = probe.interval(same)
    # Wider than the interval of independent values, by the root of 1 + 50 / 4.
    assert low < 0 < high and (high - low) / (2 * 2.01 * same.std(ddof=1) / np.sqrt(50)) > 3.5


def test_a_row_s_cost_is_that_of_its_features():
    thumbnail, larger = probe.cost("thumbnail 224"), probe.cost("thumbnail 320")
    assert 380 < thumbnail < 390 and 2.03 < larger / thumbnail < 2.05
    assert probe.cost("windows 8, 4 passes") == pytest.approx(4 * thumbnail)
    assert probe.cost("windows 8, 4 passes, and thumbnail 224") == pytest.approx(5 * thumbnail)


def test_the_table_has_the_chances_of_every_image_and_number_of_passes():
    rows = coverage.table(32)
    assert [(image, passes) for image, passes, _ in rows][:4] == [(512, 1), (512, 4), (512, 16), (1024, 1)]
    for _, _, chances in rows:
        assert chances == sorted(chances, reverse=True) and 0 < chances[-1] < chances[0] < 1


def test_what_tells_classes_apart_beside_the_matter_is_found_and_nothing_else(tmp_path, capsys, monkeypatch):
    """Images of class 1 are brighter; corners and sizes are alike, and groups of two stay in one fold."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    lines = ["image,target,pair"]
    for number in range(120):
        picture = random.integers(0, 200, (40, 40, 3), np.uint8)
        picture[8:32, 8:32] += np.uint8(40 * (number % 2))
        cv2.imwrite(str(tmp_path / "images" / f"{number}.bmp"), picture)
        lines.append(f"{number}.bmp,{number % 2},{number // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["confounds", str(tmp_path), "--group-by=pair"])
    confounds.main()
    output = capsys.readouterr().out
    assert "120 images, 60 of class 1, 60 groups" in output
    areas = {line.split("|")[1].strip(): float(line.split("|")[2].split("[")[0]) for line in output.splitlines()[4:]}
    assert areas["mean and deviation of each channel"] > 0.95 and areas["all of these"] > 0.95
    assert abs(areas["corners"] - 0.5) < 0.15
