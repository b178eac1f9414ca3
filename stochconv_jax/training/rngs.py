"""Randomness by name: every random number is a function of the seed, a stream and a step."""
import zlib

import jax

STREAMS = ("init", "windows", "dropout", "stochastic_depth")


def key(seed: int, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """The key of `stream` at `step` (a training step, or the number of an evaluation pass).

    Streams are told apart by name, so that adding one changes none of the others. Nothing is stored in a checkpoint.
    Raises ValueError for a stream not in `STREAMS`.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode())), step)
