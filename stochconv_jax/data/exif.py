"""EXIF's orientation: how a picture that lies in a file is turned upright."""

import contextlib
import re
import struct

import numpy as np

_EXIF = b"Exif\0\0"
# EXIF's orientations (JEITA CP-3451, tag 0x0112) as transposition, then turns by 90 degrees against the clock.
ORIENTATION = 0x0112
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")
_TURNS = {2: (True, 3), 3: (False, 2), 4: (True, 1), 5: (True, 0), 6: (False, 3), 7: (True, 2), 8: (False, 1)}
SIDEWAYS = (5, 6, 7, 8)


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """`picture`, uint8 `[H, W, 3]`, turned and mirrored as its orientation, 1 to 8, says; others are upright."""
    if orientation not in _TURNS:
        return picture
    transposed, turns = _TURNS[orientation]
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(np.rot90(picture, turns))


def orientation(content: bytes) -> int:
    """EXIF's orientation of a JPEG, else XMP's; 1, upright, if it has none or they are damaged.

    Not Pillow's reader: that one warns of damage without naming the file.
    """
    start = content.find(_EXIF, 0, 65536) + len(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(content[start : start + 2])
    if start >= len(_EXIF) and order is not None:
        with contextlib.suppress(struct.error):
            (directory,) = struct.unpack_from(order + "I", content, start + 4)
            (count,) = struct.unpack_from(order + "H", content, start + directory)
            for entry in range(count):
                place = start + directory + 2 + 12 * entry
                tag, _, _, orientation = struct.unpack_from(order + "HHIH", content, place)
                if tag == ORIENTATION:
                    return orientation
    place = content.find(b"tiff:Orientation", 0, 3 * 65536)
    found = place >= 0 and _XMP.match(content, place)
    return int(found[1]) if found else 1
