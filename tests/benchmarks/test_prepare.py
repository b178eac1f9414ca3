"""The benchmark of preparation end to end, tiny; and its reference makes what ours makes."""

import json

import numpy as np
import PIL.Image
import pytest
import simplejpeg

from benchmarks import prepare
from stochconv_jax.data.isic.workers import Workers
from tests.data.isic.files import write_jpeg

GREY = np.array([0.299, 0.587, 0.114])  # JPEG's brightness


@pytest.fixture
def raw(tmp_path):
    """Three originals, and one that is too small."""
    for number, (height, width) in enumerate([(70, 90), (128, 64), (64, 64), (63, 200)]):
        write_jpeg(tmp_path / "raw" / f"ISIC_{number}.jpg", height, width, number)
    return tmp_path / "raw"


def test_the_table_has_the_loops_and_both_formats(raw, tmp_path, capsys):
    output = tmp_path / "prepare.json"
    prepare.main(f"--raw={raw} --size=64 --workers=1 --copies=2 --rounds=2 --output={output}".split())
    speeds = json.loads(output.read_text())["images_per_second"]
    assert {"PIL loop, box", "PIL loop, bicubic", "prepare, 1 worker", "  and to shards too"} < speeds.keys()
    printed = capsys.readouterr().out
    for name, speed in speeds.items():
        assert speed > 0 and f"{speed / speeds['PIL loop, bicubic']:15.2f}" in printed[printed.index(name) :]


def test_the_reference_makes_what_ours_makes(raw, tmp_path):
    (tmp_path / "links").mkdir()
    files = prepare.link(raw, tmp_path / "links", 64, 1)
    assert [file.name for file in files] == ["ISIC_0_0.jpg", "ISIC_1_0.jpg", "ISIC_2_0.jpg"]
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    prepare.pil_loop(files, tmp_path / "theirs", size=64, resample=PIL.Image.Resampling.BOX)
    with Workers(1) as workers:
        prepare.ours(files, tmp_path / "ours", size=64, workers=workers, formats=("folder", "tfds"))
    for file in files:
        theirs, ours = (
            simplejpeg.decode_jpeg((folder / file.name).read_bytes(), "RGB") @ GREY
            for folder in (tmp_path / "theirs", tmp_path / "ours" / "images")
        )
        assert theirs.shape == ours.shape == (64, 64) and np.abs(theirs - ours).mean() < 4
    assert len(list((tmp_path / "ours" / "tfds").rglob("*.array_record-*"))) == 1


def test_a_folder_without_large_originals_is_named(tmp_path):
    with pytest.raises(SystemExit, match=rf"no original of 64 pixels or more in {tmp_path}"):
        prepare.main([f"--raw={tmp_path}", "--size=64"])
