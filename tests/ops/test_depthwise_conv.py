"""depthwise_conv equals the library's depthwise convolution, in both of its forms, forward and backward."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops import depthwise_conv
from tests.ops import references

SHAPES = [  # input [B, H, W, C], kernel, strides
    ((2, 14, 14, 6), (3, 3), (1, 1)),
    ((2, 14, 14, 6), (3, 3), (2, 2)),
    ((1, 13, 15, 4), (5, 5), (2, 2)),
    ((3, 15, 12, 2), (5, 3), (1, 2)),
    ((2, 17, 16, 3), (2, 4), (3, 3)),
    ((2, 9, 8, 5), (1, 1), (2, 1)),
    ((1, 3, 2, 3), (5, 5), (1, 1)),
    ((2, 57, 3, 2), (3, 3), (1, 1)),  # rows in strips, of which the last is not full
    ((5, 7, 3, 2), (3, 3), (1, 1)),  # images in groups, likewise
]


def fits(shape, size, _):
    return np.all(np.greater_equal(shape[1:3], size))


@cache
def reference(strides, padding):
    """Returns one function for all precisions, which is compiled once for them: its arguments are in float64."""
    return partial(references.depthwise_conv, strides=strides, padding=padding)


@partial(jax.jit, static_argnums=0)
def output_and_gradients(conv, x, kernel):
    out, back = jax.vjp(conv, x, kernel)
    g = jnp.cos(jnp.arange(out.size).reshape(out.shape) % 17)  # whole numbers: the same in every precision
    return out, *back(jnp.round(8 * g).astype(out.dtype))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "shape, size, strides, padding",
    [(*case, pad) for pad in ("SAME", "SYMMETRIC", "VALID") for case in SHAPES if pad != "VALID" or fits(*case)],
)
def test_output_and_gradients_are_the_library_s(shape, size, strides, padding, dtype):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), dtype) for s in (shape, (*size, shape[3])))
    got = output_and_gradients(partial(depthwise_conv, strides=strides, padding=padding), x, kernel)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a).astype(np.float64)) for a in (x, kernel)]
        pads = tuple((side // 2, side // 2) for side in size) if padding == "SYMMETRIC" else padding
        wanted = output_and_gradients(reference(strides, pads), *wide)
    tolerance = 2e-6 if dtype == jnp.float32 else 2e-2
    for a, b in zip(got, wanted):
        assert a.dtype == dtype and a.shape == b.shape
        b = np.asarray(b)
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_the_form_follows_the_platform_that_the_program_is_for():
    """Lowers for each platform: shifted multiply-adds for the CPU, a convolution elsewhere."""
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4))
    step = jax.jit(jax.grad(lambda *args: depthwise_conv(*args, strides=(1, 1)).sum(), argnums=(0, 1)))
    for platform, convolutions in (("cpu", 0), ("tpu", 2), ("cuda", 2)):
        text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") >= convolutions
        assert convolutions or "stablehlo.convolution" not in text


def test_a_batch_on_eight_devices_gives_the_same_and_sends_no_activations():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=size)) for size in ((16, 9, 8, 4), (3, 3, 4)))

    def loss(x, kernel):
        return (depthwise_conv(x, kernel, strides=(2, 2)) ** 2).sum()

    step = jax.jit(jax.grad(loss, argnums=(0, 1)))
    wanted = step(x, kernel)
    with jax.set_mesh(mesh):
        spread = jax.device_put((x, kernel), (NamedSharding(mesh, P("data")), NamedSharding(mesh, P())))
        compiled = step.lower(*spread).compile()
        got = compiled(*spread)
    assert set(re.findall(r"(\w+\[[\d,]*\])\S* all-\w+\(", compiled.as_text())) == {"f32[3,3,4]"}
    assert not re.search("all-gather|all-to-all|collective-permute", compiled.as_text())
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_vmap_equals_a_loop():
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=(3, 2, 7, 7, 4))), jnp.asarray(rng.normal(size=(3, 3, 4)))
    conv = partial(depthwise_conv, strides=(2, 2))
    together = jax.vmap(conv, in_axes=(0, None))(x, kernel)
    np.testing.assert_allclose(together, jnp.stack([conv(row, kernel) for row in x]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "x, kernel, padding, message",
    [
        ((2, 8, 8, 4), (3, 3, 5), "SAME", r"x \[B, H, W, C\] and kernel \[kh, kw, C\]"),
        ((8, 8, 4), (3, 3, 4), "SAME", r"not float32\[8, 8, 4\]"),
        ((2, 8, 8, 4), (3, 3, 4), "FULL", "padding must be one of SAME, SYMMETRIC, VALID, not 'FULL'"),
        ((2, 2, 8, 4), (3, 3, 4), "VALID", r"input \(2x8\) is smaller than the kernel \(3x3\)"),
    ],
)
def test_errors_say_what_is_wrong(x, kernel, padding, message):
    with pytest.raises(ValueError, match=message):
        depthwise_conv(jnp.ones(x), jnp.ones(kernel), strides=(1, 1), padding=padding)
