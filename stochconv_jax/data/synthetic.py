"""Drawn pictures that look like skin lesions, whose class lies in fine texture only.

They are made to show one effect: class 0 has isotropic and class 1 oriented texture inside the lesion, both of periods
of 4 to 6 pixels and of the same contrast. Shrunk to a thumbnail by area, both average out to the same grey.
"""
import cv2
import numpy as np

from stochconv_jax.data.augment import Size

DRAW = 3  # random stream
PERIODS = (4.0, 6.0)  # pixels
WAVES = 24
CONTRAST = 24.0  # standard deviation of the texture, grey levels of 255
STRIPE_SPREAD = np.deg2rad(6.0)  # standard deviation of the stripes' directions


class SyntheticSource:
    """`size` drawn images of `image_size`; image i is a function of (seed, i) and is of class i mod 2."""

    def __init__(self, *, size: int, image_size: Size, seed: int):
        self.image_size, self.seed = image_size, seed
        self.names = [f"synthetic_{index:06d}" for index in range(size)]
        self.labels = (np.arange(size) % 2).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        """See `Source.read`."""
        random = np.random.default_rng([self.seed, DRAW, index])
        lesion = _lesion(random, self.image_size)
        picture = _blend(random, lesion)
        texture = _texture(random, self.image_size, oriented=bool(self.labels[index]))
        texture *= CONTRAST * lesion
        picture += texture[..., None]
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        return _hairs(random, picture)

    def mask(self, index: int) -> np.ndarray:
        """Where the lesion of image `index` is: bool `[H, W]`."""
        return _lesion(np.random.default_rng([self.seed, DRAW, index]), self.image_size) > 0.5


def _lesion(random: np.random.Generator, size: Size) -> np.ndarray:
    """How much of each pixel is lesion, float32 0..1 `[H, W]`: an irregular disc with a soft border."""
    across = 96
    center = random.uniform(-0.12, 0.12, 2)
    stretch, turn = random.uniform(0.8, 1.25), random.uniform(0, np.pi)
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, across), np.linspace(-0.5, 0.5, across), indexing="ij")
    x, y = x - center[0], y - center[1]
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle, radius = np.arctan2(v, u), np.hypot(u * stretch, v / stretch)
    border = random.uniform(0.27, 0.36) * np.ones_like(angle)
    for k in range(2, 7):
        border += random.normal(0, 0.035 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi))
    soft = 1 / (1 + np.exp(-(border - radius) / 0.012))
    return _enlarge(soft, size)


def _blend(random: np.random.Generator, lesion: np.ndarray) -> np.ndarray:
    """Skin with the lesion on it, without texture: float32 `[H, W, 3]`."""
    skin = np.array([214, 168, 146]) + random.normal(0, 8, 3)
    pigment = np.array([122, 78, 62]) + random.normal(0, 10, 3)
    shade = _enlarge(random.normal(0, 5, (4, 4)), lesion.shape)
    mottle = _enlarge(random.normal(0, 9, (9, 9)), lesion.shape) * lesion
    picture = skin.astype(np.float32) + lesion[..., None] * (pigment - skin).astype(np.float32)
    picture += (shade + mottle)[..., None]
    return picture


def _texture(random: np.random.Generator, size: Size, *, oriented: bool) -> np.ndarray:
    """A sum of plane waves of mean 0 and variance 1, float32 `[H, W]`; their directions alone tell the classes apart.

    A plane wave is a sum of two products of a function of x and one of y, so all of them are one matrix product.
    """
    frequency = 2 * np.pi / random.uniform(*PERIODS, WAVES)
    spread = random.normal(0, STRIPE_SPREAD, WAVES), random.uniform(0, np.pi, WAVES)
    direction = random.uniform(0, np.pi) + spread[0 if oriented else 1]
    phase = random.uniform(0, 2 * np.pi, WAVES)
    along_y = np.arange(size[0])[:, None] * (frequency * np.sin(direction)) + phase
    along_x = np.arange(size[1])[:, None] * (frequency * np.cos(direction))
    left = np.concatenate([np.cos(along_y), -np.sin(along_y)], axis=1).astype(np.float32)
    right = np.concatenate([np.cos(along_x), np.sin(along_x)], axis=1).astype(np.float32)
    return left @ right.T * np.float32(np.sqrt(2 / WAVES))


def _hairs(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Up to four dark curved hairs across the picture."""
    height, width = picture.shape[:2]
    for _ in range(random.integers(0, 5)):
        ends = random.uniform(0, 1, (3, 2)) * [width, height]
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
        points = np.round(curve * 16).astype(np.int32).reshape(-1, 1, 2)
        color = random.integers(30, 70, 3).tolist()
        cv2.polylines(picture, [points], False, color, max(1, height // 340), cv2.LINE_AA, 4)
    return picture


def _enlarge(values: np.ndarray, size: Size) -> np.ndarray:
    return cv2.resize(values.astype(np.float32), tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
