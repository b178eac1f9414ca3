"""Reads image files: the size from a header, and the pixels."""

import contextlib
import errno
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL.Image
import PIL.TiffImagePlugin

from stochconv_jax.data import dicom, exif, image_formats, jpeg
from stochconv_jax.data.quiet import QUIET

MAX_PIXELS = 2**30  # of one picture, as in OpenCV; a header that says more is damaged or made to do harm
_TOO_SMALL = "pixels (height x width) is smaller than `image_size`"  # of the error's text
# Beginnings of files.
_JPEG2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_TIFF = (b"II*\0", b"MM\0*")
_PNG = b"\x89PNG\r\n\x1a\n"
# TIFF's tags (TIFF 6.0, section 8).
_BITS, _PHOTOMETRIC, _CHANNELS, _PLANAR = 258, 262, 277, 284


def decode(content: bytes, *, least: tuple[int, int] = (1, 1), shrink: int = 1) -> np.ndarray:
    """Decodes an image file's content to RGB, uint8 `[H, W, 3]`.

    Grey becomes RGB, 16 bits become 8 (in DICOM as `dicom.decode` says), transparency is dropped, EXIF orientation is
    followed, and the first of several frames is read. `least`: height and width that the image must have in full.
    `shrink`, 1, 2, 4 or 8: divides the sides of a JPEG, rounded up, and saves most of the time, because high
    frequencies are not decoded; images of other formats keep their size. Raises ValueError if pixels are missing, or if
    the image is smaller than `least` or has more than `MAX_PIXELS`.
    """
    if not content:
        raise ValueError("the file is empty")
    if content.startswith(jpeg.START):
        size, orientation = jpeg.read_size(content), exif.orientation(content)
        check_size(exif.upright_size(size, orientation), least)
        return exif.upright(jpeg.decode(content, size, shrink), orientation)
    if dicom.is_dicom(content):
        check_size(dicom.read_size(content), least)
        return dicom.decode(content)
    try:
        pixels = _decode_by_pillow(content)
    except ValueError as error:
        pixels = _decode_otherwise(content, error)
    check_size((pixels.shape[0], pixels.shape[1]), least)
    return pixels


def _decode_by_pillow(content: bytes) -> np.ndarray:
    try:
        with _opened(io.BytesIO(content)) as picture:
            check_size((picture.height, picture.width), (1, 1))
            if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile):
                _check_planes(picture.tag_v2)
            if picture.format == "JPEG2000" and picture.mode != "I;16" and _has_deep_pixels(content):
                raise _Unknown("a JPEG 2000 of more than 8 bits a channel, which is not read: save it with 8")
            picture.load()
            return exif.upright(_rgb(picture), _orientation(picture))
    except ValueError:
        raise
    except Exception as error:  # damage leads Pillow's parsers to errors of many kinds
        raise ValueError(f"the image is damaged: {error}") from error


def _decode_otherwise(content: bytes, error: ValueError) -> np.ndarray:
    """Decodes the PNGs, TIFFs and JPEGs 2000 that Pillow refuses but that can be read; raises `error` for the rest."""
    if content.startswith(_PNG):
        return _decode_by_pillow(_critical_chunks(content))
    if not (content.startswith((*_TIFF, *_JPEG2000)) and isinstance(error, _Unknown)):
        raise error
    if content.startswith(_TIFF):
        _check_planes(_tags(content), known=(1, 3))  # OpenCV misreads those with transparency too
    level = cv2.utils.logging.setLogLevel(0)  # OpenCV would print messages without the file's name
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        pixels = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise error
    return pixels


class _Unknown(ValueError):
    """The file is of a kind of picture that Pillow does not know."""


def _has_deep_pixels(jpeg2000: bytes) -> bool:
    """Returns whether the first channel has more than 8 bits: Pillow would turn the largest values into 0."""
    place = jpeg2000.find(_JPEG2000[1]) + 42  # Ssiz in the codestream's header (ISO/IEC 15444-1, A.5.1)
    return (jpeg2000[place] & 0x7F) + 1 > 8


def _critical_chunks(png: bytes) -> bytes:
    """Returns the PNG without its ancillary chunks, such as a colour profile: Pillow refuses it if one is damaged."""
    parts, place = [_PNG], len(_PNG)
    while place < len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 5].isupper():
            parts.append(png[place:end])
        place = end
    return b"".join(parts)


def read_size(file: pathlib.Path | BinaryIO) -> tuple[int, int]:
    """Returns height and width in pixels of the upright picture, from the file's header.

    A picture with damaged EXIF counts as upright. Raises ValueError if the file is no picture or has more than
    `MAX_PIXELS`, and OSError if it cannot be read.
    """
    try:
        return _read_size_by_pillow(file)
    except ValueError:
        content = _read_start(file, -1)
        if content.startswith(jpeg.START):  # libjpeg finds headers that Pillow does not
            size = jpeg.read_size(content)
            check_size(size, (1, 1))
            return exif.upright_size(size, exif.orientation(content))
        if dicom.is_dicom(content):
            size = dicom.read_size(content)
            check_size(size, (1, 1))
            return size
        if content.startswith(_TIFF):
            height, width, _ = decode(content).shape
            return height, width
        if not content.startswith(_PNG):
            raise
    return _read_size_by_pillow(io.BytesIO(_critical_chunks(content)))


