"""Random pictures and small sources of them, in a module of their own so that worker processes can load them."""

import multiprocessing
import pathlib

import cv2
import numpy as np

from stochconv_jax.data.sources import BadImage, Source

RANDOM = np.random.default_rng(0)  # starts anew with each test, see `conftest.py`


class Noise(Source):
    """`size` different pictures of smooth noise; those at the indices `bad` cannot be read."""

    def __init__(self, size: int, image_size: tuple[int, int] = (24, 32), *, seed: int = 0, bad: tuple[int, ...] = ()):
        labels = np.random.default_rng(seed).integers(0, 3, size)
        super().__init__([f"folder/noise_{index}.jpg" for index in range(size)], labels)
        self._image_size, self._seed, self._bad = image_size, seed, bad

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`."""
        if index in self._bad:
            raise BadImage(f"{self.names[index]} (row {index + 2} of labels.csv): it is torn")
        noise = np.random.default_rng([self._seed, index]).integers(0, 256, (*self._image_size, 3), np.uint8)
        return cv2.GaussianBlur(noise, (0, 0), 1.0)


class Witness(Noise):
    """Noise that records which processes read it: a file each in `folder`, with OpenCV's number of threads."""

    def __init__(self, size: int, folder: pathlib.Path, *, bad: tuple[int, ...] = ()):
        super().__init__(size, bad=bad)
        self._folder = folder

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`."""
        process = multiprocessing.current_process()
        (self._folder / str(process.pid)).write_text(f"{cv2.getNumThreads()}")
        return super().read(index)


def random_picture(height=20, width=30):
    """Returns smooth noise, RGB uint8 `[height, width, 3]`, another at each call."""
    noise = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(picture, ending=".png"):
    """Returns the content of a file of this ending with an RGB, RGBA or grey picture."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[picture.shape[2]])
    return cv2.imencode(ending, picture)[1].tobytes()
