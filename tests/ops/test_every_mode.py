"""The operations in x64 mode, without images, in each precision, and with batches spread over Explicit axes."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from stochconv_jax.ops import depthwise_conv, pointwise_conv, sample_windows, window_conv
from tests.ops import references

WINDOWS = {"strides": (2, 1), "window_size": (9, 7)}


def case(name, batch, dtype, integer=jnp.int32):
    """Returns an operation of (x, kernel), its reference, x and kernel; the windows have the dtype `integer`."""
    random = np.random.default_rng(0)
    shapes = {
        "depthwise": ((batch, 9, 8, 4), (3, 3, 4)),
        "pointwise": ((batch, 5, 6, 4), (4, 3)),
        "windows": ((batch, 20, 18, 2), (3, 3, 2, 5)),
    }
    x, kernel = (jnp.asarray(random.normal(size=size), dtype) for size in shapes[name])
    if name == "depthwise":
        functions = [partial(f, strides=(2, 1)) for f in (depthwise_conv, references.depthwise_conv)]
    elif name == "pointwise":
        functions = [pointwise_conv, references.pointwise_conv]
    else:
        windows = jnp.asarray(random.integers(0, 12, (batch, 5, 2)), integer)
        functions = [
            lambda x, kernel, f=f: f(x, windows, kernel, **WINDOWS) for f in (window_conv, references.window_conv)
        ]
    return *functions, x, kernel


def output_and_gradients(conv, x, kernel):
    def loss(x, kernel):
        out = conv(x, kernel)
        return (out * jnp.cos(jnp.arange(out.size, dtype=out.dtype).reshape(out.shape))).sum(), out

    gradients, out = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)
    return out, *gradients


NAMES = ("depthwise", "pointwise", "windows")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", NAMES)
def test_in_x64_mode_they_are_as_exact_as_their_type(name, dtype):
    with jax.enable_x64(True):
        ours, library, x, kernel = case(name, 3, dtype, jnp.int64)
        got = output_and_gradients(ours, x, kernel)
        wide = (jnp.asarray(a, np.float64) for a in (x, kernel))
        wanted = [np.asarray(a) for a in output_and_gradients(library, *wide)]
        assert all(a.dtype == dtype for a in got)
        for a, b in zip(got, wanted):
            np.testing.assert_allclose(a, b, rtol=0, atol=(1e-14 if dtype == np.float64 else 2e-6) * np.abs(b).max())


def test_windows_are_the_same_in_x64_mode():
    about = {"image_size": (40, 50), "window_size": (25, 25), "batch": 3, "features": 2}
    for axes in ("independent", "diagonal"):
        plain = sample_windows(jax.random.key(3), axes=axes, **about)
        with jax.enable_x64(True):
            wide = sample_windows(jax.random.key(3), axes=axes, **about)
        assert wide.dtype == plain.dtype == jnp.int32 and (np.asarray(wide) == np.asarray(plain)).all()


@pytest.mark.parametrize("integer", [jnp.int8, jnp.uint8, jnp.uint32])
def test_windows_may_be_of_any_integer_type(integer):
    """The dtype may even be too small for some positions in the image."""
    random = np.random.default_rng(0)
    image, kernel = jnp.asarray(random.normal(size=(2, 300, 12, 1)), jnp.float32), jnp.ones((3, 3, 1, 2))
    windows = jnp.asarray(random.integers(0, 3, (2, 2, 2)), integer)
    conv = jax.jit(partial(window_conv, **WINDOWS))
    assert (conv(image, windows, kernel) == conv(image, windows.astype(jnp.int32), kernel)).all()
    if integer == jnp.uint32:  # traced windows outside are moved inside, however far
        last = jnp.broadcast_to(jnp.asarray([291, 5]), (2, 2, 2))
        assert (conv(image, jnp.full((2, 2, 2), 2**32 - 1, integer), kernel) == conv(image, last, kernel)).all()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_rounded_once(name):
    """Outputs and gradients are as close to the exact ones as rounding these to bfloat16."""
    ours, library, x, kernel = case(name, 2, jnp.bfloat16)
    got = output_and_gradients(ours, x, kernel)
    with jax.enable_x64(True):
        out, back = jax.vjp(library, *(jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel)))
        cotangent = jnp.cos(jnp.arange(out.size, dtype=jnp.bfloat16).reshape(out.shape))
        wanted = [np.asarray(a) for a in (out, *back(cotangent.astype(np.float64)))]
    for a, b in zip(got, wanted):
        # Half a unit in the last of eight bits, and float32's share where terms cancel.
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=2**-8, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_no_image_has_an_empty_result_and_no_gradient(name, x64):
    with jax.enable_x64(x64):
        ours, _, x, kernel = case(name, 0, jnp.float32)
        out, for_x, for_kernel = output_and_gradients(ours, x, kernel)
        _, library, more_x, more_kernel = case(name, 1, jnp.float32)
        assert out.shape == (0, *jax.eval_shape(library, more_x, more_kernel).shape[1:]) and out.dtype == jnp.float32
        assert for_x.shape == x.shape and for_kernel.shape == kernel.shape and (for_kernel == 0).all()


ONE, TWO = {"rows": 8}, {"data": 4, "model": 2}


@cache
def alone(name):
    """Returns a function for an operation's output and gradients, its arguments, and the results on one device."""
    ours, _, x, kernel = case(name, 16, jnp.float32)
    x = jnp.concatenate([x, x], axis=1)[:, : 2 * (x.shape[1] // 2)]  # rows that two devices can share
    out = jax.eval_shape(ours, x, kernel)
    cotangent = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)

    @jax.jit
    def run(x, kernel, cotangent):
        out, back = jax.vjp(ours, x, kernel)
        return out, *back(cotangent)

    return run, (x, kernel, cotangent), run(x, kernel, cotangent)


@pytest.mark.parametrize(
    ("axes", "kinds", "spec"),
    [
        ({"data": 8}, "E", P("data")),
        (ONE, "E", P("rows")),
        (ONE, "E", P()),
        (TWO, "EE", P(("data", "model"))),
        (TWO, "EE", P("data")),
        (TWO, "EE", P("data", "model")),
        (TWO, "AE", P("model")),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", NAMES)
def test_batches_spread_over_explicit_axes_give_the_same(name, axes, kinds, spec):
    """Axes may have other names, be two, or stand beside an Auto axis; the result is sharded like the batch."""
    run, arguments, wanted = alone(name)
    types = tuple({"E": AxisType.Explicit, "A": AxisType.Auto}[kind] for kind in kinds)
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=types)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, P(*spec[:1]))
        spread = jax.device_put(arguments, (NamedSharding(mesh, spec), NamedSharding(mesh, P()), rows))
        got = run(*spread)
    assert got[0].sharding.is_equivalent_to(rows, got[0].ndim) or "A" in kinds
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
