"""The order of the images in an epoch, a function of the seed and the epoch."""

import functools

import numpy as np

from stochconv_jax.data.random_streams import Stream, generator

ORDERS = ("shuffled", "balanced")


@functools.lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch in which every image comes once: a permutation of 0..size-1."""
    return generator(seed, Stream.ORDER, epoch).permutation(size)


@functools.lru_cache(maxsize=4)
def balanced_order(labels: bytes, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch in which every class has the same share: int `[N]`, indices of images.

    `labels`: int32 `[N]` as bytes, which the cache needs. Each image of a small class comes several times, as often as
    the others of its class or once more. Only some images of a large class come.
    """
    random = generator(seed, Stream.BALANCE, epoch)
    classes = np.frombuffer(labels, np.int32)
    present = random.permutation(np.unique(classes))  # which classes get one image more changes with the epoch
    chosen = []
    for place, label in enumerate(present):
        members = np.flatnonzero(classes == label)
        count = len(classes) // len(present) + (place < len(classes) % len(present))
        rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
        chosen.append(np.concatenate(rounds)[:count])
    return random.permutation(np.concatenate(chosen))
