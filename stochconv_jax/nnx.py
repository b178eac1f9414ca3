"""The stochastic convolution as a Flax NNX layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_bias_init, default_kernel_init

from stochconv_jax import ops


class StochasticConv(nnx.Module):
    """A strided convolution in which every filter reads its own random window of a large image.

    Computes what the Linen layer `stochconv_jax.StochasticConv` computes, and takes the same settings. Like
    `nnx.Conv`, it is told the number of the image's channels. Draws windows from the stream 'windows' of `rngs`, or
    from its default stream, and anew in every call.

    Args:
      in_features: channels of the image, C.
      features: number of filters.
      output_size: (height, width) of the output.
      rngs: initialises the parameters and gives the layer its stream of windows.

    The other arguments are those of the Linen layer.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        output_size: tuple[int, int],
        kernel_size: tuple[int, int] = (3, 3),
        strides: tuple[int, int] = (2, 2),
        *,
        sampling: ops.Sampling = "per_image",
        axes: ops.Axes = "independent",
        use_bias: bool = True,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: nnx.Initializer = default_kernel_init,
        bias_init: nnx.Initializer = default_bias_init,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (*kernel_size, in_features, features), param_dtype))
        self.bias = nnx.Param(bias_init(rngs.params(), (features,), param_dtype)) if use_bias else nnx.data(None)
        self.rngs = rngs["windows"].fork()
        self.output_size, self.strides, self.sampling, self.axes = output_size, strides, sampling, axes
        self.mean, self.std, self.dtype = mean, std, dtype

    def __call__(self, image: jax.Array, examples: jax.Array | None = None, *, key: jax.Array | None = None):
        """Convolves a random window of each image with each filter; see the Linen layer.

        Args:
          image: uint8 or float `[B, H, W, in_features]`.
          examples: integers `[B]`, the identity of each image; default 0 .. B - 1.
          key: draws the windows instead of the layer's own stream.

        Returns:
          `[B, *output_size, features]` in `dtype`.
        """
        out, _ = ops.stochastic_conv(
            self.rngs() if key is None else key,
            image,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            output_size=self.output_size,
            strides=self.strides,
            sampling=self.sampling,
            axes=self.axes,
            examples=examples,
            mean=self.mean,
            std=self.std,
        )
        return out if self.dtype is None else out.astype(self.dtype)
