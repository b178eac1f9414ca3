"""Every stream, step and seed has a key of its own, and a function with a seed is one program for all seeds."""

import jax
import pytest

from stochconv_jax.training import rngs

pytestmark = pytest.mark.smoke


def test_streams_and_steps_have_keys_of_their_own():
    keys = [rngs.key(seed, stream, step) for seed in (0, 1) for stream in rngs.STREAMS for step in (0, 1)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    with pytest.raises(ValueError, match="unknown random stream 'window'; known: init, windows"):
        rngs.key(0, "window")


def test_functions_of_other_seeds_are_one_program():
    draw = jax.jit(lambda shift, seed: shift + jax.random.normal(jax.random.key(seed)))
    one, other = rngs.Seeded(draw, 1), rngs.Seeded(draw, 2**31 + 5)
    assert one.lower(1.0).as_text() == other.lower(1.0).as_text() and one(1.0) != other(1.0)
    assert other(1.0) == 1.0 + jax.random.normal(jax.random.key(2**31 + 5))
    assert draw._cache_size() == 1
