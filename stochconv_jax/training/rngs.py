"""Randomness by name: every random number is a function of the seed, a stream and a step."""

import zlib
from collections.abc import Callable

import jax
import numpy as np

STREAMS = ("init", "windows", "dropout", "stochastic_depth")


def key(seed: int | jax.Array, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """The key of `stream` at `step` (a training step, or the number of an evaluation pass).

    Streams are told apart by name, so that adding one changes none of the others. Nothing is stored in a checkpoint.
    Raises ValueError for a stream not in `STREAMS`.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode())), step)


class Seeded:
    """`function`, which takes a keyword `seed`, and the seed to call it with.

    Compiled, the seed is an argument of the program and no constant in it, so that runs which differ by their seed
    alone share the program in the compilation cache.
    """

    def __init__(self, function: Callable, seed: int):
        self.function, self.seed = function, np.int64(seed).astype(np.int32)  # the bits that jax.random.key keeps

    def __call__(self, *arguments):
        return self.function(*arguments, seed=self.seed)

    def lower(self, *arguments) -> jax.stages.Lowered:
        """Of a `function` that is jax.jit's."""
        return self.function.lower(*arguments, seed=self.seed)
