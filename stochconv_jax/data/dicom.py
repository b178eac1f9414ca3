"""Decodes the first frame of DICOM files to 8 bits, as a viewer shows it (DICOM PS3.3, C.7.6.3 and C.11)."""

import importlib
import io
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from stochconv_jax.data import image_formats
from stochconv_jax.data.quiet import QUIET

_MAGIC, _MAGIC_AT = b"DICM", 128


def is_dicom(content: bytes) -> bool:
    """Returns whether a file that begins with `content` is a DICOM file."""
    return content[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def read_size(content: bytes) -> tuple[int, int]:
    """Returns height and width in pixels. Raises ValueError if the header does not have them."""
    header = _parse(content, stop_before_pixels=True)
    try:
        return int(header.Rows), int(header.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("the DICOM file has no image") from error


def decode(content: bytes) -> np.ndarray:
    """Decodes a DICOM file's first frame to RGB, uint8 `[H, W, 3]`.

    Grey values pass through the file's rescale slope and intercept (or table), and its first window, whose ends become
    0 and 255. Without a window, the ends of the range of the stored bits do. MONOCHROME1 is inverted, so that white is
    the brightest. Raises ValueError if the file is damaged, or compressed in a way that no installed package reads.
    """
    file, pixels_of = _parse(content), _module("pydicom.pixels")
    try:
        with QUIET:
            pixels = pixels_of.pixel_array(file, index=0)
            if file.PhotometricInterpretation == "PALETTE COLOR":
                colors = pixels_of.apply_color_lut(pixels, file)
                return _to_8_bits(colors, 8 * colors.dtype.itemsize)
            if file.SamplesPerPixel == 3:
                return _to_8_bits(pixels, file.BitsStored)
            grey = _windowed(file, pixels_of.apply_modality_lut(pixels, file).astype(np.float64))
    except Exception as error:  # the class depends on the fault and on the package that decompresses
        raise ValueError(f"its pixels cannot be read: {' '.join(str(error).split())}") from error
    if file.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return cv2.cvtColor(np.rint(grey).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _module(name: str) -> ModuleType:
    if not image_formats.reads_dicom():
        raise ValueError(image_formats.DICOM)
    return importlib.import_module(name)


def _parse(content: bytes, **options: Any) -> Any:
    """Returns pydicom's dataset. Raises ValueError if the file is damaged."""
    pydicom = _module("pydicom")
    try:
        with QUIET:
            return pydicom.dcmread(io.BytesIO(content), **options)
    except Exception as error:  # the class varies, as in `decode`
        raise ValueError(f"the DICOM file is damaged: {error}") from error


def _to_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    return np.ascontiguousarray(pixels >> max(bits - 8, 0)).astype(np.uint8)


def _windowed(file: Any, values: np.ndarray) -> np.ndarray:
    """Returns grey values, float `[H, W]`, scaled so that the file's window, or else its range, is 0 to 255."""
    low, high = _window(file) if "WindowCenter" in file and "WindowWidth" in file else _range(file)
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255


def _window(file: Any) -> tuple[float, float]:
    """Returns the ends of the first window (DICOM PS3.3, C.11.2.1.2)."""
    center, width = (float(np.atleast_1d(file[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = file.get("VOILUTFunction") or "LINEAR"
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise ValueError(f"the window function {function} is not supported")
    return center - width / 2, center + width / 2


def _range(file: Any) -> tuple[float, float]:
    """Returns the least and the largest value that the stored bits can have, rescaled."""
    bits, signed = int(file.BitsStored), bool(file.PixelRepresentation)
    slope, intercept = float(file.get("RescaleSlope") or 1), float(file.get("RescaleIntercept") or 0)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low, high = sorted(end * slope + intercept for end in ends)  # a slope may be negative
    return low, high
