"""The stochastic convolution as a Flax NNX layer."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_bias_init, default_kernel_init
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt8

from stochconv_jax import ops


class StochasticConv(nnx.Module):
    """A strided convolution in which every filter reads its own random window of a large image.

    Computes what the Linen layer `stochconv_jax.StochasticConv` computes and takes the same settings. Like `nnx.Conv`,
    the layer is told the number of channels of the image. Every call draws new windows, from the stream 'windows' of
    `rngs` or, if there is none, from its default stream.

    Args:
      in_features: number of channels of the image, C.
      features: number of filters.
      output_size: (height, width) of the output.
      rngs: random streams that initialise the parameters and from which the layer forks its stream of windows.

    The other arguments are those of the Linen layer.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: tuple[int, int] = (3, 3),
        strides: tuple[int, int] = (2, 2),
        *,
        output_size: tuple[int, int],
        sampling: ops.Sampling = "per_image",
        filters_per_window: int = 1,
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
        self.output_size, self.strides = output_size, strides
        self.sampling: ops.Sampling = sampling
        self.filters_per_window = filters_per_window
        self.axes: ops.Axes = axes
        self.mean, self.std, self.dtype = mean, std, dtype

    def __call__(
        self,
        image: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
        examples: Integer[Array, " batch"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch {self.output_size[0]} {self.output_size[1]} features"]:
        """Convolves a random window of each image with each filter; see the Linen layer.

        Args:
          image: uint8 or float [B, H, W, in_features].
          examples: integers [B], the identity of each image; by default the row numbers 0, ..., B - 1.
          key: a JAX random key from which to draw the windows, instead of the layer's own stream.

        Returns:
          float [B, *output_size, features] of `dtype`.

        Raises:
          ValueError: the image is smaller than a window, or only one of `mean` and `std` is given.
        """
        out, _ = ops.stochastic_conv(
            self.rngs() if key is None else key,
            image,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            output_size=self.output_size,
            strides=self.strides,
            sampling=self.sampling,
            filters_per_window=self.filters_per_window,
            axes=self.axes,
            examples=examples,
            mean=self.mean,
            std=self.std,
        )
        return out if self.dtype is None else out.astype(self.dtype)
