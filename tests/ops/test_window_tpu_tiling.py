"""Tiles cover the output of window_conv exactly once and fit into a TPU's vector memory."""

import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.ops import window_tpu_tiling


@pytest.mark.parametrize("vmem, largest", [(16 << 20, 128), (5 << 20, 64), (3 << 20, 32)])
def test_tiles_cover_the_output_once_and_fit(vmem, largest, monkeypatch):
    monkeypatch.setattr(window_tpu_tiling, "VMEM_BYTES", vmem)
    tiles = window_tpu_tiling.output_tiles((2, 999, 999, 3), np.uint8, (3, 3, 3, 8), jnp.float32, (2, 3), (401, 451))
    covered = np.zeros((200, 150), int)
    for tile in (tile for row in tiles for tile in row):
        (top, left), (height, width) = tile.origin, tile.size
        covered[top : top + height, left : left + width] += 1
        assert max(tile.size) <= largest and tile.vmem_bytes <= vmem
    assert (covered == 1).all()


@pytest.mark.parametrize(
    "image_dtype, kernel, kernel_dtype",
    [
        (jnp.float16, (3, 3, 3, 8), jnp.float32),
        (np.uint8, (3, 3, 3, 8), jnp.float16),
        (np.uint8, (3, 3, 3, 8), jnp.float64),
        (np.uint8, (3, 3, 999, 8), jnp.float32),
        (np.uint8, (3, 3, 3, 32768), jnp.float32),
    ],
)
def test_unsupported_convolutions_have_no_tiles(image_dtype, kernel, kernel_dtype):
    image = (2, 300, 300, kernel[2])
    assert window_tpu_tiling.output_tiles(image, image_dtype, kernel, kernel_dtype, (2, 2), (225, 225)) is None
