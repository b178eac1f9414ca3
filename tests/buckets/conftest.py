"""An address in fsspec's memory, empty for each test."""

import fsspec
import pytest

from stochconv_jax.buckets.store import Store


@pytest.fixture
def store(tmp_path):
    name = tmp_path.name
    yield Store(f"memory://{name}")
    system = fsspec.filesystem("memory")
    if system.exists(f"/{name}"):
        system.rm(f"/{name}", recursive=True)
