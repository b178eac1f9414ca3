"""The GPU's form of window_conv under transformations, and the platforms that it is lowered for.

Its outputs and gradients are compared with a convolution of crops in test_window_conv.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.ops import window_conv, window_platforms
from tests.ops import references
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


@pytest.mark.slow
@pytest.mark.parametrize("form", ["CPU", "GPU"])
def test_images_of_more_than_2_to_the_31_elements_are_read_where_the_windows_are(form, monkeypatch):
    if form == "GPU":
        monkeypatch.setattr(window_platforms, "_by_accelerator", lambda tiles, kernels, gpu, loops: gpu)
    image, rng = np.zeros((1, 27000, 27000, 3), np.uint8), np.random.default_rng(0)
    assert image.size > 2**31
    image[0, -40:, -40:] = rng.integers(0, 256, (40, 40, 3))
    windows = np.array([[[26960, 26960], [26967, 26967]]], np.int32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 2)), jnp.float32)
    static = {"strides": (2, 2), "window_size": (33, 33)}
    out, back = jax.vjp(lambda kernel: window_conv(image, windows, kernel, **static), kernel)
    corner = image[:, -40:, -40:]
    same, reference = jax.vjp(lambda k: references.window_conv(corner, windows - 26960, k, **static), kernel)
    np.testing.assert_allclose(out, same, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(back(out)[0], reference(out)[0], rtol=1e-4)
