"""Cases of window_conv, and its outputs and gradients computed by the library's convolution of crops."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from stochconv_jax.ops import sample_windows, window_conv, window_size
from tests.ops import references

CASES = {
    "stem": {"image": (3, 40, 40, 3), "kernel": (3, 3, 3, 5), "out": (12, 12), "strides": (2, 2)},
    "rectangular": {"image": (2, 33, 47, 3), "kernel": (3, 5, 3, 4), "out": (9, 7), "strides": (2, 3)},
    "stride 1": {"image": (2, 19, 23, 2), "kernel": (2, 3, 2, 3), "out": (11, 13), "strides": (1, 1)},
    "stride 3": {"image": (2, 40, 38, 1), "kernel": (3, 3, 1, 2), "out": (8, 9), "strides": (3, 3)},
    "stride over kernel": {"image": (1, 30, 31, 3), "kernel": (1, 2, 3, 3), "out": (6, 7), "strides": (4, 3)},
    "large kernel": {"image": (2, 30, 31, 1), "kernel": (5, 6, 1, 2), "out": (5, 4), "strides": (2, 2)},
    "whole image": {"image": (2, 25, 29, 3), "kernel": (3, 3, 3, 3), "out": (12, 14), "strides": (2, 2)},
    "several strips": {"image": (2, 70, 22, 2), "kernel": (3, 3, 2, 2), "out": (66, 9), "strides": (1, 2)},
    "one pixel": {"image": (1, 3, 3, 3), "kernel": (3, 3, 3, 1), "out": (1, 1), "strides": (2, 2)},
}
SHAPES = [(True, True), (False, True), (True, False), (False, False)]  # whether each image, each filter has windows


def arrays(case, image_dtype=np.uint8, kernel_dtype=jnp.float32, per=(True, True), seed=0):
    """Draws image, windows, kernel and cotangent of a case; the last of the five results are its static arguments.

    `case` is a name in `CASES` or such a mapping; `per` is one of `SHAPES`.
    """
    case, rng = CASES[case] if isinstance(case, str) else case, np.random.default_rng(seed)
    (batch, *image_size, _), features = case["image"], case["kernel"][3]
    size = window_size(case["out"], case["kernel"][:2], case["strides"])
    last = np.subtract(image_size, size)
    windows = rng.integers(0, last + 1, (batch if per[0] else 1, features if per[1] else 1, 2))
    windows.reshape(-1, 2)[0] = last  # the last position is always among them
    image = rng.integers(0, 256, case["image"])
    image = image.astype(np.uint8) if image_dtype == np.uint8 else jnp.asarray(image / 256, image_dtype)
    kernel = jnp.asarray(rng.normal(size=case["kernel"]), kernel_dtype)
    g = jnp.asarray(rng.normal(size=(batch, *case["out"], features)), kernel_dtype)
    return (
        jnp.asarray(image),
        jnp.asarray(windows, jnp.int32),
        kernel,
        g,
        {"strides": case["strides"], "window_size": size},
    )


def in_float64(image, windows, kernel, g, **static):
    """Returns the reference's output and its gradients with respect to image and kernel, all float64."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a).astype(np.float64)) for a in (image, kernel, g)]
        conv = partial(references.window_conv, windows=windows, **static)
        return [np.asarray(a) for a in run(lambda image, kernel: conv(image, kernel=kernel), *wide)]


@partial(jax.jit, static_argnums=0)
def run(conv, image, kernel, g):
    """Returns conv(image, kernel) and its gradients with respect to the image, if that is float, and to the kernel."""
    if image.dtype == jnp.uint8:
        out, back = jax.vjp(partial(conv, image), kernel)
    else:
        out, back = jax.vjp(conv, image, kernel)
    return out, *back(g)


def ours(image, windows, kernel, g, **static):
    """Returns window_conv's output and gradients."""
    return run(lambda image, kernel: window_conv(image, windows, kernel, **static), image, kernel, g)


def assert_same(got, wanted, tolerance=2e-6):
    """Compares output, image gradient (absent for uint8) and kernel gradient, relative to the largest value of each."""
    for a, b in zip((got[0], *got[1:]), (wanted[0], *wanted[-len(got) + 1 :]), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_equals_crops(case, image_dtype=np.uint8, **settings):
    """Compares window_conv with the convolution of crops on the arrays of a case; see `arrays`."""
    *inputs, static = arrays(case, image_dtype, **settings)
    assert_same(ours(*inputs, **static), in_float64(*inputs, **static))


STEM = {"image_size": (300, 310), "window_size": (225, 225), "features": 4}


def stem_loss(image, examples, kernel, g, key, sampling):
    """Returns a loss of the window stem, and its output."""
    windows = sample_windows(key, **STEM, batch=image.shape[0], sampling=sampling, examples=examples)
    out = window_conv(image, windows, kernel, strides=(2, 2), window_size=STEM["window_size"])
    return (out * g).sum(), out


def stem_arrays(batch):
    """Draws the arguments of `stem_loss` but for `sampling`."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (batch, *STEM["image_size"], 3)).astype(np.uint8)
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    g = rng.normal(size=(batch, 112, 112, 4)).astype(np.float32)
    return image, np.arange(batch, dtype=np.uint32), kernel, g, jax.random.key(3)


def collectives(compiled):
    """Returns the result's shape and the kind of each collective: {'f32[3,3,3,4] all-reduce', ...}."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    lines = re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", compiled.as_text())
    return {f"{shape} {kind}" for shapes, kind in lines for shape in re.findall(r"\w+\[[\d,]*\]", shapes)}
