"""JPEGs: decoded in full or at a fraction of their size, and told whether what libjpeg warns of has cost pixels."""

import contextlib
import io
import re

import numpy as np
import PIL.Image
import simplejpeg

START = b"\xff\xd8"
# What libjpeg says of files all of whose pixels it reads (jerror.h). Its other warnings tell of pixels that are lost.
_HARMLESS = re.compile(
    "extraneous bytes before marker|unknown JFIF revision|Invalid SOS parameters|Unknown Adobe color transform"
    "|Inconsistent progression|bad ICC marker"
)
_RESTARTS, _END, _SCAN = range(0xD0, 0xD8), 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # frame headers; the three are tables and an extension
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def read_size(content: bytes) -> tuple[int, int]:
    """Height and width in pixels as the file lies, whatever its orientation. ValueError where no header is found."""
    with contextlib.suppress(KeyError):
        return simplejpeg.decode_jpeg_header(content, strict=False)[:2]
    try:
        simplejpeg.decode_jpeg_header(content)
    except KeyError as error:  # simplejpeg 1.9 lacks a name for 4:4:1, which libjpeg-turbo 3 knows
        raise ValueError("a JPEG with chroma subsampling 4:4:1, which is not read: save it anew as 4:2:0") from error
    except ValueError as error:
        raise ValueError(f"a damaged JPEG, cut short in its header ({error})") from error
    raise ValueError("a damaged JPEG, with a header that makes no sense")


def decode(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    """The picture as it lies in the file, RGB uint8. `size`: its height and width in full; `shrink` divides them.

    ValueError with libjpeg's reason where pixels are lost, as in a truncated file. What else libjpeg warns of, such as
    a few bytes that belong to nothing, does no harm.
    """
    try:
        return _strictly(content, size, shrink)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
    # libjpeg tells of the first warning alone: behind one that does no harm another may hide that does.
    mended = _mended(content)
    try:
        return _strictly(mended, size, shrink)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
    return _by_pillow(mended, size, shrink)


def _strictly(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    least = {"min_height": -(-size[0] // shrink), "min_width": -(-size[1] // shrink)}
    return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True, min_factor=shrink, **least)


def _by_pillow(content: bytes, size: tuple[int, int], shrink: int) -> np.ndarray:
    """Where bytes are left over after a scan. Pillow tells of a file that ends too early."""
    try:
        with PIL.Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            picture.draft("RGB", (max(1, size[1] // shrink), max(1, size[0] // shrink)))
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from error


def _mended(content: bytes) -> bytes:
    """The same picture without the oddities of its markers.

    Bytes between segments are left out, the version of JFIF becomes 1.1, and the parameters of scans and of Adobe's
    segment become those that libjpeg assumes in any case.
    """
    parts, place, frame, adobe = [START], len(START), None, None
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        code, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if code == _END:
            break
        if code in (0x00, 0x01, 0xFF, *_RESTARTS):  # no segment begins here
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
