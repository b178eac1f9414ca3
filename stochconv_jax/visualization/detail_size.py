"""Guesses the size of the detail that decides: the size at which the contrasts of two classes differ most."""

from collections.abc import Sequence

import cv2
import numpy as np
import scipy.stats

LEAST_SIDE = 8  # pixels of the smallest image of the pyramid
SIGNIFICANT = 3.0  # standard errors of a rank sum: about 5 % for the 20 contrasts of an image of 1024 pixels


def contrasts(picture: np.ndarray) -> np.ndarray:
    """Returns the contrasts of a uint8 picture `[H, W, 3]`, float32 `[octaves, 2]`.

    Row k has the mean and the largest absolute difference of brightness that is lost when details of 2^k to 2^(k+1)
    pixels are averaged away.
    """
    grey, rows = picture.mean(axis=2, dtype=np.float32), []
    while min(grey.shape) >= 2 * LEAST_SIDE:
        small = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
        lost = np.abs(grey - cv2.resize(small, grey.shape[::-1], interpolation=cv2.INTER_LINEAR))
        rows.append((lost.mean(), lost.max()))
        grey = small
    return np.array(rows, np.float32).reshape(-1, 2)


def estimate(of_images: Sequence[np.ndarray], labels: np.ndarray) -> int:
    """Returns the size in pixels at which a contrast tells the two classes apart best; 0 if none does significantly.

    `of_images`: the `contrasts` of each image. `labels`: 0 or 1 for each.
    """
    values, positive = np.stack(of_images), labels == 1
    counts = positive.sum(), (~positive).sum()
    if min(counts) < 2 or not values.size:
        return 0
    ranks = scipy.stats.rankdata(values, axis=0)  # equal contrasts share a rank, whatever the order of the images
    difference = np.abs(ranks[positive].mean(axis=0) - ranks[~positive].mean(axis=0))
    # The standard error of `difference` for two samples of one distribution (Mann and Whitney 1947).
    error = len(labels) * np.sqrt((len(labels) + 1) / (12 * counts[0] * counts[1]))
    if difference.max() < SIGNIFICANT * error:
        return 0
    deviation = np.sqrt((values[positive].var(axis=0) + values[~positive].var(axis=0)) / 2) + 1e-9
    effect = np.abs(values[positive].mean(axis=0) - values[~positive].mean(axis=0)) / deviation
    effect[difference < SIGNIFICANT * error] = 0
    return 2 ** (int(effect.max(axis=1).argmax()) + 1)
