"""An archive with every kind of fault, and --mode=prepare applied to it."""

import csv
import os
import pathlib
import subprocess
import sys

import cv2
import pytest
import simplejpeg

from configs import isic_prepare
from stochconv_jax.modes import prepare
from tests.conftest import PATIENCE, ROOT
from tests.data.isic.files import FILES, picture, write_all, write_jpeg

MORE = [f"ISIC_30000{number:02d}" for number in range(16)]
KEPT = [*(f"ISIC_000000{number}" for number in range(1, 6)), "ISIC_2637011", "ISIC_2637012", *MORE]
SHARDS = "tfds/isic_melanoma/64/1.0.0"


def run(workdir, **keys) -> pathlib.Path:
    """Runs --mode=prepare in this process on small images, and returns the workdir."""
    config = isic_prepare.get_config()
    small = {"size": 64, "images_per_shard": 4, "num_workers": 1, "folds": 2}
    keys = {key: str(value) if key in ("raw", "labels") else value for key, value in (small | keys).items()}
    config.update_from_flattened_dict({f"prepare.{key}": value for key, value in keys.items()})
    prepare.run(config, {}, str(workdir))
    return pathlib.Path(workdir)


def table(file: pathlib.Path) -> list[dict]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of all files by their paths."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def times(folder: pathlib.Path) -> dict[str, int]:
    """Returns the time of change of each file in ns, without the lock, which every run writes into."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> pathlib.Path:
    """A folder like the archives', with every kind of fault."""
    raw = tmp_path_factory.mktemp("archive")
    write_all(raw, FILES.keys() - {"own.csv"})
    for number in range(1, 6):
        write_jpeg(raw / "2016" / f"ISIC_000000{number}.jpg", 80 + number, 100, number)
    (raw / "2019").mkdir()
    reduced = cv2.resize(picture(81, 100, 1), (90, 70), interpolation=cv2.INTER_AREA)
    (raw / "2019" / "ISIC_0000001_downsampled.jpg").write_bytes(simplejpeg.encode_jpeg(reduced))
    write_jpeg(raw / "2018" / "ISIC_0027419.jpg", 63, 100, 6)  # too small by one pixel
    whole = write_jpeg(raw / "2018" / "ISIC_0025030.jpg", 100, 100, 7)
    whole.write_bytes(whole.read_bytes()[:2000])  # truncated
    (raw / "2019" / "ISIC_0060000.jpg").write_bytes(b"")
    (raw / "2018" / "ISIC_0034524.jpg").write_bytes(b"<html>404</html>")
    for number in (1, 2, 3):
        write_jpeg(raw / "2020" / f"ISIC_263701{number}.jpg", 90, 90, 10 + number)
    write_jpeg(raw / "2020" / "ISIC_0052060.jpg", 90, 90, 20)
    write_jpeg(raw / "2020" / "ISIC_9999999.jpg", 90, 90, 21)
    header, rows = FILES["2020.csv"].split(b"\r\n", 1)[0].decode(), []
    for number, name in enumerate(MORE):
        write_jpeg(raw / "2020" / f"{name}.jpg", 64 + number, 64, 30 + number)
        rows.append(f"{name},IP_{10 + number // 2},,,,,{'malignant,1' if number % 4 < 2 else 'benign,0'}")
    (raw / "2020" / "more.csv").write_text("\n".join([header, *rows]))
    # A PNG that calls itself a JPEG.
    wrong = raw / "2016" / "ISIC_0000004.jpg"
    wrong.write_bytes(_png(simplejpeg.decode_jpeg(wrong.read_bytes())))
    return raw


def _png(content) -> bytes:
    return cv2.imencode(".png", content[..., ::-1])[1].tobytes()


@pytest.fixture(scope="session")
def prepared(archive, tmp_path_factory) -> pathlib.Path:
    """The workdir of the prepared archive."""
    return run(tmp_path_factory.mktemp("prepared") / "run", raw=archive)


def start(workdir, **keys) -> subprocess.Popen:
    """Starts --mode=prepare of main.py as a process."""
    settings = [f"--config.prepare.{key}={value}" for key, value in keys.items()]
    config = ROOT / "configs" / "isic_prepare.py"
    return subprocess.Popen(
        [sys.executable, ROOT / "main.py", "--mode=prepare", f"--config={config}", f"--workdir={workdir}", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output