def _read_size_by_pillow(file: pathlib.Path | BinaryIO) -> tuple[int, int]:
    try:
        with _opened(file) as picture:
            size, orientation = (picture.height, picture.width), _orientation(picture, decoded=False)
    except OSError as error:
        # Pillow's own errors, about the content, have no number. Seeking where no file can be, after damage, is EINVAL.
        if error.errno in (None, errno.EINVAL):
            raise ValueError(str(error)) from error
        raise
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"the image is damaged: {error}") from error
    check_size(size, (1, 1))
    return exif.upright_size(size, orientation)


def all_too_small(problems: Iterable[str]) -> bool:
    """Returns whether each of `problems`, texts of errors, is that an image is too small: see `check_least`."""
    return all(_TOO_SMALL in problem for problem in problems)


def check_least(size: tuple[int, int], least: tuple[int, int]) -> None:
    """Raises ValueError if `size` (height, width) is below `least` on a side."""
    if size[0] < least[0] or size[1] < least[1]:
        raise ValueError(f"{size[0]}x{size[1]} {_TOO_SMALL}, {least[0]}x{least[1]}")


def check_size(size: tuple[int, int], least: tuple[int, int]) -> None:
    """Raises ValueError if `size` (height, width) is below `least` on a side or has more than `MAX_PIXELS`."""
    check_least(size, least)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{size[0]}x{size[1]} pixels (height x width), says its header: more than {MAX_PIXELS} in all are not read"
        )


@contextlib.contextmanager
def _opened(file: pathlib.Path | BinaryIO) -> Iterator[PIL.Image.Image]:
    """Yields the picture with only its header read. Raises ValueError if the file is no picture."""
    with QUIET, contextlib.ExitStack() as opened:
        stream = opened.enter_context(file.open("rb")) if isinstance(file, pathlib.Path) else file
        try:
            picture = PIL.Image.open(stream, formats=image_formats.of_pillow())
        except PIL.UnidentifiedImageError as error:
            raise _Unknown(_why_unidentified(stream)) from error
        yield opened.enter_context(picture)


def _why_unidentified(file: pathlib.Path | BinaryIO) -> str:
    """Returns the reason why Pillow does not know the file's format."""
    start = _read_start(file, 32)
    if not start:
        return "the file is empty"
    is_heif = start[4:8] == b"ftyp" and re.search(rb"hei[cfmsx]|hev[cmsx]|mif1|msf1", start[8:])
    if is_heif and "HEIF" not in image_formats.of_pillow():
        return image_formats.HEIF
    return "not an image that can be read"


def _read_start(file: pathlib.Path | BinaryIO, count: int) -> bytes:
    """Returns the file's first `count` bytes; all of them for -1."""
    if isinstance(file, pathlib.Path):
        with file.open("rb") as stream:
            return stream.read(count)
    file.seek(0)
    return file.read(count)


def _tags(tiff: bytes) -> Mapping[int, Any]:
    """Returns the tags of the first picture of a TIFF. Raises ValueError if they are damaged."""
    file = io.BytesIO(tiff)
    try:
        tags = PIL.TiffImagePlugin.ImageFileDirectory_v2(tiff[:8])
        file.seek(tags.next)
        with QUIET:
            tags.load(file)
            return dict(tags)
    except Exception as error:  # many kinds, as in `_decode_by_pillow`
        raise ValueError(f"the image is damaged: {error}") from error


def _check_planes(tags: Mapping[int, Any], known: tuple[int, ...] = ()) -> None:
    """Raises _Unknown for a TIFF with a plane for each channel and 16 bits or zero as white, which would be misread.

    `known`: the numbers of channels with which it is read correctly.
    """
    misread = max(tags.get(_BITS, (8,))) > 8 or tags.get(_PHOTOMETRIC) == 0
    if tags.get(_PLANAR) == 2 and misread and tags.get(_CHANNELS, 1) not in known:
        raise _Unknown("a plane for each channel: save it with its channels together")


def _rgb(picture: PIL.Image.Image) -> np.ndarray:
    """Returns the pixels of a decoded picture, RGB uint8 `[H, W, 3]`. Raises ValueError if their range is unknown."""
    tags = picture.tag_v2 if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile) else {}
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        if tags.get(_PHOTOMETRIC) == 0:  # zero is white; Pillow respects that in pictures of 8 bits only
            grey = 255 - grey
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if picture.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits or with a sign, whose range is not known: save it with 8 or 16 bits")
    if picture.mode in ("P", "PA") and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow warns of a direct conversion to RGB
    return np.array(picture.convert("RGB"))


def _orientation(picture: PIL.Image.Image, *, decoded: bool = True) -> int:
    """Returns EXIF's orientation of an opened picture; 1 if its EXIF is damaged, or follows pixels not yet decoded."""
    if picture.format in ("JPEG", "MPO"):
        return exif.orientation(b"".join(picture.info.get(name, b"") for name in ("exif", "xmp")))
    if picture.format == "TIFF" or (picture.format == "PNG" and not decoded and "exif" not in picture.info):
        return 1  # Pillow turns a TIFF itself, and would decode a PNG to look for its EXIF
    try:
        return picture.getexif().get(exif.ORIENTATION, 1)
    except Exception:  # many kinds, as in `decode`
        return 1
