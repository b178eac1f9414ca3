"""What windows say of the places of an image: how many cover each, and what a prediction owes to it.

Windows are (top, left) in pixels of rectangles of `window_size` (height, width) inside an image of `image_size`.
"""

from typing import NamedTuple

import numpy as np

from stochconv_jax import metrics

Size = tuple[int, int]
LEAST_PASSES = 8
# What the ridge is tried at, relative to the mean square of the passes' coverage.
PENALTIES = 10.0 ** np.arange(-3, 3.5, 0.5)


def coverage(windows: np.ndarray, *, window_size: Size, image_size: Size) -> np.ndarray:
    """How many of the windows `[N, 2]` lie over each pixel: int64 `[H, W]`."""
    tops, lefts = (_inside(windows[:, axis], window_size[axis], image_size[axis]) for axis in (0, 1))
    return np.rint(tops.T @ lefts).astype(np.int64)  # exact in float64, whose products are fast


class Relevance(NamedTuple):
    """`map`: float64 `[H, W]`, see `relevance`.

    `explained`: share of the predictions' variance that the places explain in passes left out of the fit; below zero
    where the mean of the other passes would have predicted better, NaN where predictions or windows do not vary. The
    ridge was chosen by it, so it is a little too high.
    """

    map: np.ndarray
    explained: float


def relevance(windows: np.ndarray, predictions: np.ndarray, *, window_size: Size, image_size: Size) -> Relevance:
    """How a prediction changes with the places that the windows cover, from passes over one image.

    In the manner of RISE (Petsiuk et al., 2018), with the passes' own windows for masks. A pass's prediction is taken
    for a constant plus, for each filter, a smooth function of where its window lies: kernel ridge regression, whose
    kernel is the share of their area that two windows of a filter have in common, which is ridge regression on the
    pixels that each filter covers. Fitting all filters together keeps what one of them did from counting as noise
    against the others. The ridge is the one that predicts passes left out best.

    Args:
      windows: int [P, F, 2], of P passes and F filters.
      predictions: float [P], better log-odds than probabilities: they add up.

    Returns:
      A map in units of the predictions: by how much a pass in which every filter's window covers that place differs
      from a mean pass, on average over the windows that cover the place, shrunk somewhat by the ridge; and how far it
      can be trusted.

    Raises:
      ValueError: fewer than `LEAST_PASSES`.
    """
    passes, filters, _ = windows.shape
    if passes < LEAST_PASSES:
        raise ValueError(f"{passes} passes are too few to tell places apart: at least {LEAST_PASSES}")
    predictions = np.asarray(predictions, np.float64)
    if np.ptp(predictions) == 0 or not np.ptp(windows, axis=0).any():
        return Relevance(np.zeros(image_size), float("nan"))
    similar = np.zeros((passes, passes))
    for number in range(filters):
        vertical, horizontal = (
            _overlap(windows[:, number, axis], windows[:, number, axis], window_size[axis]) for axis in (0, 1)
        )
        similar += vertical * horizontal
    weights, explained = _ridge(similar, predictions)
    # The fitted functions, summed over the filters, are a sum of products of a function of y and one of x.
    at_windows, over_places = [], []
    for axis in (0, 1):
        positions = np.arange(image_size[axis] - window_size[axis] + 1)
        overlap = _overlap(windows[..., axis].ravel(), positions, window_size[axis])
        at_windows.append(overlap.mean(axis=1))
        over_places.append(_mean_over_covering(overlap, window_size[axis], image_size[axis]))
    weights = np.repeat(weights, filters)
    of_a_mean_pass = (weights * at_windows[0] * at_windows[1]).sum()
    return Relevance((over_places[0] * weights[:, None]).T @ over_places[1] - of_a_mean_pass, explained)


def log_odds(logits: np.ndarray) -> tuple[int, np.ndarray]:
    """A class and its log-odds in each pass, `[P]`, from logits `[P, K]`: of class 1 of two, else of the likeliest."""
    log_p = metrics.log_probabilities(logits)
    number = 1 if log_p.shape[1] == 2 else int(np.exp(log_p).mean(axis=0).argmax())
    others = np.logaddexp.reduce(np.delete(log_p, number, axis=1), axis=1)
    return number, log_p[:, number] - others


def _inside(starts: np.ndarray, length: int, side: int) -> np.ndarray:
    """Whether a window from `starts[n]` covers each of `side` pixels: float64 `[N, side]`."""
    place = np.arange(side)
    return ((place >= starts[:, None]) & (place < starts[:, None] + length)).astype(np.float64)


def _overlap(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """Share of their length that intervals of `length` from `first[n]` and `second[m]` have in common: `[N, M]`."""
    return np.clip(length - np.abs(first[:, None] - second), 0, None) / length


def _mean_over_covering(values: np.ndarray, length: int, side: int) -> np.ndarray:
    """Of `values` by where a window begins, `[N, side - length + 1]`, the mean over windows covering each pixel."""
    place, sums = np.arange(side), np.pad(values.cumsum(axis=1), ((0, 0), (1, 0)))
    first, after = np.maximum(place - length + 1, 0), np.minimum(place, side - length) + 1
    return (sums[:, after] - sums[:, first]) / (after - first)


def _ridge(kernel: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Dual weights `[P]`, adding up to zero, of ridge regression with a constant, and the share explained.

    Of `PENALTIES` the one with the least squared error on points left out one by one, which the hat matrix gives.
    """
    number = len(y)
    center = np.eye(number) - 1 / number
    values, vectors = np.linalg.eigh(center @ kernel @ center)
    values = np.clip(values, 0, None)
    best = None
    for penalty in PENALTIES * values.sum() / number:
        hat = (vectors * (values / (values + penalty))) @ vectors.T + 1 / number
        error = (((y - hat @ y) / (1 - np.diag(hat))) ** 2).sum()
        if best is None or error < best[0]:
            best = error, penalty
    error, penalty = best
    weights = (vectors / (values + penalty)) @ (vectors.T @ (y - y.mean()))
    alone = (((y - y.mean()) * number / (number - 1)) ** 2).sum()
    return weights - weights.mean(), float(1 - error / alone)
