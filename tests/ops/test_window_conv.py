"""window_conv equals a convolution of crops in every mode of use, and its program moves no image.

Where a test has the fixture `form`, this holds for the form of each platform, run on the CPU. The TPU's kernels, which
must be interpreted there, are in test_window_tpu.py.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops import sample_windows, window_conv, window_loops, window_platforms, window_size
from tests.ops.window_cases import (
    CASES,
    SHAPES,
    STEM,
    arrays,
    assert_equals_crops,
    assert_same,
    collectives,
    in_float64,
    ours,
    run,
    stem_arrays,
    stem_loss,
)


@pytest.fixture(params=["cpu", "gpu"])
def form(request, monkeypatch):
    """Computes window_conv as on the platform of this name."""
    if request.param == "gpu":
        monkeypatch.setattr(window_platforms, "_by_accelerator", lambda tiles, kernels, gpu, loops: gpu)


@pytest.mark.parametrize(
    "name, image_dtype",
    [(name, jnp.float32) for name in CASES] + [(name, np.uint8) for name in ("stem", "rectangular", "whole image")],
)
def test_output_and_gradients_are_those_of_crops(name, image_dtype, form):
    assert_equals_crops(name, image_dtype)


@pytest.mark.parametrize("name", ["rectangular", "whole image"])
def test_the_loops_for_other_platforms_give_the_same(name, monkeypatch):
    monkeypatch.setattr(window_loops, "_by_platform", lambda strided, regrouped: strided)
    assert_equals_crops(name)


@pytest.mark.parametrize("per", SHAPES, ids=str)
def test_windows_may_be_shared_by_the_batch_or_by_the_filters(per, form):
    assert_equals_crops("rectangular", jnp.float32, per=per)


@pytest.mark.parametrize("seed", range(2))
def test_random_shapes(seed):
    rng = np.random.default_rng(100 + seed)
    strides, kernel, out = (tuple(rng.integers(1, high, 2).tolist()) for high in (4, 5, 10))
    size = np.add(window_size(out, kernel, strides), rng.integers(0, 8, 2)).tolist()
    channels = int(rng.integers(1, 4))
    case = {"image": (2, *size, channels), "kernel": (*kernel, channels, 3), "out": out, "strides": strides}
    assert_equals_crops(case, jnp.float32, seed=seed)


@pytest.mark.parametrize("image_dtype", [np.uint8, jnp.bfloat16])
def test_a_bfloat16_kernel_gives_bfloat16_summed_in_float32(image_dtype, form):
    image, windows, kernel, g, static = arrays("rectangular", image_dtype, jnp.bfloat16)
    got = ours(image, windows, kernel, g, **static)
    assert got[0].dtype == got[-1].dtype == jnp.bfloat16 and got[1].dtype in (jnp.bfloat16, image.dtype)
    assert_same(got, in_float64(image, windows, kernel, g, **static), 1e-2)


def test_traced_windows_outside_are_moved_inside():
    image, _, kernel, _, static = arrays("rectangular")
    conv = jax.jit(partial(window_conv, **static))
    last = np.subtract(image.shape[1:3], static["window_size"])
    far = conv(image, jnp.full((1, 1, 2), 1000, jnp.int32), kernel)
    np.testing.assert_array_equal(far, conv(image, jnp.asarray(last, jnp.int32)[None, None], kernel))


def test_vmap_equals_a_loop_forward_and_backward():
    parts = [arrays("rectangular", jnp.float32, seed=seed) for seed in range(3)]
    static = parts[0][4]
    images, windows, kernels, gs = (jnp.stack([part[n] for part in parts]) for n in range(4))

    def loss(image, windows, kernel, g):
        return (window_conv(image, windows, kernel, **static) * g).sum()

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 2)))
    together = jax.jit(jax.vmap(step))(images, windows, kernels, gs)
    for n, part in enumerate(parts):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(step(*part[:4]))):
            np.testing.assert_allclose(a[n], b, rtol=1e-5, atol=1e-5)
    conv = partial(window_conv, **static)
    one_kernel = jax.jit(jax.vmap(conv, in_axes=(0, 0, None)))(images, windows, kernels[0])
    np.testing.assert_allclose(one_kernel[1], jax.jit(conv)(images[1], windows[1], kernels[0]), rtol=1e-5)


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize("sampling", ["per_image", "per_batch", "shared"])
def test_a_batch_on_eight_devices_gives_the_same_and_sends_no_image(mesh, sampling, form):
    args, specs = stem_arrays(16), (P("data"), P("data"), P(), P("data"), P())
    step = jax.value_and_grad(partial(stem_loss, sampling=sampling), argnums=2, has_aux=True)
    (_, out), gradient = jax.jit(step)(*args)
    with jax.set_mesh(mesh):
        spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(args, specs)]
        compiled = jax.jit(step).lower(*spread).compile()
        (_, out8), gradient8 = compiled(*spread)
    assert collectives(compiled) <= {"f32[] all-reduce", "f32[3,3,3,4] all-reduce"}
    np.testing.assert_array_equal(out8, out)
    np.testing.assert_allclose(gradient8, gradient, rtol=2e-4)


def test_a_user_s_shard_map_may_call_it(mesh):
    image, _, kernel, g, static = arrays("rectangular", jnp.float32)
    image, g = (jnp.concatenate([a] * 4) for a in (image, g))
    windows = sample_windows(
        jax.random.key(0), image_size=(33, 47), window_size=static["window_size"], batch=8, features=4
    )
    conv = partial(window_conv, **static)
    rows = P("data")
    spread = jax.shard_map(conv, mesh=mesh, in_specs=(rows, rows, P()), out_specs=rows)

    got = run(lambda image, kernel: spread(image, windows, kernel), image, kernel, g)
    wanted = run(lambda image, kernel: conv(image, windows, kernel), image, kernel, g)
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_batch_that_the_devices_do_not_divide_still_works(mesh):
    image, windows, kernel, _, static = arrays("stem")
    with jax.set_mesh(mesh):
        got = jax.jit(partial(window_conv, **static))(image, windows, kernel)
    np.testing.assert_array_equal(got, window_conv(image, windows, kernel, **static))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_the_program_has_no_scatter_and_nothing_as_large_as_the_windows(kind):
    """Temporaries, without those of the output's size, are smaller than a copy of all windows would be."""
    args = stem_arrays(4)
    image = args[0].astype(kind)
    step = jax.jit(jax.value_and_grad(partial(stem_loss, sampling="per_image"), argnums=2, has_aux=True))
    compiled = step.lower(image, *args[1:]).compile()
    assert not re.search(r"\b(scatter|select-and-scatter)\(", compiled.as_text())
    outputs = 2 * args[3].nbytes
    windows = args[0].shape[0] * STEM["features"] * 225 * 225 * 3 * image.itemsize
    assert compiled.memory_analysis().temp_size_in_bytes - outputs < windows / 2


