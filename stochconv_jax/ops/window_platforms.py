"""Chooses how window_conv and its gradients are computed on the platform that the program is compiled for.

GPU: `window_gpu`. TPU: the kernels of `window_tpu`, where `window_tpu_tiling.output_tiles` finds that they support the
convolution. Everything else: the loops of `window_loops`.

The functions of those modules are wrapped in `jax.jit`, so that calls with equal shapes share one trace: in training
and in evaluation, and in each branch that reads windows.

Under `jax.vmap`, each function here becomes a loop over the new axis, since batching the loops themselves would gather
the windows of many images.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap

from stochconv_jax.ops import window_gpu, window_loops, window_tpu
from stochconv_jax.ops.window_tpu_tiling import Tiles, output_tiles
from stochconv_jax.ops.windows import Size


def forward(image: jax.Array, windows: jax.Array, kernel: jax.Array, *, strides: Size, window_size: Size) -> jax.Array:
    """Returns the output [B, h, w, F] of kernel's dtype.

    Args:
      image: uint8 or float [B, H, W, C].
      windows: int32 [B, F, 2], (top, left) of windows inside the image.
      kernel: float [kh, kw, C, F].
      strides: (vertical, horizontal), in pixels.
      window_size: (height, width), in pixels.
    """

    @sequential_vmap
    def run(image, windows, kernel):
        tiles = output_tiles(image.shape, image.dtype, kernel.shape, kernel.dtype, strides, window_size)
        about = {"strides": strides, "window_size": window_size, "dtype": _accumulation_dtype(kernel.dtype)}
        gpu, loops = partial(window_gpu.forward, **about), partial(window_loops.forward, **about)
        return _by_accelerator(tiles, window_tpu.forward, gpu, loops)(image, windows, kernel)

    return run(image, windows, kernel)


def kernel_gradient(
    image: jax.Array,
    windows: jax.Array,
    g: jax.Array,
    *,
    strides: Size,
    window_size: Size,
    kernel_shape: tuple[int, ...],
    kernel_dtype: jax.typing.DTypeLike,
) -> jax.Array:
    """Returns the gradient of the kernel, [kh, kw, C, F], from the cotangent g [B, h, w, F]; see `forward`."""

    @sequential_vmap
    def run(image, windows, g):
        tiles = output_tiles(image.shape, image.dtype, kernel_shape, kernel_dtype, strides, window_size)
        about = {"strides": strides, "window_size": window_size, "dtype": _accumulation_dtype(kernel_dtype)}
        about["kernel_shape"] = kernel_shape
        gpu, loops = partial(window_gpu.kernel_gradient, **about), partial(window_loops.kernel_gradient, **about)
        return _by_accelerator(tiles, window_tpu.kernel_gradient, gpu, loops)(image, windows, g).astype(kernel_dtype)

    return run(image, windows, g)


def image_gradient(
    windows: jax.Array,
    kernel: jax.Array,
    g: jax.Array,
    *,
    strides: Size,
    window_size: Size,
    image_size: Size,
    image_dtype: jax.typing.DTypeLike,
) -> jax.Array:
    """Returns the gradient of a float image, [B, *image_size, C], from the cotangent g [B, h, w, F]; see `forward`."""

    @sequential_vmap
    def run(windows, kernel, g):
        about = {"strides": strides, "window_size": window_size, "dtype": _accumulation_dtype(kernel.dtype)}
        about["image_size"] = image_size
        gpu, loops = partial(window_gpu.image_gradient, **about), partial(window_loops.image_gradient, **about)
        return _by_accelerator(None, None, gpu, loops)(windows, kernel, g).astype(image_dtype)

    return run(windows, kernel, g)


def _accumulation_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
    """Returns the dtype of sums for a result of `dtype`: float32 at least."""
    return np.promote_types(dtype, np.float32)


def _by_accelerator(
    tiles: Tiles | None, tpu_kernels: Callable | None, gpu: Callable, loops: Callable
) -> Callable[..., jax.Array]:
    """Returns a function that runs `gpu` on a GPU, `tpu_kernels(tiles, ...)` on a TPU if there are tiles, else `loops`.

    The platform is the one that the program is lowered for. In x64 mode TPUs run the loops too, since the kernels count
    in 32 bits.
    """
    forms = {"cuda": gpu, "rocm": gpu}
    if tiles is not None and tpu_kernels is not None and not jax.config.jax_enable_x64:
        forms["tpu"] = partial(tpu_kernels, tiles)
    return lambda *args: lax.platform_dependent(*args, **forms, default=loops)
