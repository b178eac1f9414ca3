"""The GPU's form of window_conv under transformations, and the platforms that it is lowered for.

Its outputs and gradients are compared with a convolution of crops in test_window_conv.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.ops import window_conv, window_platforms
from tests.ops.window_cases import arrays


def test_vmap_scan_and_remat_change_nothing(monkeypatch):
    monkeypatch.setattr(window_platforms, "_by_accelerator", lambda tiles, kernels, gpu, loops: gpu)
    parts = [arrays("rectangular", jnp.float32, seed=seed) for seed in range(2)]
    static = parts[0][4]
    stacked = [jnp.stack([part[n] for part in parts]) for n in range(4)]

    def loss(image, windows, kernel, g):
        return (window_conv(image, windows, kernel, **static) * g).sum()

    step = jax.value_and_grad(loss, argnums=(0, 2))
    remat = jax.value_and_grad(jax.checkpoint(loss), argnums=(0, 2))
    alone = jax.tree.map(lambda *rows: jnp.stack(rows), *(jax.jit(step)(*part[:4]) for part in parts))
    together = jax.jit(jax.vmap(step))(*stacked)
    scanned = jax.jit(lambda rows: jax.lax.scan(lambda carry, row: (carry, remat(*row)), 0, rows)[1])(stacked)
    for other in (together, scanned):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), alone, other)


@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_it_is_what_is_lowered_for_gpus(platform):
    image, windows, kernel, _, static = arrays("stem")
    conv = jax.jit(partial(window_conv, **static)).trace(image, windows, kernel)
    # The layout constraint is the GPU form's alone.
    assert "LayoutConstraint" in conv.lower(lowering_platforms=(platform,)).as_text()
    assert "LayoutConstraint" not in conv.lower(lowering_platforms=("cpu",)).as_text()
