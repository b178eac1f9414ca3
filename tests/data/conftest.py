"""Random inputs that do not depend on which tests ran before."""

import numpy as np
import pytest

from tests.data import drawn


@pytest.fixture(autouse=True)
def same_random_inputs():
    """Starts the shared random generator anew, so that a test has the same inputs alone and after others."""
    drawn.RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state
