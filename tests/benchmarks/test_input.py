"""The input benchmark end to end, tiny; and its reference makes what ours makes."""

import json

import cv2
import numpy as np
import pytest

from benchmarks import input as input_benchmark


@pytest.fixture
def images(tmp_path):
    """A folder of three JPEGs of 64 x 64 pixels."""
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), pixels)
    return tmp_path


def test_tables_and_json_have_both_cases(images, capsys):
    output = images / "input.json"
    args = [f"--images={images}", "--size=64", "--thumbnail=16", "--rounds=2", f"--json={output}"]
    input_benchmark.main(args)
    results = json.loads(output.read_text())["results"]
    assert [title.split(",")[0] for title in results] == ["image and thumbnail", "thumbnail only"]
    for timings in results.values():
        assert timings["PIL"]["ratio"] == 1 and timings["stochconv_jax"]["ratio"] > 0
    assert capsys.readouterr().out.count("stochconv_jax") == 2


@pytest.mark.parametrize(("outputs", "sides"), [(("image", "thumbnail"), [64, 16]), (("thumbnail",), [16])])
def test_the_reference_makes_all_outputs(images, outputs, sides):
    content = (images / "0.jpg").read_bytes()
    sizes = {"image_size": 64, "thumbnail_size": 16, "outputs": outputs}
    arrays = input_benchmark.with_pil(content, np.random.default_rng(0), **sizes)
    assert [array.shape for array in arrays] == [(side, side, 3) for side in sides]


def test_without_a_folder_pictures_are_drawn(tmp_path, capsys):
    args = ["--size=64", "--thumbnail=16", "--rounds=2", f"--json={tmp_path / 'input.json'}"]
    input_benchmark.main(args)
    assert capsys.readouterr().out.count("stochconv_jax") == 2


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no \.jpg"):
        input_benchmark.main([f"--images={tmp_path}"])
