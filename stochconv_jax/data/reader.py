"""One row of a batch: an image of a source, read at the right size, and what the network sees of it."""

import dataclasses
import functools
import math
import pathlib
import zlib

import cv2
import numpy as np

from stochconv_jax.data import augment
from stochconv_jax.data.augment import Size
from stochconv_jax.data.sources import BadImage, Source
from stochconv_jax.data.streams import Batch


def example_id(name: str) -> int:
    """Identity of an image, a uint32: of its file name without folder and ending.

    Windows are drawn from it, so an image is predicted alike in whatever data set and batch it stands.
    """
    return zlib.crc32(pathlib.PurePath(name).stem.encode("utf-8", "surrogateescape"))


def row_bytes(image_size: Size, thumbnail_size: Size, outputs: tuple[str, ...]) -> int:
    """Of the pictures in a row of a batch; what else is in it does not count."""
    sizes = {"image": image_size, "thumbnail": thumbnail_size}
    return sum(3 * math.prod(sizes[name]) for name in outputs)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns an index of `source` into a picture of the right size, and a picture into what a batch holds of it.

    Where only the thumbnail is wanted, pictures are decoded and augmented at `image_size` / `shrink`.
    """

    source: Source
    image_size: Size
    thumbnail_size: Size
    outputs: tuple[str, ...]

    @functools.cached_property
    def shrink(self) -> int:
        """By what sides are divided before augmentation: 1 for full resolution.

        A thumbnail is made from at least twice its size: a crop of 0.6 of the area is still reduced and not enlarged.
        """
        if "image" in self.outputs:
            return 1
        sides = tuple(zip(self.image_size, self.thumbnail_size, strict=True))
        fit = (k for k in (8, 4, 2) if all(side % k == 0 and side // k >= 2 * small for side, small in sides))
        return next(fit, 1)

    def picture(self, index: int) -> np.ndarray:
        """The picture at `image_size` / `shrink`. Raises BadImage, naming the image, if it is damaged or too small."""
        cv2.setNumThreads(1)  # workers are the parallelism
        picture = self.source.read(index, least=self.image_size, shrink=self.shrink)
        height, width = self.image_size
        try:
            return augment.fit(picture, (height // self.shrink, width // self.shrink))
        except ValueError as error:
            raise BadImage(f"{self.source.names[index]}: {error}") from error

    def row(self, index: int, picture: np.ndarray, *, mask: bool = True, skipped: int = -1) -> Batch:
        """One row of a batch."""
        row = {
            "label": np.int32(self.source.labels[index]),
            "example": np.uint32(example_id(self.source.names[index])),
            "index": np.int32(index),
            "mask": np.bool_(mask),
            "skipped": np.int32(skipped),
        }
        if "image" in self.outputs:
            row["image"] = picture
        if "thumbnail" in self.outputs:
            row["thumbnail"] = augment.resize(picture, self.thumbnail_size)
        return row
