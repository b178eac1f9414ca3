"""The one classifier: an EfficientNet with a thumbnail branch, a window branch or both, which meet at a chosen depth.

Every model of the report is a choice of `branches` and `merge_after`; the README has a table of them.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32, UInt8, UInt32

from stochconv_jax import ops
from stochconv_jax.models.efficientnet import (
    Head,
    LayerConfig,
    Stage,
    Stem,
    classifier_init,
    conv_init,
    survival_scales,
)
from stochconv_jax.models.stochastic_conv import WINDOWS, StochasticConv
from stochconv_jax.models.variants import Variant

BRANCHES = ("thumbnail", "windows")
HEAD = "head"


class WindowStem(nn.Module):
    """The stem of the window branch: a stochastic convolution, batch norm and swish.

    Maps pixels [B, H, W, 3] and the examples' identities [B] to [B, *conv.output_size, conv.features].
    """

    conv: StochasticConv
    layers: LayerConfig

    @nn.compact
    def __call__(
        self, pixels: UInt8[Array, "batch height width 3"], examples: UInt32[Array, " batch"], *, train: bool
    ) -> Float[Array, "batch stem_height stem_width filters"]:
        x = self.conv(pixels, examples)
        return nn.swish(self.layers.norm(x, train=train, name="norm"))


class Stages(nn.Module):
    """The stages `first`, ..., `last` of the variant, numbered from 1, and then its head if `head` is true.

    Maps features [B, h, w, C] to features [B, h', w', C'], or with the head to pooled features [B, C'].
    """

    variant: Variant
    first: int
    last: int
    head: bool
    stochastic_depth: float
    remat: bool
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], *, train: bool) -> Float[Array, "batch ..."]:
        stage_class = nn.remat(Stage, static_argnums=(3,)) if self.remat else Stage
        scales = None
        if train and self.stochastic_depth:
            scales = survival_scales(self.make_rng("stochastic_depth"), self.variant, self.stochastic_depth, len(x))
        block = sum(spec.repeats for spec in self.variant.stages[: self.first - 1])
        for number in range(self.first, self.last + 1):
            spec = self.variant.stages[number - 1]
            survival = None if scales is None else scales[block : block + spec.repeats]
            x = stage_class(spec, self.layers, name=f"stage{number}")(x, survival, train)
            block += spec.repeats
        if self.head:
            x = Head(self.variant.head_filters, self.layers, name="head")(x, train=train)
        return x


class Classifier(nn.Module):
    """EfficientNet on a thumbnail, on random windows of the full image, or on both.

    Each branch has a stem and the stages 1, ..., m of its own. There the branches' channels are concatenated, and one
    trunk with the stages m + 1, ... and the head goes on. With `merge_after='head'`, each branch is a whole network,
    and the pooled features are concatenated. Dropout and a dense layer follow.

    The inputs are a mapping of 'thumbnail', uint8 [B, h, w, 3], and/or 'image', uint8 [B, H, W, 3], and with the latter
    'example', uint32 [B], the images' identities from which the windows are drawn. The result is float32 logits
    [B, num_classes]. Rng streams: 'windows' for the window branch, always; 'dropout' and 'stochastic_depth' in
    training.

    `__call__` is `join` of the `encode` of each branch. Both are public because several passes over an image differ
    only in their windows, so that the thumbnail needs to be encoded only once.

    Attributes:
      variant: the EfficientNet, see `variants.VARIANTS`.
      branches: ('thumbnail',), ('windows',) or both.
      merge_after: the stage m after which two branches meet, 0 for right after the stems, or 'head'. Ignored for one
        branch.
      num_classes: number of logits; 1 for two classes.
      window_output: (height, width) of the window stem's output. Where branches meet before the head it must be half
        the thumbnail's size, rounded up.
      sampling: which filters share a window, see `ops.sample_windows`.
      axes: how a window's place is drawn, see `ops.sample_windows`.
      dropout: rate before the dense layer.
      stochastic_depth: the largest rate at which a block may be dropped, see `survival_scales`.
      remat: whether to recompute activations in the backward pass, stage by stage, instead of keeping them.
      layers: settings of all layers.
    """

    variant: Variant
    branches: tuple[str, ...] = BRANCHES
    merge_after: int | str = HEAD
    num_classes: int = 1
    window_output: tuple[int, int] = (112, 112)
    sampling: ops.Sampling = "per_image"
    axes: ops.Axes = "independent"
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    remat: bool = False
    layers: LayerConfig = LayerConfig()

    def setup(self):
        self._check()
        variant, layers, last = self.variant, self.layers, len(self.variant.stages)
        self.meet = HEAD if len(self.branches) == 1 else self.merge_after
        depth = last if self.meet == HEAD else int(self.meet)

        def stages(first: int, last: int, head: bool) -> Stages:
            return Stages(variant, first, last, head, self.stochastic_depth, self.remat, layers)

        if "thumbnail" in self.branches:
            self.thumbnail_stem = Stem(variant.stem_filters, variant.mean, variant.std, layers)
            self.thumbnail = stages(1, depth, self.meet == HEAD)
        if "windows" in self.branches:
            self.windows_stem = WindowStem(self._stochastic_conv(), layers)
            self.windows = stages(1, depth, self.meet == HEAD)
        if self.meet != HEAD:
            self.merged = stages(depth + 1, last, True)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = nn.Dense(self.num_classes, kernel_init=classifier_init)

    def _stochastic_conv(self) -> StochasticConv:
        """Returns the first layer of the window branch, of which `windows_stem` becomes the parent."""
        return StochasticConv(
            self.variant.stem_filters,
            self.window_output,
            sampling=self.sampling,
            axes=self.axes,
            use_bias=False,
            mean=self.variant.mean,
            std=self.variant.std,
            dtype=self.layers.dtype,
            kernel_init=conv_init,
            parent=None,
        )

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the windows of the window branch."""
        return self._stochastic_conv().window_size

    @staticmethod
    def stem_kernel(params: Mapping[str, Any], branch: str) -> jax.Array:
        """Returns the filters of the first layer of `branch`, `[height, width, 3, filters]`."""
        return params[f"{branch}_stem"]["conv"]["kernel"]

    def _check(self):
        stages = len(self.variant.stages)
        if not self.branches or not set(self.branches) <= set(BRANCHES) or len(set(self.branches)) < len(self.branches):
            raise ValueError(f"branches={self.branches!r}: name 'thumbnail', 'windows' or both, once each")
        if self.merge_after != HEAD and self.merge_after not in range(stages + 1):
            raise ValueError(f"merge_after={self.merge_after!r}: expected 0..{stages} or 'head'")

    def encode(
        self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float[Array, "batch ... channels"]:
        """Returns the features of `branch` where the branches meet: [B, h, w, C], or pooled [B, C] at the head."""
        stages = self.thumbnail if branch == "thumbnail" else self.windows
        return stages(self.stem(branch, inputs, train=train), train=train)

    def stem(
        self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float[Array, "batch height width filters"]:
        """Returns the output of the stem of `branch`."""
        if branch == "thumbnail":
            return self.thumbnail_stem(inputs["thumbnail"], train=train)
        return self.windows_stem(inputs["image"], inputs["example"], train=train)

    def join(
        self, features: Mapping[str, Float[Array, "batch ... _"]], *, train: bool = False
    ) -> Float32[Array, "batch {self.num_classes}"]:
        """Returns the logits from what `encode` returned for each branch.

        Raises ValueError if the branches meet before the head with different heights or widths.
        """
        parts = [features[branch] for branch in BRANCHES if branch in self.branches]
        shapes = {part.shape[:-1] for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"the branches meet with different shapes: {shapes}; window_output must be half the thumbnail's size"
            )
        x = jnp.concatenate(parts, axis=-1)
        if self.meet != HEAD:
            x = self.merged(x, train=train)
        return self.classifier(self.drop(x, deterministic=not train))

    def __call__(
        self, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float32[Array, "batch {self.num_classes}"]:
        """Returns the logits."""
        return self.join({b: self.encode(b, inputs, train=train) for b in self.branches}, train=train)


def sown_windows(intermediates: Mapping[str, Any]) -> Int32[Array, "#batch #filters 2"]:
    """Returns the windows that one call of a Classifier drew, (top, left) in pixels, from its 'intermediates'."""
    (windows,) = intermediates["windows_stem"]["conv"][WINDOWS]
    return windows
