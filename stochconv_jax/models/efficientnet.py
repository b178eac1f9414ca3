"""EfficientNet's parts (Tan & Le, 2019): stem, MBConv blocks, stages and head, as Flax modules on NHWC arrays.

Padding is TensorFlow's 'SAME'. 1x1 convolutions are dense layers over the channels, which they equal.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stochconv_jax import ops
from stochconv_jax.models.variants import StageSpec, Variant

# N(0, sqrt(2 / fan_out)), fan_out = kh * kw * filters.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# U(+-1 / sqrt(classes)).
classifier_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_out", "uniform")


def depthwise_init(key, shape, dtype=jnp.float32):
    """N(0, sqrt(2 / (kh * kw))) for a kernel `[kh, kw, C]`: each filter reads, and feeds, one channel only."""
    kernel_height, kernel_width, _ = shape
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2.0 / (kernel_height * kernel_width)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Conventions:
    """In what the networks called EfficientNet differ. The defaults are the official one's (Tan & Le, 2019).

    `share_repeats`: all repeats of a stage after its first block are one block, with one set of weights.
    `stem_padding`: 'SAME' is TensorFlow's, which pads an even image below and to the right only.
    """

    share_repeats: bool = False
    project_activation: bool = False  # swish after a block's projection
    head_activation: bool = True  # swish after the head's convolution
    squeeze_bias: bool = True
    stem_bias: bool = False  # of the ordinary stem; the stochastic one never has any
    stem_padding: Any = "SAME"
    batch_norm_epsilon: float = 1e-3


CONVENTIONS = {
    "official": Conventions(),
    # What the report's published code computes, as against what the report and EfficientNet say.
    "as_published": Conventions(
        share_repeats=True,
        project_activation=True,
        head_activation=False,
        squeeze_bias=False,
        stem_bias=True,
        stem_padding=((1, 1), (1, 1)),
        batch_norm_epsilon=1e-5,
    ),
}


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """How every block computes. `dtype` is that of activations; parameters and statistics stay float32."""

    dtype: Any = jnp.float32
    batch_norm_momentum: float = 0.99
    conventions: Conventions = Conventions()

    def norm(self, x: jax.Array, *, train: bool, name: str) -> jax.Array:
        """Batch norm over the global batch; statistics in float32, result in `dtype`."""
        with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 means from bfloat16 activations
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=self.batch_norm_momentum,
                epsilon=self.conventions.batch_norm_epsilon,
                dtype=self.dtype,
                name=name,
            )(x)

    def pointwise(self, filters: int, *, name: str, use_bias: bool = False) -> nn.Dense:
        """A 1x1 convolution."""
        return nn.Dense(
            filters, use_bias=use_bias, dtype=self.dtype, kernel_init=conv_init, dot_general=_over_channels, name=name
        )


def _over_channels(x: jax.Array, kernel: jax.Array, dimension_numbers, precision=None) -> jax.Array:
    """What `nn.Dense` asks lax.dot_general for."""
    del dimension_numbers, precision  # always x's last axis and the kernel's first; pointwise layers set no precision
    return ops.pointwise_conv(x, kernel)


class DepthwiseConv(nn.Module):
    """One `kernel` x `kernel` filter a channel, padding 'SAME': `[B, H, W, C]` -> `[B, ceil(H / stride), .., C]`."""

    kernel: int
    stride: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", depthwise_init, (self.kernel, self.kernel, x.shape[-1]))
        strides = (self.stride, self.stride)
        return ops.depthwise_conv(x, kernel.astype(self.layers.dtype), strides=strides, padding="SAME")


class SqueezeExcite(nn.Module):
    """Scales the channels of `[B, H, W, C]` by a gate computed from their means, through `filters` channels."""

    filters: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = self.layers.conventions.squeeze_bias
        gate = x.mean(axis=(1, 2), keepdims=True)
        gate = nn.swish(self.layers.pointwise(self.filters, name="squeeze", use_bias=bias)(gate))
        return x * nn.sigmoid(self.layers.pointwise(x.shape[-1], name="excite", use_bias=bias)(gate))


class MBConv(nn.Module):
    """Expand, depthwise convolution, squeeze and excite, project: `[B, H, W, C]` -> `[B, H/s, W/s, filters]`.

    Where input and output agree in shape the input is added. There `survival` `[B]`, if given, scales what the block
    adds, example by example (see `survival_scales`).
    """

    filters: int
    expansion: int
    kernel: int
    stride: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array, survival: jax.Array | None, *, train: bool) -> jax.Array:
        layers, filters_in, y = self.layers, x.shape[-1], x
        if self.expansion != 1:
            y = layers.pointwise(filters_in * self.expansion, name="expand")(y)
            y = nn.swish(layers.norm(y, train=train, name="expand_norm"))
        y = DepthwiseConv(self.kernel, self.stride, layers, name="depthwise")(y)
        y = nn.swish(layers.norm(y, train=train, name="depthwise_norm"))
        y = SqueezeExcite(max(1, int(0.25 * filters_in)), layers, name="squeeze_excite")(y)
        y = layers.pointwise(self.filters, name="project")(y)
        y = layers.norm(y, train=train, name="project_norm")
        y = nn.swish(y) if layers.conventions.project_activation else y
        if x.shape != y.shape:
            return y
        return x + (y if survival is None else y * survival.astype(y.dtype)[:, None, None, None])


class Stage(nn.Module):
    """`spec.repeats` MBConv blocks; `survival` `[repeats, B]` or None, see `survival_scales`."""

    spec: StageSpec
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array, survival: jax.Array | None, train: bool) -> jax.Array:
        spec, share = self.spec, self.layers.conventions.share_repeats
        for index in range(spec.repeats):
            if index < 2 or not share:
                stride = spec.stride if index == 0 else 1
                block = MBConv(spec.filters, spec.expansion, spec.kernel, stride, self.layers, name=f"block{index + 1}")
            x = block(x, None if survival is None else survival[index], train=train)
        return x


def survival_scales(key: jax.Array, variant: Variant, max_rate: float, batch: int) -> jax.Array:
    """Stochastic depth (Huang et al., 2016): what each block's contribution is scaled by, float32 `[blocks, B]`.

    Block i of n is dropped for a whole example with probability `max_rate * i / n`, and otherwise scaled up to keep the
    mean. One draw serves all blocks: a generator in every block would cost seconds of compilation each.
    """
    survival = 1.0 - max_rate * jnp.arange(variant.num_blocks(), dtype=jnp.float32)[:, None] / variant.num_blocks()
    kept = jax.random.uniform(key, (variant.num_blocks(), batch)) < survival
    return jnp.where(kept, 1.0 / survival, 0.0)


class Stem(nn.Module):
    """Normalisation, then 3x3 convolution of stride 2, batch norm and swish.

    Pixels `[B, H, W, 3]`, uint8 or float in 0..255 -> `[B, ceil(H/2), ceil(W/2), filters]`.
    """

    filters: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: LayerConfig

    @nn.compact
    def __call__(self, pixels: jax.Array, *, train: bool) -> jax.Array:
        x = (pixels.astype(jnp.float32) / 255.0 - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        x = nn.Conv(
            self.filters,
            (3, 3),
            strides=2,
            padding=self.layers.conventions.stem_padding,
            use_bias=self.layers.conventions.stem_bias,
            dtype=self.layers.dtype,
            kernel_init=conv_init,
            name="conv",
        )(x)
        return nn.swish(self.layers.norm(x, train=train, name="norm"))


class Head(nn.Module):
    """1x1 convolution, batch norm, swish, global mean: `[B, H, W, C]` -> float32 `[B, filters]`."""

    filters: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.layers.pointwise(self.filters, name="conv")(x)
        x = self.layers.norm(x, train=train, name="norm")
        x = nn.swish(x) if self.layers.conventions.head_activation else x
        return x.mean(axis=(1, 2), dtype=jnp.float32)
