"""Turns a decoded picture into the image and the thumbnail that the network sees, with random augmentation."""

import dataclasses

import cv2
import numpy as np
import PIL.Image
from PIL import ImageEnhance, ImageOps

from stochconv_jax.data.image_io import check_least

Size = tuple[int, int]  # height, width in pixels


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of random augmentation.

    `area`: the crop's share of the image's area, (least, most). `aspect`: the crop's width / height relative to the
    image's own, (least, most). `flip`: left-right and up-down, each with probability 1/2. `rotation`: degrees, uniform
    in +-rotation. `brightness`, `contrast`, `saturation`: each a factor, uniform in 1 +- the value. `color_ops`: the
    strength of `apply_color_ops`. `cutout`: the share of the image's area that a square hides. `mixup`: the parameter
    of the beta distribution from which the share of another image is drawn, 0 for no mixup.
    """

    area: tuple[float, float] = (0.6, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    rotation: float = 180.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    color_ops: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0


UNCHANGED = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False, rotation=0.0)


def fit(picture: np.ndarray, size: Size) -> np.ndarray:
    """Returns the largest centred crop with the aspect ratio of `size`, resized to `size` by area: uint8 `[H, W, 3]`.

    Raises ValueError if the picture is smaller than `size` on a side: enlarging would invent the detail that windows
    are for.
    """
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    check_least((height, width), size)
    scale = min(height / size[0], width / size[1])
    crop_height, crop_width = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    crop = picture[top : top + crop_height, left : left + crop_width]
    return resize(crop, size)


def resize(picture: np.ndarray, size: Size) -> np.ndarray:
    """Returns `picture` resized to `size` by area: each output pixel is the mean of what it covers."""
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def random_affine(random: np.random.Generator, size: Size, ranges: Augmentation) -> np.ndarray:
    """Draws the affine map of one augmentation, float64 `[2, 3]`: from output pixel (x, y, 1) to source pixel (x, y).

    The map first scales the output to the crop's size and flips it, about its centre; then moves it to the crop's place
    in the image; then turns it about the image's centre. Coordinates are of pixel centres, so that ranges that change
    nothing give the identity. Source and output have the same `size`.
    """
    height, width = size
    area = random.uniform(*ranges.area)
    # Only aspect ratios with which a crop of this area fits into the image, so that no draw must be rejected.
    low, high = max(np.log(ranges.aspect[0]), np.log(area)), min(np.log(ranges.aspect[1]), np.log(1 / area))
    aspect = np.exp(random.uniform(low, high))
    scale = np.array([np.sqrt(area * aspect), np.sqrt(area / aspect)])
    center = np.array([width, height]) / 2
    shift = (random.uniform(-1, 1, 2) * (1 - scale)) * center
    angle = np.deg2rad(random.uniform(-1, 1) * ranges.rotation)
    flips = random.choice([-1.0, 1.0], 2) if ranges.flip else np.ones(2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag(scale * flips)
    offset = turn @ shift + center - linear @ center
    # Pixel (i, j) has its centre at (i + 1/2, j + 1/2).
    return np.column_stack([linear, offset + linear @ [0.5, 0.5] - 0.5])


def warp(picture: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns `picture` warped bilinearly by `affine`, see `random_affine`; mirrored outside, and of the same size."""
    height, width = picture.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV warps four channels faster than three, to the same bits.
    padded = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(padded, affine, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def apply(random: np.random.Generator, picture: np.ndarray, ranges: Augmentation) -> np.ndarray:
    """Returns `picture` with one random augmentation, except mixup, in the same size."""
    affine = random_affine(random, picture.shape[:2], ranges)
    colored = apply_color_ops(random, recolor(random, warp(picture, affine), ranges), ranges.color_ops)
    return cut_out(random, colored, ranges.cutout)


def mixed_share(random: np.random.Generator, mixup: float) -> float:
    """Draws the share of the second image in mixup (Zhang et al., 2018), 0..1/2: the first keeps the larger share."""
    share = random.beta(mixup, mixup)
    return min(share, 1 - share)


_GREY = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in brightness (ITU-R BT.601)
_HIDDEN = (124, 116, 104)  # RGB of what cutout hides: the mean colour, which normalisation makes zero


def recolor(random: np.random.Generator, picture: np.ndarray, ranges: Augmentation) -> np.ndarray:
    """Returns `picture` with random brightness, contrast (about middle grey) and saturation, rounded once."""
    if not (ranges.brightness or ranges.contrast or ranges.saturation):
        return picture
    spans = np.array([ranges.brightness, ranges.contrast, ranges.saturation])
    brightness, contrast, saturation = 1 + random.uniform(-1, 1, 3) * spans
    linear = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    offset = np.full((3, 1), 127.5 * (1 - contrast))
    return cv2.transform(picture, brightness * np.hstack([contrast * linear, offset]))


# From an image and a strength s, -1..1, to an image; at 0 the last six change nothing.
_COLOR_OPS = (
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageOps.equalize(image),
    lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
)


def apply_color_ops(random: np.random.Generator, picture: np.ndarray, strength: float) -> np.ndarray:
    """Applies two random colour operations of Pillow, those of RandAugment (Cubuk et al., 2020), one after the other.

    `strength`: 0..1, with a random sign for the operations that have one; 0 leaves the picture as it is.
    """
    if not strength:
        return picture
    image = PIL.Image.fromarray(picture)
    for index in random.integers(len(_COLOR_OPS), size=2):
        image = _COLOR_OPS[index](image, random.choice([-strength, strength]))
    return np.array(image)


def cut_out(random: np.random.Generator, picture: np.ndarray, share: float) -> np.ndarray:
    """Hides a random square of that share of the area (DeVries & Taylor, 2017); writes into `picture` and returns it.

    The square's centre is anywhere in the picture, so that a part of the square may lie outside.
    """
    if share:
        height, width = picture.shape[:2]
        side = np.sqrt(share * height * width)
        top, left = (random.uniform(0, 1, 2) * (height, width) - side / 2).round().astype(int)
        bottom, right = top + round(side), left + round(side)
        picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _HIDDEN
    return picture
