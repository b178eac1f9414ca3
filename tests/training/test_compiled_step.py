"""The compiled training step keeps full-resolution images where they are, on eight CPU devices and on TPUs.

See compiled_step_checks.py for what that means. Tests for TPUs are skipped without libtpu.
"""

import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from stochconv_jax.models.stochastic_conv import StochasticConv
from stochconv_jax.planning import targets
from stochconv_jax.runtime import mesh as meshes
from tests.training.compiled_step_checks import check, check_dtypes, float_images, lower_step

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: see requirements-tpu.txt"
)


@pytest.fixture(scope="module")
def eight():
    return meshes.create()


@pytest.mark.slow
def test_on_eight_devices_images_stay_where_they_are(eight):
    check(eight)


@needs_libtpu
def test_on_a_tpu_images_stay_where_they_are(no_compilation_cache):
    check(targets.mesh_of("v5e:2x4"))


@needs_libtpu
def test_on_a_tpu_large_activations_are_bfloat16(no_compilation_cache):
    check_dtypes(targets.mesh_of("v5e:1x1"))


@pytest.mark.slow
def test_normalising_the_images_first_is_seen(eight, monkeypatch):
    """Normalises the images before the stem, as a stem that reads floats would."""
    plain = StochasticConv.__call__

    def normalised(self, pixels, examples):
        return plain(self, (pixels.astype(jnp.float32) - 127.5) / 127.5, examples)

    monkeypatch.setattr(StochasticConv, "__call__", normalised)
    found = float_images(lower_step(eight)[0].compile().as_text())
    assert any("f32[2,512,512,3]" in line or "f32[2,512,1536]" in line for line in found), found


def test_cutting_windows_out_of_a_convolved_image_is_seen(eight, monkeypatch):
    """Replaces the stem by one whose gradient is a scatter."""

    def everywhere(self, pixels, examples):
        x = nn.Conv(self.features, (3, 3), strides=2, use_bias=False)(pixels.astype(jnp.float32))
        rows = examples[:, None].astype(jnp.int32) % 100 + jnp.arange(self.output_size[0])
        return jax.vmap(lambda image, row: image[row, : self.output_size[1]])(x, rows)

    monkeypatch.setattr(StochasticConv, "__call__", nn.compact(everywhere))
    assert "stablehlo.scatter" in lower_step(eight)[0].as_text()
