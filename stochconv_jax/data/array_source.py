"""A source of images that are in memory already."""

import zlib
from collections.abc import Sequence

import numpy as np

from stochconv_jax.data import image_io
from stochconv_jax.data.sources import UNKNOWN, BadImage, Source


class ArraySource(Source):
    """Images uint8 `[H, W, 3]`, RGB, each of a size of its own, without labels.

    `names`: file names, from which the identities of the images are computed, see `reader.example_id`. By default a
    name is the CRC-32 of the pixels, so that an image has the same identity wherever it is predicted.

    Raises ValueError for an array of another shape or dtype, or where there are more or fewer names than images.
    """

    def __init__(self, images: Sequence[np.ndarray], names: Sequence[str] | None = None):
        self._images = [_checked(image, index) for index, image in enumerate(images)]
        names = [f"{zlib.crc32(image):08x}" for image in self._images] if names is None else list(map(str, names))
        if len(names) != len(self._images):
            raise ValueError(f"there are {len(names)} names for {len(self._images)} images")
        super().__init__(names, np.full(len(names), UNKNOWN))

    def read(self, index: int, *, least: tuple[int, int] = (1, 1), shrink: int = 1) -> np.ndarray:
        """Overrides `Source.read`. An array is never shrunk, like a file of another format than JPEG."""
        del shrink
        try:
            image_io.check_size(self._images[index].shape[:2], least)
        except ValueError as error:
            raise self.bad_image(index, error) from error
        return self._images[index]

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Overrides `Source.bad_image`."""
        return BadImage(f"image {index} ({self.names[index]}): {reason}")


def _checked(image: np.ndarray, index: int) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"image {index} is {array.dtype}{list(array.shape)}: expected uint8 [height, width, 3], RGB")
    return np.ascontiguousarray(array)
