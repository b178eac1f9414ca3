"""The parts of EfficientNet (Tan & Le, 2019): stem, MBConv blocks, stages and head, as Flax modules on NHWC arrays.

Padding is TensorFlow's 'SAME' unless `Conventions` say otherwise. A 1x1 convolution is computed as a dense layer over
the channels, which is the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray, UInt8

from stochconv_jax import ops
from stochconv_jax.models.variants import StageSpec, Variant

GROUP_SIZE = 8  # channels of a group in group norm (Wu & He, 2018): all widths of EfficientNets are multiples of it
# Normal with standard deviation sqrt(2 / fan_out), fan_out = kh * kw * filters.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform between -1 / sqrt(classes) and 1 / sqrt(classes).
classifier_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_out", "uniform")


def depthwise_init(key, shape, dtype=jnp.float32):
    """Draws a kernel [kh, kw, C] from a normal distribution with standard deviation sqrt(2 / (kh * kw)).

    That is sqrt(2 / fan_out) for a depthwise convolution, in which each filter has one output channel.
    """
    kernel_height, kernel_width, _ = shape
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2.0 / (kernel_height * kernel_width)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Conventions:
    """Choices in which networks called EfficientNet differ. The defaults are those of the official one.

    Attributes:
      share_repeats: whether all blocks of a stage after its first are one block with one set of weights.
      activation: the function that follows batch norms.
      squeeze_excite: whether blocks have squeeze-and-excite layers.
      project_activation: whether the activation follows a block's projection too.
      head_activation: whether the activation follows the head's convolution.
      squeeze_bias: whether squeeze-and-excite layers have a bias.
      stem_bias: whether the ordinary stem has a bias; the stochastic stem never has one.
      stem_padding: padding of the ordinary stem, as `nn.Conv` takes it. 'SAME' is TensorFlow's: of an image with even
        sides it pads only below and on the right.
      depthwise_padding: padding of depthwise convolutions, as `ops.depthwise_conv` takes it.
      batch_norm_epsilon: added to the variance in batch norm.
    """

    share_repeats: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.swish
    squeeze_excite: bool = True
    project_activation: bool = False
    head_activation: bool = True
    squeeze_bias: bool = True
    stem_bias: bool = False
    stem_padding: Any = "SAME"
    depthwise_padding: Literal["SAME", "SYMMETRIC"] = "SAME"
    batch_norm_epsilon: float = 1e-3

    def of_variant(self, variant: Variant) -> "Conventions":
        """Returns the conventions of the network `variant`: those of Lite networks differ in two."""
        if not variant.lite:
            return self
        return dataclasses.replace(self, activation=nn.relu6, squeeze_excite=False)


CONVENTIONS = {
    "official": Conventions(),
    # The networks of timm whose names do not begin with tf_, and those of torchvision.
    "torch": Conventions(stem_padding=((1, 1), (1, 1)), depthwise_padding="SYMMETRIC", batch_norm_epsilon=1e-5),
    # The report's published code, which differs from the text of the report and from EfficientNet.
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
    """Settings that all layers of a network share.

    Attributes:
      dtype: dtype of activations; parameters and batch statistics are float32.
      batch_norm_momentum: share of the old running statistics that a training step keeps.
      normalization: 'batch', over a channel of all images, or 'group', over `GROUP_SIZE` channels of each image.
      conventions: choices in which EfficientNets differ.
    """

    dtype: Any = jnp.float32
    batch_norm_momentum: float = 0.99
    normalization: Literal["batch", "group"] = "batch"
    conventions: Conventions = Conventions()

    def norm(self, x: Float[Array, "*shape"], *, train: bool, name: str) -> Float[Array, "*shape"]:
        """Applies batch norm over the global batch, or group norm. Statistics are float32, the result is of `dtype`."""
        settings = {"epsilon": self.conventions.batch_norm_epsilon, "dtype": self.dtype, "name": name}
        with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 means from bfloat16 activations
            if self.normalization == "group":
                return nn.GroupNorm(num_groups=None, group_size=GROUP_SIZE, **settings)(x)
            return nn.BatchNorm(use_running_average=not train, momentum=self.batch_norm_momentum, **settings)(x)

    def pointwise(self, filters: int, *, name: str, use_bias: bool = False) -> nn.Dense:
        """Returns a 1x1 convolution with `filters` output channels."""
        return nn.Dense(
            filters, use_bias=use_bias, dtype=self.dtype, kernel_init=conv_init, dot_general=_over_channels, name=name
        )


def _over_channels(x: jax.Array, kernel: jax.Array, dimension_numbers, precision=None) -> jax.Array:
    """Replaces lax.dot_general in `nn.Dense`."""
    # Dense always contracts x's last axis with the kernel's first, and `LayerConfig.pointwise` sets no precision.
    del dimension_numbers, precision
    return ops.pointwise_conv(x, kernel)


class DepthwiseConv(nn.Module):
    """A depthwise convolution that pads by the conventions: one filter of `kernel` x `kernel` pixels per channel.

    Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C].
    """

    kernel: int
    stride: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch _ _ channels"]:
        kernel = self.param("kernel", depthwise_init, (self.kernel, self.kernel, x.shape[-1]))
        strides = (self.stride, self.stride)
        padding = self.layers.conventions.depthwise_padding
        return ops.depthwise_conv(x, kernel.astype(self.layers.dtype), strides=strides, padding=padding)


class SqueezeExcite(nn.Module):
    """Squeeze and excite (Hu et al., 2018): scales each channel by a gate in 0..1.

    The gates are computed from the means of all channels over the image, through a layer of `filters` channels.
    """

    filters: int
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        bias = self.layers.conventions.squeeze_bias
        gate = x.mean(axis=(1, 2), keepdims=True)
        gate = nn.swish(self.layers.pointwise(self.filters, name="squeeze", use_bias=bias)(gate))
        return x * nn.sigmoid(self.layers.pointwise(x.shape[-1], name="excite", use_bias=bias)(gate))


class MBConv(nn.Module):
    """A mobile inverted bottleneck: 1x1 expansion, depthwise convolution, squeeze and excite, 1x1 projection.

    Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), filters]. If input and output have the same shape, the
    input is added; `survival`, if given, then scales the block's own contribution to each example, see
    `survival_scales`.

    Attributes:
      filters: number of output channels.
      expansion: ratio of the channels in the depthwise convolution to the input's.
      kernel: side of the depthwise filters, in pixels.
      stride: stride of the depthwise convolution, in pixels.
      layers: settings of all layers.
    """

    filters: int
    expansion: int
    kernel: int
    stride: int
    layers: LayerConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], survival: Float32[Array, " batch"] | None, *, train: bool
    ) -> Float[Array, "batch _ _ {self.filters}"]:
        layers, conventions, filters_in, y = self.layers, self.layers.conventions, x.shape[-1], x
        if self.expansion != 1:
            y = layers.pointwise(filters_in * self.expansion, name="expand")(y)
            y = conventions.activation(layers.norm(y, train=train, name="expand_norm"))
        y = DepthwiseConv(self.kernel, self.stride, layers, name="depthwise")(y)
        y = conventions.activation(layers.norm(y, train=train, name="depthwise_norm"))
        if conventions.squeeze_excite:
            y = SqueezeExcite(max(1, int(0.25 * filters_in)), layers, name="squeeze_excite")(y)
        y = layers.pointwise(self.filters, name="project")(y)
        y = layers.norm(y, train=train, name="project_norm")
        y = conventions.activation(y) if conventions.project_activation else y
        if x.shape != y.shape:
            return y
        return x + (y if survival is None else y * survival.astype(y.dtype)[:, None, None, None])


class Stage(nn.Module):
    """A stage of `spec.repeats` MBConv blocks. `survival` has a row for each block, see `survival_scales`."""

    spec: StageSpec
    layers: LayerConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        survival: Float32[Array, "blocks batch"] | None,
        train: bool,
    ) -> Float[Array, "batch _ _ {self.spec.filters}"]:
        spec, share = self.spec, self.layers.conventions.share_repeats
        for index in range(spec.repeats):
            if index < 2 or not share:
                stride = spec.stride if index == 0 else 1
                block = MBConv(spec.filters, spec.expansion, spec.kernel, stride, self.layers, name=f"block{index + 1}")
            x = block(x, None if survival is None else survival[index], train=train)
        return x


def survival_scales(
    key: PRNGKeyArray, variant: Variant, max_rate: float, batch: int
) -> Float32[Array, "blocks {batch}"]:
    """Draws, for stochastic depth (Huang et al., 2016), the scale of each block's contribution to each example.

    Block i of n (1-based) is dropped, with scale 0, with probability `max_rate * (i - 1) / n`. Otherwise its scale is
    the inverse of the probability to survive, which keeps the mean. All blocks share one draw, because a random
    generator in every block would cost seconds of compilation each.
    """
    survival = 1.0 - max_rate * jnp.arange(variant.num_blocks(), dtype=jnp.float32)[:, None] / variant.num_blocks()
    kept = jax.random.uniform(key, (variant.num_blocks(), batch)) < survival
    return jnp.where(kept, 1.0 / survival, 0.0)


class Stem(nn.Module):
    """The ordinary stem: normalisation, 3x3 convolution with stride 2, batch norm and activation.

    Maps pixels [B, H, W, 3], uint8 or float in 0..255, to [B, ceil(H / 2), ceil(W / 2), filters]. `mean` and `std`
    normalise pixels in 0..1.
    """

    filters: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: LayerConfig

    @nn.compact
    def __call__(
        self, pixels: UInt8[Array, "batch height width 3"] | Float[Array, "batch height width 3"], *, train: bool
    ) -> Float[Array, "batch _ _ {self.filters}"]:
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
        return self.layers.conventions.activation(self.layers.norm(x, train=train, name="norm"))


class Head(nn.Module):
    """1x1 convolution, batch norm, activation and mean over the image: maps [B, H, W, C] to float32 [B, filters]."""

    filters: int
    layers: LayerConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float32[Array, "batch {self.filters}"]:
        x = self.layers.pointwise(self.filters, name="conv")(x)
        conventions, x = self.layers.conventions, self.layers.norm(x, train=train, name="norm")
        x = conventions.activation(x) if conventions.head_activation else x
        return x.mean(axis=(1, 2), dtype=jnp.float32)
