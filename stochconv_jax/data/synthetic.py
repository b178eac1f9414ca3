"""Draws pictures that look like skin lesions and whose class shows in a fine texture only.

They show one effect: a network needs full resolution to tell the classes apart. The texture inside the lesion is a net,
a lattice with a period of a few pixels: in class 1 a dark net around light dots, in class 0 its negative, a light net
around dark dots. A texture and its negative have the same contrast, and the same energy at every frequency and in every
direction. The little of it that passes the area resize to a thumbnail has the same energy too, and its shape, the only
difference between the classes, is buried in the picture's grain. This holds if five or more pixels of a side become one
in the thumbnail; larger thumbnails begin to show the net itself. The shape is buried, not destroyed: the thumbnails'
variances, gradients and moments tell the classes apart at chance level only, but a detector that knows the net's form
and tries every period and direction still tells many pairs apart (ROC AUC 0.66 to 0.85, by the thumbnail's size).

Stripes against noise of the same periods would not do: a resize by area passes more of a wave along the diagonal than
along the axes, so that the energy left in the thumbnail would tell stripes from noise.
"""

import cv2
import numpy as np

from stochconv_jax.data.augment import Size
from stochconv_jax.data.random_streams import Stream, generator
from stochconv_jax.data.sources import Source

PERIODS = (3.5, 4.5)  # least and most period of the texture, pixels
CONTRAST = 20.0  # standard deviation of the texture, grey levels of 255
GRAIN = 8.0  # standard deviation of the grain, grey levels
CELL = 5  # side in pixels of the cells of the grid on which all but the texture and the hairs is drawn


class SyntheticSource(Source):
    """`size` drawn images of `image_size`. Image i is a function of (seed, i), and its class is i mod 2."""

    def __init__(self, *, size: int, image_size: Size, seed: int):
        self.image_size, self.seed = image_size, seed
        super().__init__([f"synthetic_{index:06d}" for index in range(size)], np.arange(size) % 2)

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`; draws the image at its full size, whatever the limits."""
        del limits
        random = self._random(index)
        lesion = _lesion(random, self.image_size)
        picture = _enlarge(_colors(random, lesion), self.image_size)
        texture = _texture(random, self.image_size, light_dots=bool(self.labels[index]))
        texture *= CONTRAST * _enlarge(lesion, self.image_size)
        picture += texture[..., None]
        return _hairs(random, np.clip(picture, 0, 255, out=picture).astype(np.uint8))

    def mask(self, index: int) -> np.ndarray:
        """Returns where the lesion of image `index` is, bool `[H, W]`."""
        return _enlarge(_lesion(self._random(index), self.image_size), self.image_size) > 0.5

    def _random(self, index: int) -> np.random.Generator:
        return generator(self.seed, Stream.DRAW, index)


def _lesion(random: np.random.Generator, size: Size) -> np.ndarray:
    """Draws an irregular disc with a soft border: the share of lesion in each cell, float64 0..1 `[rows, columns]`."""
    axes = [np.linspace(-0.5, 0.5, max(48, -(-side // CELL))) - random.uniform(-0.08, 0.08) for side in size]
    y, x = np.meshgrid(*axes, indexing="ij")
    stretch, turn = random.uniform(0.8, 1.25), random.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle, radius = np.arctan2(v, u), np.hypot(u * stretch, v / stretch)
    border = np.full_like(angle, random.uniform(0.32, 0.40))
    for k in range(2, 7):
        border += random.normal(0, 0.035 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi))
    return 1 / (1 + np.exp((radius - border) / 0.012))


def _colors(random: np.random.Generator, lesion: np.ndarray) -> np.ndarray:
    """Draws skin with the lesion on it, shaded, mottled and grained, without texture: float64 `[*lesion.shape, 3]`.

    The pigment is so light that the texture is nowhere cut off at black, where it would differ from its negative.
    """
    skin = np.array([214, 168, 146]) + random.normal(0, 7) + random.normal(0, 4, 3)
    pigment = np.array([138, 94, 80]) + random.normal(0, 7) + random.normal(0, 4, 3)
    shade = _enlarge(random.normal(0, 5, (4, 4)), lesion.shape)
    mottle = _enlarge(random.normal(0, 7, (9, 9)), lesion.shape) * lesion
    grain = random.normal(0, GRAIN, lesion.shape)
    return skin + lesion[..., None] * (pigment - skin) + (shade + mottle + grain)[..., None]


def _texture(random: np.random.Generator, size: Size, *, light_dots: bool) -> np.ndarray:
    """Draws a net around light dots, or its negative, of mean 0 and variance 1: float32 `[H, W]`.

    Three plane waves, 120 degrees apart and with phases that add up to zero, meet in light dots on a triangular grid.
    A plane wave is the sum of two products of a function of x and one of y, so the three are one matrix product.
    """
    frequency = 2 * np.pi / random.uniform(*PERIODS)
    direction = random.uniform(0, np.pi) + np.arange(3) * (2 * np.pi / 3)
    phase = random.uniform(0, 2 * np.pi, 3)
    phase[2] = -phase[0] - phase[1]
    along_y = np.arange(size[0])[:, None] * frequency * np.sin(direction) + phase
    along_x = np.arange(size[1])[:, None] * frequency * np.cos(direction)
    left = np.concatenate([np.cos(along_y), -np.sin(along_y)], axis=1).astype(np.float32)
    right = np.concatenate([np.cos(along_x), np.sin(along_x)], axis=1).astype(np.float32)
    sign = 1 if light_dots else -1
    # OpenCV's product, because the threads of NumPy's in each of several workers would compete for the cores.
    scale = sign * np.sqrt(2 / 3)
    return cv2.gemm(left, right, scale, None, 0, flags=cv2.GEMM_2_T)  # pyright: ignore[reportCallIssue, reportArgumentType]  # the stub lacks None


def _hairs(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Draws up to four dark, long, gently bent hairs into `picture`, which they may leave, and returns it."""
    height, width = picture.shape[:2]
    t = np.linspace(-1, 1, 24)[:, None]
    for _ in range(random.integers(0, 5)):
        middle = random.uniform(0.1, 0.9, 2) * [width, height]
        angle, half = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.5) * min(height, width)
        along, across = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        # The middle is off the line between the ends by at most a sixth of the length: a hair, not a paper clip.
        curve = middle + half * (t * along + random.uniform(0, 1 / 3) * t**2 * across)
        points = np.round(curve * 16).astype(np.int32).reshape(-1, 1, 2)
        color = random.integers(30, 70, 3).tolist()
        cv2.polylines(picture, [points], False, color, max(1, height // 340), cv2.LINE_AA, 4)
    return picture


def _enlarge(values: np.ndarray, size: Size) -> np.ndarray:
    """Returns `values`, float32, smoothly interpolated to `size`."""
    return cv2.resize(values.astype(np.float32), tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
