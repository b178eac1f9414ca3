"""Decodes JPEGs, in full or at a fraction of their size, and refuses those that have lost pixels."""

import contextlib
import io
import re

import numpy as np
import PIL.Image
import simplejpeg

START = b"\xff\xd8"
# Warnings of libjpeg (jerror.h) about files of which it reads all pixels. Its other warnings tell of lost pixels.
_HARMLESS = re.compile(
    "extraneous bytes before marker|unknown JFIF revision|Invalid SOS parameters|Unknown Adobe color transform"
    "|Inconsistent progression|bad ICC marker"
)
_RESTARTS, _END, _SCAN = range(0xD0, 0xD8), 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # markers of frame headers; the three left out are tables and an extension
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def read_size(content: bytes) -> tuple[int, int]:
    """Returns height and width in pixels before EXIF orientation. Raises ValueError if no header is found."""
    with contextlib.suppress(KeyError):
        height, width, _, _ = simplejpeg.decode_jpeg_header(content, strict=False)
        return int(height), int(width)
    try:
        simplejpeg.decode_jpeg_header(content)
    except KeyError as error:  # simplejpeg 1.9 lacks a name for 4:4:1, which libjpeg-turbo 3 knows
        raise ValueError("a JPEG with chroma subsampling 4:4:1, which is not read: save it anew as 4:2:0") from error
    except ValueError as error:
        raise ValueError(f"a damaged JPEG, cut short in its header ({error})") from error
    raise ValueError("a damaged JPEG, with a header that makes no sense")


def decode(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    """Returns the picture, RGB uint8 `[H, W, 3]`, without regard to EXIF orientation.

    `size`: its height and width in full, as `read_size` returns them; `shrink`, 1, 2, 4 or 8, divides them, rounded up.
    Raises ValueError with libjpeg's reason if pixels are lost, as in a truncated file. Accepts files of which libjpeg
    only warns, such as those with a few bytes that belong to nothing.
    """
    try:
        return _decode_strictly(content, size, shrink)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
    # libjpeg reports its first warning only: a second one, of lost pixels, may follow a harmless one.
    mended = _mended(content)
    try:
        return _decode_strictly(mended, size, shrink)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
    return _decode_by_pillow(mended, size, shrink)


def _decode_strictly(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    least = {"min_height": -(-size[0] // shrink), "min_width": -(-size[1] // shrink)}
    return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True, min_factor=shrink, **least)


def _decode_by_pillow(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    """Decodes a JPEG with bytes left over after a scan. Pillow still refuses a file that ends too early."""
    try:
        with PIL.Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            picture.draft("RGB", (max(1, size[1] // shrink), max(1, size[0] // shrink)))
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from error


def _mended(content: bytes) -> bytes:
    """Returns the same JPEG without the oddities in its markers of which libjpeg warns.

    Drops bytes between segments, sets the version of JFIF to 1.1, and sets the parameters of scans and of Adobe's
    segment to those that libjpeg assumes in any case.
    """
    parts: list[bytes | bytearray] = [START]
    place, frame, adobe = len(START), None, None
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        code, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if code == _END:
            break
        if code in (0x00, 0x01, 0xFF, *_RESTARTS):  # not the marker of a segment
            place += 1 if code == 0xFF else 2
            continue
        segment = bytearray(content[place : place + 2 + length])
        place += len(segment)
        if segment[4:9] == b"JFIF\0":
            segment[9:11] = b"\1\1"
        elif code == 0xEE and segment[4:9] == b"Adobe" and len(segment) > 15:
            adobe = segment
        elif code in _FRAMES:
            frame = code
            if adobe and adobe[15] > 2 and len(segment) > 9:
                adobe[15] = 2 if segment[9] == 4 else 1
        parts.append(segment)
        if code == _SCAN:
            if frame in _SEQUENTIAL:
                segment[-3:] = b"\0\x3f\0"
            end = _AFTER_SCAN.search(content, place)
            parts.append(content[place : end.start() if end else None])
            place = end.start() if end else len(content)
    return b"".join([*parts, content[place:]] if place >= 0 else parts)
