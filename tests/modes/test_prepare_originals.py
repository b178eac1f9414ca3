"""--mode=prepare: originals that are damaged, or cannot be read."""

import errno
import json
import os
import pathlib
import shutil

import pytest

from stochconv_jax.data.isic import image_encoding
from tests.modes.isic_archive import run, table, times, tree


@pytest.fixture
def raw(archive, tmp_path):
    """A copy of the archive, to spoil."""
    shutil.copytree(archive, tmp_path / "raw")
    return tmp_path / "raw"


def truncate(file):
    file.write_bytes(file.read_bytes()[:2000])  # the header is whole


def test_a_copy_comes_back_where_the_one_kept_proves_damaged(raw, tmp_path, caplog):
    truncate(raw / "2020" / "ISIC_2637011.jpg")
    first = run(tmp_path / "run", raw=raw)
    report = {row["image"]: row for row in table(first / "report.csv") if row["file"] == "2020.csv"}
    assert report["ISIC_2637011"]["reason"].startswith("ISIC_2637011.jpg: Premature end")
    assert report["ISIC_2637013"]["status"] == "kept"
    assert (first / "images" / "ISIC_2637013.jpg").exists()
    before = tree(first), times(first)
    with caplog.at_level("INFO"):
        run(first, raw=raw)
    assert (tree(first), times(first)) == before
    images = sum(len(json.loads(file.read_text())["images"]) for file in (first / "units").glob("*.json"))
    assert f"{images} of {images} images are prepared already" in caplog.text


def test_where_the_largest_file_of_an_image_proves_damaged_the_next_is_used(raw, tmp_path):
    """ISIC_0000001 has a file of 81x100 pixels and one of 70x90."""
    other = "ISIC_0000001_downsampled.jpg"
    intact = run(tmp_path / "intact", raw=raw)
    truncate(raw / "2016" / "ISIC_0000001.jpg")
    workdir = run(tmp_path / "run", raw=raw)
    expected = image_encoding.prepare((raw / "2019" / other).read_bytes(), size=64, crop="report", quality=95)
    assert (workdir / "images" / "ISIC_0000001.jpg").read_bytes() == expected
    assert table(workdir / "labels.csv") == table(intact / "labels.csv")
    reasons = {row["file"]: row["reason"] for row in table(workdir / "report.csv") if row["image"] == "ISIC_0000001"}
    assert reasons["ISIC_0000001.jpg"].startswith("ISIC_0000001.jpg: Premature end") and other not in reasons
    truncate(raw / "2019" / other)
    rows = [row for row in table(run(workdir, raw=raw) / "report.csv") if row["image"] == "ISIC_0000001"]
    assert not (workdir / "images" / "ISIC_0000001.jpg").exists()
    reasons = {row["file"]: row["reason"].partition(" end")[0] for row in rows if row["status"] == "dropped"}
    assert reasons["2019.csv"] == "ISIC_0000001.jpg: Premature" and reasons[other] == f"{other}: Premature"


@pytest.mark.parametrize("when", ["measured", "decoded"])
def test_an_original_that_cannot_be_read_ends_the_run(archive, tmp_path, monkeypatch, when):
    """A failing disk does not mean a damaged image, so the image is not dropped."""
    reader = (pathlib.Path, "open" if when == "measured" else "read_bytes")
    read = getattr(*reader)

    def fail(file, *arguments, **keys):
        if file.name == "ISIC_0000002.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # without the file's name, as of a read
        return read(file, *arguments, **keys)

    monkeypatch.setattr(*reader, fail)
    with pytest.raises(OSError, match=r"cannot read \S+raw/2016/ISIC_0000002\.jpg: Input/output error; mend"):
        run(tmp_path / "run", raw=shutil.copytree(archive, tmp_path / "raw"))
    assert not (tmp_path / "run" / "labels.csv").exists()


def test_a_folder_that_cannot_be_read_ends_the_run(raw, tmp_path, monkeypatch):
    scandir = os.scandir

    def fail(folder):
        if pathlib.Path(folder).name == "2018":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(PermissionError, match="raw/2018"):
        run(tmp_path / "run", raw=raw)


def test_a_file_s_ending_is_known_in_any_case_and_a_linked_folder_is_entered_once(prepared, archive, raw, tmp_path):
    moved = tmp_path / "another disk"
    (raw / "2020").rename(moved)
    (raw / "2020").symlink_to(moved)
    (moved / "back").symlink_to(raw)  # a loop
    (raw / "2019.csv").rename(raw / "2019.CSV")
    workdir = run(tmp_path / "run", raw=raw)
    assert table(workdir / "labels.csv") == table(prepared / "labels.csv")
    names = [row["image"] for row in table(workdir / "report.csv")]
    assert sorted(names) == sorted(row["image"] for row in table(prepared / "report.csv"))  # no file twice


def test_a_link_from_the_originals_to_the_workdir_is_refused(raw, tmp_path):
    workdir = run(tmp_path / "run", raw=raw)
    before = tree(workdir)
    (raw / "prepared").symlink_to(workdir / "images")
    with pytest.raises(ValueError, match="must not lie in each other"):
        run(workdir, raw=raw)
    assert tree(workdir) == before
