"""Named random streams: every random number is a function of the seed, a stream and a step."""

import zlib
from collections.abc import Callable

import jax
import numpy as np

STREAMS = ("init", "windows", "dropout", "stochastic_depth", "statistics")


def key(seed: int | jax.Array, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """Returns the key of `stream` at `step`, which is a training step or the number of an evaluation pass.

    Keys depend on the stream's name, so that a new stream changes no other. No key is stored in a checkpoint.

    Raises:
      ValueError: `stream` is not one of `STREAMS`.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode())), step)


class Seeded:
    """A function of arguments and a keyword `seed`, together with the seed with which it is called.

    In a compiled program the seed is then an argument and not a constant, so that runs that differ only in their seed
    share one program in the compilation cache.
    """

    def __init__(self, function: Callable, seed: int | np.integer):
        self.function, self.seed = function, np.int64(seed).astype(np.int32)  # jax.random.key uses these bits only

    def __call__(self, *arguments):
        return self.function(*arguments, seed=self.seed)

    def lower(self, *arguments) -> jax.stages.Lowered:
        """Lowers the function, which must be a result of `jax.jit`."""
        return self.function.lower(*arguments, seed=self.seed)
