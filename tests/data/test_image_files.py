"""Finds the pictures among files and describes the others."""

import importlib.util
import pathlib

import numpy as np
import PIL.Image
import pytest

from stochconv_jax.data import image_files, image_formats, image_io
from tests.data.drawn import random_picture

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="pillow_heif is installed")
def test_a_heic_picture_is_called_that():
    with pytest.raises(ValueError, match="HEIC, is not read: pip install pillow-heif"):
        image_io.decode(HEIC)
    file = pathlib.Path("IMG_1.HEIC")
    assert image_files.sort_out([file]) == ([], [file])
    assert "pip install pillow-heif" in image_files.why_unread(file)
    assert image_files.describe_others([file]).startswith(
        "1 .heic (IMG_1.HEIC: its format, HEIC, is not read: pip install"
    )


def test_files_are_sorted_out_by_ending_or_content_and_those_passed_over_counted_and_named(tmp_path):
    images = ["a.png", "b.GIF", "c.jfif", "d.avif", "e.jp2", "f", "h.JPG", "i.tif", "j.webp"]
    for name in images:
        kind = {"f": "JPEG", "h.JPG": "JPEG", "c.jfif": "JPEG"}.get(name)
        PIL.Image.fromarray(random_picture()).save(tmp_path / name, kind)
    for name in ("g.psd", "notes", "._a.png", *(f"{k}.txt" for k in range(5))):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "masks").mkdir()
    found, others = image_files.sort_out(tmp_path.iterdir())
    assert [file.name for file in found] == images
    for file in found:
        assert image_io.decode(file.read_bytes()).shape == (20, 30, 3)
    assert image_files.describe_others(others) == (
        "1 .psd (g.psd), 5 .txt (0.txt, 1.txt, 2.txt, ...), 1 folder (masks), 1 hidden (._a.png), "
        "1 without an ending (notes)"
    )


def test_a_heic_picture_is_read_where_pillow_heif_is_installed(tmp_path):
    pytest.importorskip("pillow_heif", reason="pillow_heif, the extra `heif`, is not installed")
    image_formats.of_pillow()
    picture = random_picture(64, 96)
    PIL.Image.fromarray(picture).save(tmp_path / "IMG_1.HEIC", "HEIF", quality=95)
    found, others = image_files.sort_out(tmp_path.iterdir())
    assert not others and image_io.read_size(found[0]) == (64, 96)
    content = found[0].read_bytes()
    assert np.abs(image_io.decode(content).astype(int) - picture).mean() < 4
    with pytest.raises(ValueError, match=r"^(?!.*pip install)"):
        image_io.decode(content[: len(content) // 2])
