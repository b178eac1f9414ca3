"""Every library that is installed does the same three things to an image."""

import json

import cv2
import numpy as np
import pytest

from benchmarks import input_parts
from stochconv_jax.data import augment


def smooth(side):
    """A picture without edges, on which ways to interpolate agree."""
    x = np.linspace(0, 3, side)
    waves = [127 + 100 * np.sin(a * x[:, None] + b * x[None] + c) for a, b, c in ((1, 2, 0), (2, 1, 1), (1, 1, 2))]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize("name", [name for name in input_parts.installed() if name != "stochconv_jax"])
def test_the_libraries_agree(name):
    library, reference = input_parts.LIBRARIES[name](32), input_parts.LIBRARIES["stochconv_jax"](32)
    picture = smooth(128)
    affine = augment.random_affine(np.random.default_rng(1), (128, 128), augment.Augmentation(area=(0.3, 0.3)))
    inside = slice(40, 88)  # a third of the area: the middle is taken from inside the picture, whatever the border is
    ours, theirs = (np.asarray(one["warp"](picture, affine))[inside, inside] for one in (reference, library))
    assert np.abs(ours.astype(int) - theirs).max() <= 3
    ours, theirs = (np.asarray(one["thumbnail"](picture)) for one in (reference, library))
    theirs = theirs if theirs.shape == ours.shape else theirs.transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - theirs)[2:-2, 2:-2].max() <= 3


def test_the_table_names_the_fastest_together(tmp_path, capsys):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), smooth(64))
    path = tmp_path / "parts.json"
    input_parts.main([f"--images={tmp_path}", "--thumbnail=16", "--rounds=2", f"--json={path}"])
    results = json.loads(path.read_text())["results"]
    least = sum(min(row["median"] for row in results[part].values()) for part in input_parts.PARTS)
    assert f"together: {least:.1f} ms" in capsys.readouterr().out


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no \.jpg"):
        input_parts.main([f"--images={tmp_path}"])
