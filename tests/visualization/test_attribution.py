"""Coverage against counting; relevance against another library's regression and for known functions."""

import numpy as np
import pytest
import sklearn.linear_model

from stochconv_jax import metrics
from stochconv_jax.visualization import attribution

WINDOW = (9, 6)


def draw(random, passes, filters, image_size, window_size=WINDOW):
    """Returns windows, int `[P, F, 2]`, uniform over all positions inside the image."""
    limits = [side - length + 1 for side, length in zip(image_size, window_size)]
    return random.integers(0, limits, (passes, filters, 2))


def covering(window, image_size, window_size=WINDOW):
    """Returns which pixels the window covers, bool `[H, W]`."""
    inside = np.zeros(image_size, bool)
    inside[window[0] : window[0] + window_size[0], window[1] : window[1] + window_size[1]] = True
    return inside


def mean_over_covering(function, image_size, window_size=WINDOW):
    """Averages a function of windows, `[tops, lefts]`, over those that cover each pixel, less its overall mean."""
    total, count = np.zeros(image_size), np.zeros(image_size)
    for place, value in np.ndenumerate(function):
        inside = covering(place, image_size, window_size)
        total += value * inside
        count += inside
    return total / count - function.mean()


def test_coverage_is_counted():
    random = np.random.default_rng(0)
    size = (23, 31)
    windows = np.concatenate([draw(random, 1, 12, size)[0], [[0, 0], [14, 25], [14, 0]]])  # and into the corners
    expected = np.zeros(size, int)
    for top, left in windows:
        for row in range(top, top + WINDOW[0]):
            for column in range(left, left + WINDOW[1]):
                expected[row, column] += 1
    found = attribution.coverage(windows, window_size=WINDOW, image_size=size)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_relevance_is_ridge_regression_on_the_pixels_that_each_filter_covers():
    random = np.random.default_rng(0)
    passes, filters, size, window = 14, 2, (11, 9), (4, 3)
    windows = draw(random, passes, filters, size, window)
    predictions = random.normal(size=passes) + windows[:, 0, 0] - 0.5 * windows[:, 1, 1]
    covered = np.array([[covering(w, size, window) for w in row] for row in windows], float) / np.sqrt(np.prod(window))
    flat = covered.reshape(passes, -1)
    middle = flat - flat.mean(axis=0)
    best = None
    for penalty in attribution.PENALTIES * (middle**2).sum() / passes:
        model = sklearn.linear_model.Ridge(alpha=penalty, solver="svd", tol=1e-12)
        missed, naive = [], []
        for left_out in range(passes):
            others = np.arange(passes) != left_out
            model.fit(flat[others], predictions[others])
            missed.append(predictions[left_out] - model.predict(flat[left_out : left_out + 1])[0])
            naive.append(predictions[left_out] - predictions[others].mean())
        explained = 1 - np.square(missed).sum() / np.square(naive).sum()
        if best is None or explained > best[0]:
            pixels = model.fit(flat, predictions).coef_.reshape(filters, *size).sum(axis=0) / np.sqrt(np.prod(window))
            best = explained, pixels
    explained, pixels = best
    function = np.array(
        [
            [pixels[covering((top, left), size, window)].sum() for left in range(size[1] - window[1] + 1)]
            for top in range(size[0] - window[0] + 1)
        ]
    )
    found = attribution.relevance(windows, predictions, window_size=window, image_size=size)
    np.testing.assert_allclose(found.explained, explained, rtol=1e-6)
    expected = mean_over_covering(function, size, window)
    np.testing.assert_allclose(found.map, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("corner", [(0.2, 0.25), (0.8, 0.3), (0.25, 0.75)])
def test_a_known_function_of_places_is_found_where_it_is(corner):
    random = np.random.default_rng(0)
    size, filters, passes = (40, 48), 4, 300
    limits = [side - length for side, length in zip(size, WINDOW)]
    tops, lefts = np.meshgrid(*[np.linspace(0, 1, limit + 1) for limit in limits], indexing="ij")
    bump = np.exp(-((tops - corner[0]) ** 2 + (lefts - corner[1]) ** 2) / 0.05)
    functions = [strength * bump for strength in (2.0, 1.0, 0.5, -0.3)]  # a filter may count against the others
    windows = draw(random, passes, filters, size)
    predictions = 5 + sum(f[windows[:, n, 0], windows[:, n, 1]] for n, f in enumerate(functions))
    predictions += random.normal(scale=0.2, size=passes)
    found = attribution.relevance(windows, predictions, window_size=WINDOW, image_size=size)
    expected = mean_over_covering(sum(functions), size)

    def agreement(mapped):
        return np.corrcoef(mapped.ravel(), expected.ravel())[0, 1]

    assert agreement(found.map) > 0.9 and found.explained > 0.45
    # The ridge shrinks the map: to 0.8 here, with a standard deviation of 0.05 from draw to draw.
    assert 0.5 < (found.map * expected).sum() / (expected**2).sum() < 1.1
    wrong = [found.map[::-1], found.map[:, ::-1], found.map[::-1, ::-1], -found.map]
    wrong += [np.roll(found.map, step, axis) for axis in (0, 1) for step in (-WINDOW[axis], WINDOW[axis])]
    assert max(map(agreement, wrong)) < agreement(found.map) - 0.04


def test_predictions_that_owe_nothing_to_places_are_not_explained():
    random = np.random.default_rng(0)
    windows = draw(random, 200, 3, (40, 48))
    found = attribution.relevance(windows, random.normal(size=200), window_size=WINDOW, image_size=(40, 48))
    assert found.explained < 0.4
    same = attribution.relevance(windows, np.full(200, 3.0), window_size=WINDOW, image_size=(40, 48))
    assert not same.map.any() and np.isnan(same.explained)
    nowhere_else = attribution.relevance(windows * 0, random.normal(size=200), window_size=WINDOW, image_size=WINDOW)
    assert not nowhere_else.map.any() and np.isnan(nowhere_else.explained)
    with pytest.raises(ValueError, match="7 passes are too few"):
        attribution.relevance(windows[:7], np.arange(7.0), window_size=WINDOW, image_size=(40, 48))


def test_log_odds_are_those_of_the_probability():
    logits = np.random.default_rng(0).normal(size=(5, 3), scale=2)
    logits[:, 2] += 20
    number, odds = attribution.log_odds(logits)
    p = np.exp(metrics.log_probabilities(logits))[:, 2]
    assert number == 2
    np.testing.assert_allclose(odds, np.log(p) - np.log(1 - p), atol=1e-4)
    number, odds = attribution.log_odds(logits[:, :1])
    assert number == 1
    np.testing.assert_allclose(odds, logits[:, 0], rtol=1e-12)
