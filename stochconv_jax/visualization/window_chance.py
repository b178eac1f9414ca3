"""The chance that random windows contain a small detail, known exactly from how windows are drawn."""

import numpy as np

from stochconv_jax.ops import Axes
from stochconv_jax.visualization.attribution import Size

SAMPLED = 512  # positions of the detail along an axis that stand for all of them where windows lie on a diagonal


def chance(*, image_size: Size, window_size: Size, detail: int, windows: int, axes: Axes = "independent") -> float:
    """Returns the chance that at least one of `windows` independent windows contains the whole detail.

    The detail is a square of `detail` pixels that lies anywhere in the image with equal chance. Sizes are (height,
    width) in pixels; `axes` is that of `ops.sample_windows`. With 'diagonal' the result is exact to about 0.001.
    """
    if detail > min(window_size):
        return 0.0
    positions = [image - window + 1 for image, window in zip(image_size, window_size, strict=True)]
    number = positions if axes == "independent" else [max(positions)] * 2  # equally likely draws along each axis
    first, last = zip(
        *(
            _draws(np.arange(draws) * count // draws, window, np.arange(image - detail + 1), detail)
            for draws, count, image, window in zip(number, positions, image_size, window_size)
        )
    )
    if axes == "independent":
        shares = [np.unique((b - a) / draws, return_counts=True) for a, b, draws in zip(first, last, number)]
        contained = shares[0][0][:, None] * shares[1][0]
        weights = shares[0][1][:, None] * shares[1][1]
    else:
        (top, left), (bottom, right) = map(_some, first), map(_some, last)
        contained = np.minimum(bottom[:, None], right) - np.maximum(top[:, None], left)
        contained, weights = np.maximum(contained, 0) / number[0], np.ones_like(contained)
    return float(1 - ((1 - contained) ** windows * weights).sum() / weights.sum())


def _draws(starts: np.ndarray, window: int, details: np.ndarray, detail: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for details from each of the pixels `details` on, the first draw that contains them and the one after.

    `starts`: the first pixel of the window along an axis for each draw, in increasing order.
    """
    return np.searchsorted(starts, details + detail - window), np.searchsorted(starts, details, side="right")


def _some(values: np.ndarray) -> np.ndarray:
    return values[np.linspace(0, len(values) - 1, min(SAMPLED, len(values))).round().astype(int)]
