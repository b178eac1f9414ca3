"""Prepares one picture, by crop, area resize and JPEG encoding, and tells whether pictures look the same."""

import cv2
import numpy as np
import simplejpeg

from stochconv_jax.data import augment, image_io, jpeg

CROPS = ("report", "square")
CROP_ABOVE, CROP_TO = 3048, 2048  # pixels, of the report's rule
VERSION = 1  # of `prepare`: to be increased with any change of the pixels that it makes
_HASH_SIDE, _HASH_FREQUENCIES = 32, 8
# Sides in pixels to which two pictures are reduced, and their mean difference, in levels of 255, up to which they are
# the same: in grey, where compression keeps more detail, and in colour. For 250 ISIC images, reduced to a third and
# saved at quality 30, or to an eighth at 90, the largest differences were 3.8 and 1.3. The smallest in grey of two
# different images was 6.4, and of two drawn ones that differ only in their grain 4.5.
_GREY_SIDE, _GREY_LEVELS = 128, 4.2
_COLOR_SIDE, _COLOR_LEVELS = 16, 4.0


def crop_box(height: int, width: int, crop: str) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of the centred part of a picture that is used, in pixels.

    `crop`: 'report' takes the middle 2048 of each longer side of a picture that has a side above 3048, and all of any
    other picture (project report, 2021, section 4); 'square' takes the largest square. Raises ValueError for others.
    """
    if crop == "report":
        limit = CROP_TO if max(height, width) > CROP_ABOVE else max(height, width)
    elif crop == "square":
        limit = min(height, width)
    else:
        raise ValueError(f"crop={crop!r}: choose one of {', '.join(CROPS)}")
    crop_height, crop_width = min(height, limit), min(width, limit)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def prepare(content: bytes, *, size: int, crop: str, quality: int) -> bytes:
    """Returns an encoded picture as a JPEG with 4:2:0 subsampling, cropped and area-resized to `size` x `size` pixels.

    With the crop 'report' a picture that is not square is squeezed into a square, as the report did. Raises ValueError
    if the picture is damaged, or smaller than `size` on a side.
    """
    picture = image_io.decode(content)
    height, width = picture.shape[:2]
    if min(height, width) < size:
        raise ValueError(too_small(height, width, size))
    top, left, crop_height, crop_width = crop_box(height, width, crop)
    picture = picture[top : top + crop_height, left : left + crop_width]
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(augment.resize(picture, (size, size))),
        quality=quality,
        colorspace="RGB",
        colorsubsampling="420",
    )


def versions() -> dict[str, str]:
    """Returns the versions of this module and of the libraries on which the pixels of a prepared picture depend."""
    return {"preparation": str(VERSION), "opencv": cv2.__version__, "simplejpeg": simplejpeg.__version__}


def too_small(height: int, width: int, size: int) -> str:
    """Returns the reason for which a picture smaller than `size` is dropped."""
    return f"{width}x{height} pixels (width x height), smaller than {size} on a side"


def hash_encoded(content: bytes) -> int:
    """Returns the `perceptual_hash` of an encoded picture. Raises ValueError if it is damaged."""
    if content.startswith(jpeg.START):
        try:
            grey = simplejpeg.decode_jpeg(content, "GRAY", min_height=_HASH_SIDE, min_width=_HASH_SIDE)
            return perceptual_hash(grey[..., 0])
        except ValueError:  # `image_io.decode` reads more files, or says what is wrong
            pass
    return perceptual_hash(cv2.cvtColor(image_io.decode(content), cv2.COLOR_RGB2GRAY))


def perceptual_hash(grey: np.ndarray) -> int:
    """Returns the 64-bit perceptual hash (pHash) of a picture, uint8 `[H, W]`.

    The bits say which of the 8x8 lowest frequencies of the picture's cosine transform are above their median. Pictures
    that differ in size, compression or brightness differ in few bits.
    """
    small = augment.resize(grey, (_HASH_SIDE, _HASH_SIDE)).astype(np.float32)
    lowest = cv2.dct(small)[:_HASH_FREQUENCIES, :_HASH_FREQUENCIES].ravel()
    return int(np.packbits(lowest > np.median(lowest[1:])).view(">u8")[0])


def decode_reduced(content: bytes, height: int, width: int) -> np.ndarray:
    """Returns a picture of these sides, decoded at a size that `same_picture` needs. Raises ValueError if damaged."""
    shrink = next((k for k in (8, 4, 2) if min(height, width) >= 2 * k * _GREY_SIDE), 1)
    return image_io.decode(content, shrink=shrink)


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Returns whether two pictures, RGB uint8 `[H, W, 3]`, differ by no more than size and compression make them."""
    first_grey, second_grey = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second))
    return (
        _mean_difference(first_grey, second_grey, _GREY_SIDE) <= _GREY_LEVELS
        and _mean_difference(first, second, _COLOR_SIDE) <= _COLOR_LEVELS
    )


def _mean_difference(first: np.ndarray, second: np.ndarray, side: int) -> float:
    """Returns the mean difference of two pictures, reduced to squares of `side` or of the least of their own sides."""
    side = min(side, *first.shape[:2], *second.shape[:2])
    small = [augment.resize(picture, (side, side)).astype(np.float32) for picture in (first, second)]
    return float(np.abs(small[0] - small[1]).mean())


def similar_hashes(hashes: np.ndarray, distance: int) -> list[tuple[int, int]]:
    """Returns pairs of indices of perceptual hashes, uint64 `[N]`, that differ in at most `distance` bits."""
    pairs = []
    for i in range(len(hashes) - 1):
        near = np.flatnonzero(np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= distance)
        pairs += [(i, i + 1 + int(j)) for j in near]
    return pairs
