"""Random streams: different ones for different purposes, and the same for ever."""

import itertools

import numpy as np

from stochconv_jax.data.random_streams import Stream, generator

NUMBERS = {"SPLIT": 0, "ORDER": 1, "AUGMENT": 2, "DRAW": 3, "BALANCE": 4, "SHOWN_AUGMENTATION": 5}


def test_no_two_streams_are_equal_and_their_numbers_never_change():
    """A new stream is added here; a changed number would redraw the splits, orders and augmentations of old runs."""
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == NUMBERS


def test_draws_differ_by_seed_stream_and_counter_and_repeat():
    settings = list(itertools.product((0, 1), Stream, (0, 1)))
    drawn = [generator(*setting).integers(2**63) for setting in settings]
    assert len(set(drawn)) == len(settings)
    assert drawn == [generator(*setting).integers(2**63) for setting in settings]


def test_a_draw_is_that_of_numpy_s_generator_of_the_same_numbers():
    assert generator(7, Stream.DRAW, 5).integers(2**63) == np.random.default_rng([7, 3, 5]).integers(2**63)
