"""In which order the images of an epoch come: functions of seed and epoch."""

import functools

import numpy as np

ORDER, BALANCE = 1, 4  # random streams
ORDERS = ("shuffled", "balanced")


@functools.lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the images in an epoch: a permutation of 0..size-1."""
    return np.random.default_rng([seed, ORDER, epoch]).permutation(size)


@functools.lru_cache(maxsize=4)
def balanced_order(labels: bytes, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch in which every class has the same share: as many indices as there are images.

    `labels`: int32 `[N]` as bytes. The images of a small class come several times, each as often as the others or once
    more; of a large class only some come.
    """
    random = np.random.default_rng([seed, BALANCE, epoch])
    classes = np.frombuffer(labels, np.int32)
    present = random.permutation(np.unique(classes))  # who gets one more than the others changes
    chosen = []
    for place, label in enumerate(present):
        members = np.flatnonzero(classes == label)
        count = len(classes) // len(present) + (place < len(classes) % len(present))
        rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
        chosen.append(np.concatenate(rounds)[:count])
    return random.permutation(np.concatenate(chosen))
