"""Random inputs that do not depend on which tests ran before, and fsspec's memory, empty."""

import fsspec
import numpy as np
import pytest

from stochconv_jax.data import paths
from tests.data import drawn


@pytest.fixture(autouse=True)
def same_random_inputs():
    """Starts the shared random generator anew, so that a test has the same inputs alone and after others."""
    drawn.RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture
def addresses(monkeypatch):
    """Reads from addresses without pauses between tries, and empties fsspec's memory afterwards."""
    monkeypatch.setattr(paths, "WAITS", (0, 0))
    memory = fsspec.filesystem("memory")
    yield
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
