"""Reads EXIF's orientation, and turns a picture upright by it."""

import contextlib
import re
import struct

import numpy as np

ORIENTATION = 0x0112  # EXIF's tag (JEITA CP-3451)
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width
_EXIF = b"Exif\0\0"
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")
# By orientation: whether to transpose, then the number of counterclockwise turns by 90 degrees.
_TURNS = {2: (True, 3), 3: (False, 2), 4: (True, 1), 5: (True, 0), 6: (False, 3), 7: (True, 2), 8: (False, 1)}


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Returns `picture`, uint8 `[H, W, 3]`, turned and mirrored by `orientation`, 1..8; other values change nothing."""
    if orientation not in _TURNS:
        return picture
    transposed, turns = _TURNS[orientation]
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(np.rot90(picture, turns))


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns the height and width that a picture of `size` (height, width) has after `upright`."""
    height, width = size
    return (width, height) if orientation in SIDEWAYS else (height, width)


def orientation(content: bytes) -> int:
    """Returns the orientation of a JPEG by its EXIF, else by its XMP; 1, upright, if both are missing or damaged.

    Pillow's reader would do too, in about the same time, but not in a thread beside others: it warns of damaged EXIF
    without naming the file, and refuses large pictures. Both can only be switched off for the whole process.
    """
    start = content.find(_EXIF, 0, 65536) + len(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(content[start : start + 2])
    if start >= len(_EXIF) and order is not None:
        with contextlib.suppress(struct.error):
            (directory,) = struct.unpack_from(order + "I", content, start + 4)
            (count,) = struct.unpack_from(order + "H", content, start + directory)
            for entry in range(count):
                place = start + directory + 2 + 12 * entry
                tag, _, _, value = struct.unpack_from(order + "HHIH", content, place)
                if tag == ORIENTATION:
                    return value
    place = content.find(b"tiff:Orientation", 0, 3 * 65536)
    found = place >= 0 and _XMP.match(content, place)
    return int(found[1]) if found else 1
