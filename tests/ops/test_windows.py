"""Windows are uniform over every position that fits, and an image's windows are its own."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.stats import chisquare

from stochconv_jax.ops import sample_windows, window_size

pytestmark = pytest.mark.smoke
KEY = jax.random.key(7)
SMALL = {"image_size": (12, 10), "window_size": (9, 5), "batch": 4, "features": 3}  # 4 tops, 6 lefts


def draws(number=4000, **changes):
    """Draws the windows of many keys, [number, B or 1, F or 1, 2]."""
    keys = jax.random.split(KEY, number)
    return np.asarray(jax.vmap(lambda key: sample_windows(key, **{**SMALL, **changes}))(keys))


def is_uniform(values, number):
    counts = np.bincount(values.ravel(), minlength=number)
    assert len(counts) == number, "a position outside the range"
    return chisquare(counts).pvalue > 1e-4


def test_window_size_is_the_method_s():
    assert window_size((112, 112), (3, 3), (2, 2)) == (225, 225)
    assert window_size((5, 7), (3, 1), (1, 3)) == (7, 19)


@pytest.mark.parametrize("sampling, rows, columns", [("per_image", 4, 3), ("per_batch", 1, 3), ("shared", 4, 1)])
def test_every_position_is_equally_likely_in_every_entry(sampling, rows, columns):
    windows = draws(sampling=sampling)
    assert windows.shape[1:] == (rows, columns, 2) and windows.dtype == np.int32
    for entry in windows.reshape(len(windows), -1, 2).swapaxes(0, 1):
        assert is_uniform(entry[:, 0] * 6 + entry[:, 1], 24)


def test_windows_of_one_image_and_of_two_are_drawn_apart():
    tops = draws()[..., 0]
    for other in (tops[:, 0, 1], tops[:, 1, 0]):
        assert is_uniform(tops[:, 0, 0] * 4 + other, 16)


@pytest.mark.parametrize("sampling, rows", [("per_image", 4), ("per_batch", 1)])
def test_consecutive_filters_share_a_window_drawn_apart_from_those_of_other_filters(sampling, rows):
    shared = {"features": 6, "filters_per_window": 2, "sampling": sampling}
    windows = draws(**shared)
    assert windows.shape[1:] == (rows, 6, 2)
    np.testing.assert_array_equal(windows[:, :, 0::2], windows[:, :, 1::2])
    np.testing.assert_array_equal(windows[:, :, 0::2], draws(features=3, sampling=sampling))
    with pytest.raises(ValueError, match=r"`filters_per_window`=4 does not divide 6 filters"):
        draws(1, **shared | {"filters_per_window": 4})


def test_all_filters_in_one_window_are_a_random_crop():
    np.testing.assert_array_equal(draws(features=3, filters_per_window=3)[:, :, :1], draws(sampling="shared"))


def test_diagonal_windows_share_one_draw_and_reach_both_ends():
    square = draws(image_size=(10, 10), window_size=(5, 5), axes="diagonal")
    assert (square[..., 0] == square[..., 1]).all() and is_uniform(square[..., 0], 6)
    long = draws(axes="diagonal")  # 4 tops, 6 lefts: the top follows the left
    assert is_uniform(long[..., 1], 6)
    assert {tuple(pair) for pair in long.reshape(-1, 2)} == {(0, 0), (0, 1), (1, 2), (2, 3), (2, 4), (3, 5)}


def test_a_window_as_large_as_the_image_lies_at_the_origin():
    assert not draws(10, image_size=(9, 5)).any()


@pytest.mark.parametrize("sampling", ["per_image", "shared"])
def test_an_image_s_windows_depend_on_its_identity_alone(sampling):
    def sample(examples):
        changes = {"batch": len(examples), "examples": np.array(examples), "sampling": sampling}
        return np.asarray(sample_windows(KEY, **{**SMALL, **changes}))

    together = sample([3, 80, 4_000_000, 5])
    np.testing.assert_array_equal(sample([80])[0], together[1])
    np.testing.assert_array_equal(sample([5, 3, 9]), np.stack([together[3], together[0], sample([9])[0]]))
    np.testing.assert_array_equal(sample(range(4)), sample_windows(KEY, **SMALL, sampling=sampling))


def test_windows_of_a_batch_spread_over_devices_need_no_collective():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    examples = jax.device_put(np.arange(16, dtype=np.uint32), NamedSharding(mesh, P("data")))

    @jax.jit
    def sample(key, examples):
        return sample_windows(key, **{**SMALL, "batch": 16}, examples=examples)

    text = sample.lower(KEY, examples).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute"))
    np.testing.assert_array_equal(sample(KEY, examples), sample(KEY, np.arange(16, dtype=np.uint32)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": (8, 10)}, "window of 9x5 pixels does not fit into an image of 8x10"),
        ({"sampling": "per_pixel"}, "sampling must be one of per_image, per_batch, shared, not 'per_pixel'"),
        ({"axes": "vertical"}, "axes must be one of independent, diagonal, not 'vertical'"),
        ({"examples": np.arange(3)}, r"examples must be 4 integers, not int\d+\[3\]"),
        ({"examples": np.ones(4, np.float32)}, r"examples must be 4 integers, not float32\[4\]"),
    ],
)
def test_errors_say_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        sample_windows(KEY, **{**SMALL, **changes})
