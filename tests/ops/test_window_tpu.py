"""The TPU's kernels, interpreted, equal a convolution of crops; compiled for TPUs, they move no image.

What compiles is skipped without libtpu (requirements-tpu.txt).
"""

import importlib.util
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops import window_conv, window_platforms
from stochconv_jax.planning.targets import mesh_of
from tests.ops.window_cases import (
    CASES,
    SHAPES,
    arrays,
    assert_equals_crops,
    assert_same,
    collectives,
    in_float64,
    ours,
)

TILED = {  # images of several hardware tiles, in which windows begin anywhere
    "uint8 tiles": {"image": (3, 130, 400, 3), "kernel": (3, 3, 3, 3), "out": (14, 70), "strides": (2, 2)},
    "one image": {"image": (1, 97, 300, 1), "kernel": (5, 5, 1, 4), "out": (20, 11), "strides": (1, 1)},
    "several output tiles": {"image": (1, 40, 290, 1), "kernel": (3, 3, 1, 2), "out": (5, 135), "strides": (2, 2)},
}


@pytest.fixture
def interpreted(monkeypatch):
    """Computes window_conv as on a TPU, with its kernels interpreted: memory that was never written holds NaN."""

    def on_tpu(tiles, kernels, gpu, loops):
        return partial(kernels, tiles) if tiles else loops

    monkeypatch.setattr(window_platforms, "_by_accelerator", on_tpu)
    with pltpu.force_tpu_interpret_mode():
        yield


@pytest.mark.parametrize(
    "name, image_dtype",
    [(name, np.uint8) for name in CASES | TILED] + [("stem", jnp.float32), ("uint8 tiles", jnp.float32)],
)
def test_output_and_gradients_are_those_of_crops_in_float32(name, image_dtype, interpreted):
    assert_equals_crops((CASES | TILED)[name], image_dtype)


@pytest.mark.parametrize("per", SHAPES[1:], ids=str)
def test_windows_may_be_shared_by_the_batch_or_by_the_filters(per, interpreted):
    assert_equals_crops("rectangular", per=per)


def test_every_bit_of_a_float32_image_and_kernel_counts(interpreted):
    image, windows, kernel, g, static = arrays("rectangular", jnp.float32)
    image = image + jnp.asarray(np.random.default_rng(7).uniform(size=image.shape), jnp.float32)
    assert_same(ours(image, windows, kernel, g, **static), in_float64(image, windows, kernel, g, **static), 1e-6)


@pytest.mark.parametrize("image_dtype", [np.uint8, jnp.bfloat16])
def test_a_bfloat16_kernel_gives_bfloat16_summed_in_float32(image_dtype, interpreted):
    image, windows, kernel, g, static = arrays("rectangular", image_dtype, jnp.bfloat16)
    got, wanted = ours(image, windows, kernel, g, **static), in_float64(image, windows, kernel, g, **static)
    assert got[0].dtype == got[-1].dtype == jnp.bfloat16
    for a, b in ((got[0], wanted[0]), (got[-1], wanted[-1])):  # one rounding, of the result
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=2**-8, atol=1e-5 * np.abs(b).max())


def test_traced_windows_outside_are_moved_inside(interpreted):
    image, _, kernel, _, static = arrays("rectangular")
    conv = jax.jit(partial(window_conv, **static))
    last = np.subtract(image.shape[1:3], static["window_size"])
    for far, inside in (1000, last), (-1000, (0, 0)):
        outside = conv(image, jnp.full((1, 1, 2), far, jnp.int32), kernel)
        np.testing.assert_array_equal(outside, conv(image, jnp.asarray(inside, jnp.int32)[None, None], kernel))


def test_vmap_equals_a_loop(interpreted):
    parts = [arrays("rectangular", seed=seed) for seed in range(2)]
    images, windows, kernels, gs = (jnp.stack([part[n] for part in parts]) for n in range(4))

    def gradient(image, windows, kernel, g):
        return jax.grad(lambda kernel: (window_conv(image, windows, kernel, **parts[0][4]) * g).sum())(kernel)

    together = jax.jit(jax.vmap(gradient))(images, windows, kernels, gs)
    for got, part in zip(together, parts):
        np.testing.assert_array_equal(got, jax.jit(gradient)(*part[:4]))


STEPS = {
    "stem": {},
    "5x5 kernel": {"kernel": 5},
    "stride 1": {"stride": 1},
    "4096x4096": {"size": 4096},
    "part of a hardware tile": {"size": 1000},
    "one window for the batch": {"windows": (1, 32)},
    "bfloat16": {"kernel_dtype": "bfloat16"},
    "float32 image": {"image_dtype": "float32"},
    "large output": {"output": 256, "batch": 2},
}
ELSEWHERE = [("v6e:2x2", "stem"), ("v6e:2x2", "5x5 kernel"), ("v4:2x2x1", "stem")]


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: see requirements-tpu.txt"
)
@pytest.mark.parametrize("topology, step", [("v5e:2x2", step) for step in STEPS] + ELSEWHERE)
def test_compiled_for_a_tpu_temporaries_are_small_and_no_image_moves(topology, step, no_compilation_cache):
    compiled = compile_step(mesh_of(topology), **STEPS[step])
    text = compiled.as_text()
    assert re.search(r"%window_conv[.\d]* = .*tpu_custom_call", text)
    assert re.search(r"%window_conv_kernel_gradient[.\d]* = .*tpu_custom_call", text)
    assert not re.search(r"\b(scatter|gather|convolution|while)\(", text)
    for sent in collectives(compiled):
        shape, kind = sent.split()
        assert kind == "all-reduce" and math.prod(map(int, re.findall(r"(?<=[\[,])\d+", shape))) <= 5 * 5 * 3 * 32
    assert compiled.memory_analysis().temp_size_in_bytes < 64e6


def compile_step(
    mesh, size=1024, kernel=3, stride=2, output=112, batch=16, windows=None, image_dtype="uint8", kernel_dtype="float32"
):
    """Compiles window_conv's output and kernel gradient for `batch` images per chip."""
    batch, features = batch * mesh.size, 32
    window_size = (kernel + (output - 1) * stride,) * 2

    def loss(weights, image, windows, g):
        out = window_conv(image, windows, weights, strides=(stride, stride), window_size=window_size)
        return (out * g).astype(jnp.float32).sum(), out

    def given(shape, dtype, *spec):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))

    weights = given((kernel, kernel, 3, features), kernel_dtype)
    image = given((batch, size, size, 3), image_dtype, "data")
    windows = given((*windows, 2), "int32") if windows else given((batch, features, 2), "int32", "data")
    g = given((batch, output, output, features), kernel_dtype, "data")
    with jax.set_mesh(mesh):
        return jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(weights, image, windows, g).compile()
