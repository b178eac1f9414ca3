"""The GPU's form, run on the CPU, equals a convolution of crops in every mode of use."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops import window_conv, window_loops
from tests.ops.test_window_conv import (
    CASES,
    SHAPES,
    arrays,
    assert_same,
    collectives,
    in_float64,
    ours,
    stem_arrays,
    stem_loss,
)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(window_loops, "_by_accelerator", lambda parts, kernels, gpu, loops: gpu)


@pytest.mark.parametrize(
    "name, image_dtype",
    [(name, jnp.float32) for name in CASES] + [(name, np.uint8) for name in ("stem", "rectangular", "whole image")],
)
def test_output_and_gradients_are_those_of_crops(name, image_dtype):
    image, windows, kernel, g, static = arrays(name, image_dtype)
    assert_same(ours(image, windows, kernel, g, **static), in_float64(image, windows, kernel, g, **static))


@pytest.mark.parametrize("per", SHAPES, ids=str)
def test_windows_may_be_shared_by_the_batch_or_by_the_filters(per):
    image, windows, kernel, g, static = arrays("rectangular", jnp.float32, per=per)
    assert_same(ours(image, windows, kernel, g, **static), in_float64(image, windows, kernel, g, **static))


@pytest.mark.parametrize("image_dtype", [np.uint8, jnp.bfloat16])
def test_a_bfloat16_kernel_gives_bfloat16_summed_in_float32(image_dtype):
    image, windows, kernel, g, static = arrays("rectangular", image_dtype, jnp.bfloat16)
    got = ours(image, windows, kernel, g, **static)
    assert got[0].dtype == got[-1].dtype == jnp.bfloat16 and got[1].dtype in (jnp.bfloat16, image.dtype)
    assert_same(got, in_float64(image, windows, kernel, g, **static), 1e-2)


def test_vmap_scan_and_remat_change_nothing():
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


@pytest.mark.parametrize("sampling", ["per_image", "per_batch", "shared"])
def test_a_batch_on_eight_devices_gives_the_same_and_sends_no_image(sampling):
    args, specs = stem_arrays(16), (P("data"), P("data"), P(), P("data"), P())
    step = jax.value_and_grad(partial(stem_loss, sampling=sampling), argnums=2, has_aux=True)
    (_, out), gradient = jax.jit(step)(*args)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(args, specs)]
        compiled = jax.jit(step).lower(*spread).compile()
        (_, out8), gradient8 = compiled(*spread)
    assert collectives(compiled) <= {"f32[] all-reduce", "f32[3,3,3,4] all-reduce"}
    np.testing.assert_array_equal(out8, out)
    np.testing.assert_allclose(gradient8, gradient, rtol=2e-4)


@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_it_is_what_is_lowered_for_gpus(platform, monkeypatch):
    monkeypatch.undo()
    image, windows, kernel, _, static = arrays("stem")
    conv = jax.jit(partial(window_conv, **static)).trace(image, windows, kernel)
    # The layout constraint is the GPU form's alone.
    assert "LayoutConstraint" in conv.lower(lowering_platforms=(platform,)).as_text()
    assert "LayoutConstraint" not in conv.lower(lowering_platforms=("cpu",)).as_text()
