"""Drawn pictures that look like skin lesions, whose class lies in fine texture only.

They are made to show one effect. Inside the lesion is a net, a lattice of a few pixels' period: in class 1 a dark net
around light dots and in class 0 its negative, a light net around dark dots. A texture and its negative have the same
contrast and the same energy at every frequency and in every direction. So what little of it passes the area resize to
a thumbnail has them too, and its shape, which alone tells the classes apart, is buried in the grain of the picture.
This holds where five or more pixels of a side become one; a larger thumbnail begins to show the net itself. Buried is
not destroyed: variances, gradients and moments of the thumbnail are at chance, but a detector that is told the net's
form and tries every period and direction still tells many pairs apart (ROC AUC 0.66 to 0.85 by the thumbnail's size).

(Stripes against noise of the same periods would not do: a resize by area passes more of a wave along the diagonal than
along the axes, so that the energy left in the thumbnail tells stripes from noise.)
"""

import cv2
import numpy as np

from stochconv_jax.data.augment import Size

DRAW = 3  # random stream
PERIODS = (3.5, 4.5)  # pixels
CONTRAST = 20.0  # standard deviation of the texture, grey levels of 255
GRAIN = 8.0  # standard deviation of the grain, grey levels
CELL = 5  # pixels; all but the texture and the hairs is smooth, and drawn on a grid of such cells


class SyntheticSource:
    """`size` drawn images of `image_size`; image i is a function of (seed, i) and is of class i mod 2."""

    def __init__(self, *, size: int, image_size: Size, seed: int):
        self.image_size, self.seed = image_size, seed
        self.names = [f"synthetic_{index:06d}" for index in range(size)]
        self.labels = (np.arange(size) % 2).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`; the image is drawn whole."""
        del limits
        random = self._random(index)
        lesion = _lesion(random, self.image_size)
        picture = _enlarge(_colors(random, lesion), self.image_size)
        texture = _texture(random, self.image_size, light_dots=bool(self.labels[index]))
        texture *= CONTRAST * _enlarge(lesion, self.image_size)
        picture += texture[..., None]
        return _hairs(random, np.clip(picture, 0, 255, out=picture).astype(np.uint8))

    def mask(self, index: int) -> np.ndarray:
        """Where the lesion of image `index` is: bool `[H, W]`."""
        return _enlarge(_lesion(self._random(index), self.image_size), self.image_size) > 0.5

    def _random(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, DRAW, index])


def _lesion(random: np.random.Generator, size: Size) -> np.ndarray:
    """How much of each cell is lesion, float64 0..1 `[down, across]`: an irregular disc with a soft border."""
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
    """Skin with the lesion on it, shaded, mottled and grained, without texture: float64 `[*lesion.shape, 3]`.

    The pigment is light enough for the texture to stay clear of black, where it would differ from its negative.
    """
    skin = np.array([214, 168, 146]) + random.normal(0, 7) + random.normal(0, 4, 3)
    pigment = np.array([138, 94, 80]) + random.normal(0, 7) + random.normal(0, 4, 3)
    shade = _enlarge(random.normal(0, 5, (4, 4)), lesion.shape)
    mottle = _enlarge(random.normal(0, 7, (9, 9)), lesion.shape) * lesion
    grain = random.normal(0, GRAIN, lesion.shape)
    return skin + lesion[..., None] * (pigment - skin) + (shade + mottle + grain)[..., None]


def _texture(random: np.random.Generator, size: Size, *, light_dots: bool) -> np.ndarray:
    """Net and dots of mean 0 and variance 1, float32 `[H, W]`; with `light_dots` or, its negative, dark ones.

    Three plane waves, 120 degrees apart and with phases that add up to zero, meet in light dots on a triangular grid.
    A plane wave is a sum of two products of a function of x and one of y, so all of them are one matrix product.
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
    # Not NumPy's product: its threads in each of several workers get in each other's way.
    return cv2.gemm(left, right, sign * np.sqrt(2 / 3), None, 0, flags=cv2.GEMM_2_T)


def _hairs(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Up to four dark, long, gently bent hairs; they may run out of the picture. Draws into `picture`."""
    height, width = picture.shape[:2]
    t = np.linspace(-1, 1, 24)[:, None]
    for _ in range(random.integers(0, 5)):
        middle = random.uniform(0.1, 0.9, 2) * [width, height]
        angle, half = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.5) * min(height, width)
        along, across = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        # Its middle lies aside by a sixth of its length at most: bent further it would look like a paper clip.
        curve = middle + half * (t * along + random.uniform(0, 1 / 3) * t**2 * across)
        points = np.round(curve * 16).astype(np.int32).reshape(-1, 1, 2)
        color = random.integers(30, 70, 3).tolist()
        cv2.polylines(picture, [points], False, color, max(1, height // 340), cv2.LINE_AA, 4)
    return picture


def _enlarge(values: np.ndarray, size: Size) -> np.ndarray:
    """float32, smoothly interpolated to `size`."""
    return cv2.resize(values.astype(np.float32), tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
