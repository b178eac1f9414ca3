"""One original picture made ready: cropped, resized by area, encoded; and how alike pictures are."""

import cv2
import numpy as np
import simplejpeg

from stochconv_jax.data import augment, image_io, jpeg

CROPS = ("report", "square")
CROP_ABOVE, CROP_TO = 3048, 2048  # pixels, of the report's rule
VERSION = 1  # of what `prepare` makes of a picture: one more with any change of its pixels
_HASH_SIDE, _HASH_WAVES = 32, 8
# Sides in pixels, and the mean difference in levels of 255 up to which two pictures look the same: in grey, where
# compression spares the detail, and in colour. Of 250 ISIC images, reduced to a third and saved at quality 30, or to an
# eighth at 90, the most is 3.8 and 1.3; of two different ones the least in grey is 6.4, and of two drawn ones that
# differ in their grain alone 4.5.
_GREY_SIDE, _GREY_LEVELS = 128, 4.2
_COLOR_SIDE, _COLOR_LEVELS = 16, 4.0


def crop_box(height: int, width: int, crop: str) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part of a picture that is used, in pixels; centred.

    report: of a picture with a side above 3048, the middle 2048 of each side that is longer (project report, 2021, 4);
    of another, all. square: the largest square. ValueError for other rules.
    """
    if crop == "report":
        limit = CROP_TO if max(height, width) > CROP_ABOVE else max(height, width)
    elif crop == "square":
        limit = min(height, width)
    else:
        raise ValueError(f"config.prepare.crop={crop!r}: choose one of {', '.join(CROPS)}")
    crop_height, crop_width = min(height, limit), min(width, limit)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def prepare(content: bytes, *, size: int, crop: str, quality: int) -> bytes:
    """The JPEG of an encoded picture, cropped and resized by area to `size` x `size` pixels; 4:2:0.

    Under the report's rule a picture that is not square is squeezed into one, as the report did. ValueError if it is
    damaged, or smaller than `size` on a side.
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
    """What the pixels of a prepared picture depend on, beside the settings: this module and the libraries it uses."""
    return {"preparation": str(VERSION), "opencv": cv2.__version__, "simplejpeg": simplejpeg.__version__}


def too_small(height: int, width: int, size: int) -> str:
    """The reason to drop such a picture."""
    return f"{width}x{height} pixels (width x height), smaller than {size} on a side"


def look(content: bytes) -> int:
    """The `look_of` an encoded picture. ValueError if it is damaged."""
    if content.startswith(jpeg.START):
        try:
            reduced = {"min_height": _HASH_SIDE, "min_width": _HASH_SIDE}
            return look_of(simplejpeg.decode_jpeg(content, "GRAY", **reduced)[..., 0])
        except ValueError:  # perhaps of what does no harm
            pass
    return look_of(cv2.cvtColor(image_io.decode(content), cv2.COLOR_RGB2GRAY))


def look_of(grey: np.ndarray) -> int:
    """A 64-bit hash of what a picture, uint8 `[H, W]`, looks like: the signs of its longest waves about their median.

    Pictures that differ in size, compression or brightness differ in few bits.
    """
    small = augment.resize(grey, (_HASH_SIDE, _HASH_SIDE)).astype(np.float32)
    waves = cv2.dct(small)[:_HASH_WAVES, :_HASH_WAVES].ravel()
    return int(np.packbits(waves > np.median(waves[1:])).view(">u8")[0])


def reduced(content: bytes, height: int, width: int) -> np.ndarray:
    """A picture of these sides, decoded at a size that is enough for `same_looks`. ValueError if it is damaged."""
    shrink = next((k for k in (8, 4, 2) if min(height, width) >= 2 * k * _GREY_SIDE), 1)
    return image_io.decode(content, shrink=shrink)


def same_looks(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures are one but for size and compression: nearly the same everywhere at the same small size."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    return _distance(*grey, _GREY_SIDE) <= _GREY_LEVELS and _distance(first, second, _COLOR_SIDE) <= _COLOR_LEVELS


def _distance(first: np.ndarray, second: np.ndarray, side: int) -> float:
    """Mean difference of two pictures, both reduced to `side` or the least of their own sides."""
    side = min(side, *first.shape[:2], *second.shape[:2])
    small = [augment.resize(picture, (side, side)).astype(np.float32) for picture in (first, second)]
    return float(np.abs(small[0] - small[1]).mean())


def alike(looks: np.ndarray, distance: int) -> list[tuple[int, int]]:
    """Pairs of indices into `looks`, uint64 `[N]`, whose hashes differ in at most `distance` bits."""
    pairs = []
    for i in range(len(looks) - 1):
        near = np.flatnonzero(np.bitwise_count(looks[i + 1 :] ^ looks[i]) <= distance)
        pairs += [(i, i + 1 + int(j)) for j in near]
    return pairs
