"""Computes from windows how often each pixel of an image is covered, and how relevant it is for a prediction.

A window is given by (top, left) in pixels. All windows have the `window_size` (height, width) and lie within an image
of `image_size` (height, width).
"""

from typing import NamedTuple

import numpy as np

from stochconv_jax import metrics

Size = tuple[int, int]
LEAST_PASSES = 8
# Ridge penalties that are tried, relative to the mean eigenvalue of the centred kernel.
PENALTIES = 10.0 ** np.arange(-3, 3.5, 0.5)


def coverage(windows: np.ndarray, *, window_size: Size, image_size: Size) -> np.ndarray:
    """Returns how many of the windows `[N, 2]` cover each pixel: int64 `[H, W]`."""
    tops, lefts = (_inside(windows[:, axis], window_size[axis], image_size[axis]) for axis in (0, 1))
    return np.rint(tops.T @ lefts).astype(np.int64)  # float64 products are fast, and exact for such numbers


class Relevance(NamedTuple):
    """The result of `relevance`: a map, float64 `[H, W]`, and how well it explains the predictions.

    `explained` is the share of the predictions' variance that is explained in passes that were left out of the fit. It
    is negative if the mean of the other passes would have predicted better, and NaN if predictions or windows do not
    vary. The ridge penalty is chosen by it, so it is slightly too high.
    """

    map: np.ndarray
    explained: float


def relevance(windows: np.ndarray, predictions: np.ndarray, *, window_size: Size, image_size: Size) -> Relevance:
    """Estimates how a prediction depends on the pixels that the windows cover, from several passes over one image.

    The method resembles RISE (Petsiuk et al., 2018), with the windows of the passes instead of random masks. The
    prediction of a pass is modelled as a constant plus a smooth function of the window's position for each filter,
    which is fitted by kernel ridge regression. The kernel is the share of their area that two windows of a filter have
    in common; this equals ridge regression on the pixels that each filter covers. All filters are fitted together, so
    that the effect of one is no noise in the estimates of the others. The penalty is the one with the smallest error in
    leave-one-out cross-validation.

    Args:
      windows: int [P, F, 2], of P passes and F filters.
      predictions: float [P], preferably log-odds, because their effects are more nearly additive than probabilities'.

    Returns:
      A map in units of the predictions, and the explained share. The map at a pixel is the difference between a pass in
      which the window of every filter covers the pixel and a mean pass, averaged over the positions of the windows that
      cover it, and shrunk by the penalty.

    Raises:
      ValueError: fewer than `LEAST_PASSES` passes.
    """
    passes, filters, _ = windows.shape
    if passes < LEAST_PASSES:
        raise ValueError(f"{passes} passes are too few for a relevance map: expected {LEAST_PASSES} or more")
    predictions = np.asarray(predictions, np.float64)
    if np.ptp(predictions) == 0 or not np.ptp(windows, axis=0).any():
        return Relevance(np.zeros(image_size), float("nan"))
    kernel = np.zeros((passes, passes))
    for number in range(filters):
        vertical, horizontal = (
            _overlap(windows[:, number, axis], windows[:, number, axis], window_size[axis]) for axis in (0, 1)
        )
        kernel += vertical * horizontal
    weights, explained = _ridge(kernel, predictions)
    # The sum of the fitted functions over the filters is separable: a sum of products of a function of y and one of x.
    mean_overlaps, pixel_overlaps = [], []
    for axis in (0, 1):
        positions = np.arange(image_size[axis] - window_size[axis] + 1)
        overlap = _overlap(windows[..., axis].ravel(), positions, window_size[axis])
        mean_overlaps.append(overlap.mean(axis=1))
        pixel_overlaps.append(_mean_over_covering(overlap, window_size[axis], image_size[axis]))
    weights = np.repeat(weights, filters)
    mean_pass = (weights * mean_overlaps[0] * mean_overlaps[1]).sum()
    return Relevance((pixel_overlaps[0] * weights[:, None]).T @ pixel_overlaps[1] - mean_pass, explained)


def log_odds(logits: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns a class and its log-odds in each pass `[P]`, from logits `[P, K]`.

    The class is 1 for two classes (K is 1 or 2), else the one of the highest mean probability.
    """
    log_p = metrics.log_probabilities(logits)
    number = 1 if log_p.shape[1] == 2 else int(np.exp(log_p).mean(axis=0).argmax())
    others = np.logaddexp.reduce(np.delete(log_p, number, axis=1), axis=1)
    return number, log_p[:, number] - others


def _inside(starts: np.ndarray, length: int, side: int) -> np.ndarray:
    """Returns 1.0 where an interval of `length` from `starts[n]` covers a pixel of `side`, else 0.0: `[N, side]`."""
    pixels = np.arange(side)
    return ((pixels >= starts[:, None]) & (pixels < starts[:, None] + length)).astype(np.float64)


def _overlap(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """Returns the common share of intervals of `length` that begin at `first[n]` and at `second[m]`: `[N, M]`."""
    return np.clip(length - np.abs(first[:, None] - second), 0, None) / length


def _mean_over_covering(values: np.ndarray, length: int, side: int) -> np.ndarray:
    """Averages `values`, by start of an interval, `[N, side - length + 1]`, over the intervals that cover each pixel.

    Returns `[N, side]`.
    """
    pixels, sums = np.arange(side), np.pad(values.cumsum(axis=1), ((0, 0), (1, 0)))
    first, after = np.maximum(pixels - length + 1, 0), np.minimum(pixels, side - length) + 1
    return (sums[:, after] - sums[:, first]) / (after - first)


def _ridge(kernel: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Fits kernel ridge regression with an intercept to `y` `[P]`, with the best of `PENALTIES`.

    The best penalty has the smallest squared error in leave-one-out cross-validation, which the hat matrix gives
    without further fits. Returns the dual weights `[P]`, which add up to zero, and the share of the variance that is
    explained in this cross-validation.
    """
    number = len(y)
    center = np.eye(number) - 1 / number
    values, vectors = np.linalg.eigh(center @ kernel @ center)
    values = np.clip(values, 0, None)

    def left_out_error(penalty: float) -> float:
        hat = (vectors * (values / (values + penalty))) @ vectors.T + 1 / number
        return (((y - hat @ y) / (1 - np.diag(hat))) ** 2).sum()

    penalty = min(PENALTIES * values.sum() / number, key=left_out_error)
    weights = (vectors / (values + penalty)) @ (vectors.T @ (y - y.mean()))
    error_of_mean = (((y - y.mean()) * number / (number - 1)) ** 2).sum()
    return weights - weights.mean(), float(1 - left_out_error(penalty) / error_of_mean)
