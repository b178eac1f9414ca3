"""Writes the image folders that the builders make: images, labels.csv and the licence of the data."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from stochconv_jax import atomic_files

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def write_image(folder: pathlib.Path, name: str, picture: np.ndarray) -> None:
    """Writes a uint8 picture, RGB `[H, W, 3]` or grey `[H, W]`, as JPEG of quality 95 or as PNG, by its name."""
    file = folder / "images" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    bgr = picture if picture.ndim == 2 else picture[..., ::-1]
    done, encoded = cv2.imencode(file.suffix, bgr, JPEG if file.suffix == ".jpg" else [])
    if not done:
        raise ValueError(f"{file} cannot be encoded")
    atomic_files.write_bytes(file, encoded.tobytes())


def write_labels(folder: pathlib.Path, rows: Sequence[Mapping[str, Any]], licence: bytes) -> None:
    """Writes labels.csv, with the columns of the rows, and LICENSE.txt. Prints the number of images of each class."""
    atomic_files.write_csv(folder / "labels.csv", list(rows[0]), rows)
    atomic_files.write_bytes(folder / "LICENSE.txt", licence)
    counts = np.bincount([row["target"] for row in rows]).tolist()
    print(f"{folder}: {len(rows)} images, by class: {', '.join(map(str, counts))}")