def test_on_a_cpu_windows_are_copied_as_runs_of_bytes():
    """A gather fused with other operations, or a transposition of bytes, takes ten times as long (JAX 0.12)."""
    image, windows, kernel, g, static = arrays("stem")
    compiled = jax.jit(partial(ours, **static)).lower(image, windows, kernel, g).compile()
    computations = re.split(r"\n(?=\S)", compiled.as_text())
    gathers = [text for text in computations if re.search(r"= u8\S+ gather\(", text)]
    assert gathers and not any(re.search(r"= u8\S+ (?!gather|bitcast|parameter|constant)", text) for text in gathers)
    assert not re.search(r"= u8\S+ transpose\(", compiled.as_text())


def test_the_gradient_of_a_float_image_has_no_scatter_and_is_not_computed_unasked():
    image, windows, kernel, g, static = arrays("stem", jnp.float32)

    def loss(kernel, image):
        return (window_conv(image, windows, kernel, **static) * g).sum()

    both = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(kernel, image).compile()
    one = jax.jit(jax.grad(loss)).lower(kernel, image).compile()
    assert not re.search(r"\bscatter\(", both.as_text())
    assert one.cost_analysis()["flops"] < both.cost_analysis()["flops"]
    assert "dynamic-update-slice(f32[40,40" not in one.as_text().replace("%", "")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": np.zeros((3, 20, 40, 3), np.uint8)}, r"\(20x40 pixels\) is smaller than the window"),
        ({"image": np.zeros((40, 40, 3), np.uint8)}, r"image \[B, H, W, C\] and kernel"),
        ({"image": np.zeros((3, 40, 40, 1), np.uint8)}, r"not \[3, 40, 40, 1\] and \[3, 3, 3, 5\]"),
        ({"image": np.zeros((3, 40, 40, 3), np.int32)}, "uint8 or float, not int32"),
        ({"kernel": np.zeros((3, 3, 3, 5), np.int32)}, "kernel must be float, not int32"),
        ({"windows": np.zeros((2, 5, 2), np.int32)}, r"\[3 or 1, 5 or 1, 2\], not int32\[2, 5, 2\]"),
        ({"windows": np.zeros((3, 5, 2), np.float32)}, r"windows must be integers .* not float32"),
        ({"windows": np.full((1, 1, 2), 16, np.int32)}, r"windows\[0, 0\] = \[16, 16\] .* 0\.\.15"),
        ({"windows": np.full((1, 1, 2), -1, np.int32)}, r"windows\[0, 0\] = \[-1, -1\] reaches outside"),
        ({"window_size": (2, 25)}, r"window \(2x25 pixels\) is smaller than the kernel \(3x3\)"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_errors_say_what_is_wrong(change, message):
    image, windows, kernel, _, static = arrays("stem")
    everything = {**{"image": image, "windows": windows, "kernel": kernel}, **static, **change}
    with pytest.raises(ValueError, match=message):
        window_conv(**everything)
