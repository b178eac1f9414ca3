"""Streams of NumPy's random numbers: one for each purpose, so that no draw depends on how many others were made."""

import enum

import numpy as np


@enum.unique
class Stream(enum.IntEnum):
    """The number of each stream. Every number drawn in a run follows from these, so they never change."""

    SPLIT = 0  # which images validate
    ORDER = 1  # the order of an epoch
    AUGMENT = 2  # augmentation of a training row
    DRAW = 3  # drawn images
    BALANCE = 4  # the order of an epoch with balanced classes
    SHOWN_AUGMENTATION = 5  # augmentations that --mode=show draws


def generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """Returns a generator that is a function of the seed, the stream and `counters`, such as an epoch or an index."""
    return np.random.default_rng([seed, stream, *counters])
