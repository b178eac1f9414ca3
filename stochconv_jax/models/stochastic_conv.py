"""The stochastic convolution as a Flax layer (project report, 2021, section on stochastic convolutions)."""
import flax.linen as nn
import jax
import jax.numpy as jnp

from stochconv_jax import ops
from stochconv_jax.models.efficientnet import Rules, conv_init

WINDOWS = "windows"  # what the layer sows


class StochasticConv(nn.Module):
    """A strided convolution in which every output filter reads its own random window of a large image.

    Draws windows from the rng stream 'windows': for an example they depend on the stream's key and on the example's
    identity alone. The normalisation of the pixels is folded into the kernel and a constant per filter; a convolution
    without padding makes that exact, and no normalised copy of the image ever exists.

    Call with pixels `[B, H, W, 3]`, uint8 or float in 0..255, and `examples` uint32 `[B]` ->
    `[B, *output_size, filters]` in `rules.dtype`. Raises ValueError if the image is smaller than a window. Sows its
    windows, int32 `[B or 1, filters or 1, 2]` of (top, left), into 'intermediates' where the caller asks for those.
    """

    filters: int
    output_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rules: Rules
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (2, 2)
    sampling: str = "per_image"
    axes: str = "independent"

    @nn.compact
    def __call__(self, pixels: jax.Array, examples: jax.Array) -> jax.Array:
        batch, *image_size, channels = pixels.shape
        kernel = self.param("kernel", conv_init, (*self.kernel_size, channels, self.filters))
        window_size = ops.window_size(self.output_size, self.kernel_size, self.strides)
        windows = ops.sample_windows(
            self.make_rng("windows"),
            image_size=tuple(image_size),
            window_size=window_size,
            batch=batch,
            features=self.filters,
            sampling=self.sampling,
            axes=self.axes,
            examples=examples,
        )
        self.sow("intermediates", WINDOWS, windows)
        mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
        scaled = kernel / (255.0 * std)[:, None]
        offset = (kernel * (mean / std)[:, None]).sum((0, 1, 2))  # no product that a matrix unit would round
        x = ops.window_conv(pixels, windows, scaled, strides=self.strides, window_size=window_size)
        return (x - offset).astype(self.rules.dtype)
