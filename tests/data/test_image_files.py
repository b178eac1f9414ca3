"""Files in a folder: the pictures among them, and what is said of the others."""
import importlib.util
import pathlib

import PIL.Image
import pytest

from stochconv_jax.data import image_files, image_io
from tests.data.drawn import random_picture

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="pillow_heif is installed")
def test_a_heic_picture_is_called_that():
    with pytest.raises(ValueError, match="HEIC, is not read: pip install pillow-heif"):
        image_io.decode(HEIC)
    assert "pip install pillow-heif" in image_files.why_unread(pathlib.Path("IMG_1.HEIC"))


def test_files_are_sorted_out_by_ending_or_content_and_those_passed_over_counted_and_named(tmp_path):
    images = ["a.png", "b.GIF", "c.jfif", "d.avif", "e.jp2", "f", "h.JPG", "i.tif", "j.webp"]
    for name in images:
        kind = {"f": "JPEG", "h.JPG": "JPEG", "c.jfif": "JPEG"}.get(name)
        PIL.Image.fromarray(random_picture()).save(tmp_path / name, kind)
    for name in ("g.HEIC", "notes", "._a.png", *(f"{k}.txt" for k in range(5))):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "masks").mkdir()
    found, others = image_files.sort_out(tmp_path.iterdir())
    assert [file.name for file in found] == images
    for file in found:
        assert image_io.decode(file.read_bytes()).shape == (20, 30, 3)
    told = image_files.passed_over(others)
    assert told.startswith("1 .heic (g.HEIC: ") and told.endswith(
        "5 .txt (0.txt, 1.txt, 2.txt, ...), 1 folder (masks), 1 hidden (._a.png), 1 without an ending (notes)"
    )
