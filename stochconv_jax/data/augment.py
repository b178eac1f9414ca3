"""From a decoded picture to the image and the thumbnail that the network sees. One affine warp augments."""

import dataclasses

import cv2
import numpy as np

Size = tuple[int, int]  # height, width in pixels


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of random augmentation.

    `area`: the crop's share of the image's area. `aspect`: its width / height relative to the image's own. `flip`:
    left-right and up-down, each with probability 1/2. `rotation`: degrees, uniform in +-. `brightness`, `contrast`,
    `saturation`: their factor is uniform in 1 +-. `cutout`: share of the image's area that a square hides. `mixup`: the
    parameter of the beta distribution of how much of another image is mixed in, 0 for none.
    """

    area: tuple[float, float] = (0.6, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    rotation: float = 180.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0


def fit(picture: np.ndarray, size: Size) -> np.ndarray:
    """The largest centred rectangle of the shape of `size`, resized to `size` by area: uint8 `[H, W, 3]`.

    ValueError if the picture is smaller than `size` on a side: enlarging would invent the detail that windows look for.
    """
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"{height}x{width} pixels (height x width) is smaller than config.data.image_size, {size[0]}x{size[1]}"
        )
    scale = min(height / size[0], width / size[1])
    crop_height, crop_width = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    crop = picture[top : top + crop_height, left : left + crop_width]
    return resize(crop, size)


def resize(picture: np.ndarray, size: Size) -> np.ndarray:
    """Area resize to `size`: each output pixel is the mean of what it covers."""
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def random_affine(random: np.random.Generator, size: Size, ranges: Augmentation) -> np.ndarray:
    """The map of one augmentation, float64 `[2, 3]`: from output pixel (x, y, 1) to source pixel (x, y).

    Read from the output backwards: about its centre, the output is scaled to the crop's size and flipped; the crop is
    put at its place in the image; and all is turned about the image's centre. Coordinates are those of pixel centres,
    so that the identity of the ranges gives the identity of the map. Source and output have the same `size`.
    """
    height, width = size
    area = random.uniform(*ranges.area)
    # The aspects for which a crop of this area fits into the image: no rejection is needed.
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
    """Bilinear warp by `affine` (see `random_affine`), same size; outside the picture its mirror image."""
    height, width = picture.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV warps four channels faster than three, to the same bits.
    padded = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(padded, affine, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def vary(random: np.random.Generator, picture: np.ndarray, ranges: Augmentation) -> np.ndarray:
    """One augmentation of `picture`, all but mixup; of the same size."""
    affine = random_affine(random, picture.shape[:2], ranges)
    return cut_out(random, recolor(random, warp(picture, affine), ranges), ranges.cutout)


def mixed_share(random: np.random.Generator, mixup: float) -> float:
    """How much of a second image is mixed in, 0..1/2 (Zhang et al., 2018): the first, whose row it is, has the more."""
    share = random.beta(mixup, mixup)
    return min(share, 1 - share)


_GREY = np.array([0.299, 0.587, 0.114])  # of red, green, blue in brightness (ITU-R BT.601)
_HIDDEN = (124, 116, 104)  # RGB; what cutout shows: the mean colour, which normalisation makes zero


def recolor(random: np.random.Generator, picture: np.ndarray, ranges: Augmentation) -> np.ndarray:
    """`picture` with other brightness, contrast (about middle grey) and saturation: one matrix, rounded once."""
    if not (ranges.brightness or ranges.contrast or ranges.saturation):
        return picture
    spans = np.array([ranges.brightness, ranges.contrast, ranges.saturation])
    brightness, contrast, saturation = 1 + random.uniform(-1, 1, 3) * spans
    linear = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    offset = np.full((3, 1), 127.5 * (1 - contrast))
    return cv2.transform(picture, brightness * np.hstack([contrast * linear, offset]))


def cut_out(random: np.random.Generator, picture: np.ndarray, share: float) -> np.ndarray:
    """`picture` with a square of that share of its area hidden (DeVries & Taylor, 2017).

    Its centre is anywhere in the picture, so a part of it may lie outside. Writes into `picture`.
    """
    if share:
        height, width = picture.shape[:2]
        side = np.sqrt(share * height * width)
        top, left = (random.uniform(0, 1, 2) * (height, width) - side / 2).round().astype(int)
        bottom, right = top + round(side), left + round(side)
        picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _HIDDEN
    return picture
