"""Layers of equal shapes are traced once: tracing many layers costs little more than tracing one."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from stochconv_jax.ops import depthwise_conv, window_conv, window_gpu, window_loops, window_tpu

# No other test has these shapes, so that nothing here is traced before.
PIXELS, KERNEL, IMAGE, WINDOW = (2, 23, 19, 5), (3, 3, 5), (2, 61, 67, 3), (33, 41)
# The last ones are of the gradient by the image.
WINDOW_HELPERS = [(window_loops, "_lines"), (window_gpu, "_crops"), (window_tpu, "_corners")]
WINDOW_HELPERS += [(window_loops, "_window_gradient"), (window_gpu, "_planes")]


def depthwise(x, kernel):
    return depthwise_conv(x, kernel, strides=(1, 1), padding="SAME")


def windows(image, kernel):
    corners = jnp.zeros((2, 5, 2), jnp.int32)
    return window_conv(image, corners, kernel, strides=(2, 2), window_size=WINDOW)


@pytest.mark.parametrize(
    ("layer", "image", "kernel", "helpers"),
    [
        (depthwise, PIXELS, KERNEL, [(importlib.import_module("stochconv_jax.ops.depthwise_conv"), "_shift")]),
        (windows, IMAGE, (3, 3, 3, 5), WINDOW_HELPERS),
    ],
)
def test_more_layers_of_a_shape_are_not_traced_again(layer, image, kernel, helpers, monkeypatch):
    called = []

    def counted(name, function):
        return lambda *arguments: (called.append(name), function(*arguments))[1]

    for module, name in helpers:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))

    def trace(layers):
        def loss(kernels, x):
            return sum(layer(x, kernel).sum() for kernel in kernels)

        jax.make_jaxpr(jax.grad(loss, (0, 1)))([jnp.ones(kernel)] * layers, jnp.ones(image))

    trace(1)
    first = len(called)
    assert {name for _, name in helpers} == set(called)
    trace(4)
    assert len(called) == first
