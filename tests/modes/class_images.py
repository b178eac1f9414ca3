"""Pictures of two classes in folders, for runs on class folders and on archives of them."""

import cv2
import pytest

from stochconv_jax.data.synthetic import SyntheticSource

COUNTS = {"train": 24, "val": 12, "test": 6}


@pytest.fixture
def class_images(tmp_path):
    """Drawn pictures in train, val and test, in folders of two classes."""
    source = SyntheticSource(size=sum(COUNTS.values()), image_size=(90, 120), seed=3)
    sides = [side for side, count in COUNTS.items() for _ in range(count)]
    for index, side in enumerate(sides):
        folder = tmp_path / "images" / side / ("dots", "net")[source.labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{index}.png"), source.read(index)[..., ::-1])
    return tmp_path / "images"
