"""The one classifier: a thumbnail branch, a window branch or both, and the depth at which they meet.

Every model of the report is a choice of `branches` and `merge_after`; see README for the table.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    """The stem of the window branch: a stochastic convolution, batch norm and swish."""

    conv: StochasticConv
    layers: LayerConfig

    @nn.compact
    def __call__(self, pixels: jax.Array, examples: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(pixels, examples)
        return nn.swish(self.layers.norm(x, train=train, name="norm"))


class Stages(nn.Module):
    """The variant's stages `first`..`last` (1-based, both included), then the head if `head`."""

    variant: Variant
    first: int
    last: int
    head: bool
    stochastic_depth: float
    remat: bool
    layers: LayerConfig

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
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
    """EfficientNet over a thumbnail, over random windows of the full image, or over both.

    `branches`: ('thumbnail',), ('windows',) or both. With both, each branch has its own stem and stages 1..m,
    m = `merge_after`; there the channels are concatenated and one trunk goes on. `merge_after='head'`: two whole
    networks, whose pooled features are concatenated. `window_output`: height and width of the window stem's output.

    Call with a mapping of 'thumbnail' uint8 `[B, h, w, 3]` and/or 'image' uint8 `[B, H, W, 3]`, and 'example' uint32
    `[B]` (identities, from which windows are drawn) -> float32 logits `[B, num_classes]`. Rng streams: 'windows'
    always where that branch is, 'dropout' and 'stochastic_depth' in training.

    `__call__` is `join` of `encode` of each branch. They are public because several passes over the same image differ
    in the windows alone: the thumbnail is encoded once for all of them.
    """

    variant: Variant
    branches: tuple[str, ...] = BRANCHES
    merge_after: int | str = HEAD
    num_classes: int = 1
    window_output: tuple[int, int] = (112, 112)
    sampling: str = "per_image"
    axes: str = "independent"
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    remat: bool = False
    layers: LayerConfig = LayerConfig()

    def setup(self):
        self._check()
        variant, layers, last = self.variant, self.layers, len(self.variant.stages)
        single = len(self.branches) == 1
        self.meet = HEAD if single else self.merge_after
        depth = last if self.meet == HEAD else self.meet

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
    def sown_windows(intermediates: Mapping[str, Any]) -> jax.Array:
        """Returns the windows that the window branch has sown, int32 `[B or 1, filters or 1, 2]` of (top, left).

        `intermediates`: the collection of that name that `apply` returns for a method that calls the stem.
        """
        (windows,) = intermediates["windows_stem"]["conv"][WINDOWS]
        return windows

    @staticmethod
    def stem_kernel(params: Mapping[str, Any], branch: str) -> jax.Array:
        """Returns the filters of the first layer of `branch`, `[height, width, 3, filters]`."""
        return params[f"{branch}_stem"]["conv"]["kernel"]

    def _check(self):
        stages = len(self.variant.stages)
        if not self.branches or not set(self.branches) <= set(BRANCHES) or len(set(self.branches)) < len(self.branches):
            raise ValueError(f"config.model.branches={self.branches!r}: name 'thumbnail', 'windows' or both, once each")
        if self.merge_after != HEAD and self.merge_after not in range(stages + 1):
            raise ValueError(f"config.model.merge_after={self.merge_after!r}: expected 0..{stages} or 'head'")

    def encode(self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False) -> jax.Array:
        """What `branch` hands to the meeting point: a feature map, or pooled features where it is the head."""
        stages = self.thumbnail if branch == "thumbnail" else self.windows
        return stages(self.stem(branch, inputs, train=train), train=train)

    def stem(self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False) -> jax.Array:
        """The feature maps of `branch`'s first layer, `[B, h, w, filters]`."""
        if branch == "thumbnail":
            return self.thumbnail_stem(inputs["thumbnail"], train=train)
        return self.windows_stem(inputs["image"], inputs["example"], train=train)

    def join(self, features: Mapping[str, jax.Array], *, train: bool = False) -> jax.Array:
        """Logits `[B, num_classes]` from what `encode` gave for each branch."""
        parts = [features[branch] for branch in BRANCHES if branch in self.branches]
        shapes = {part.shape[:-1] for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"the branches meet with other shapes: {shapes}; window_output must be half the thumbnail")
        x = jnp.concatenate(parts, axis=-1)
        if self.meet != HEAD:
            x = self.merged(x, train=train)
        return self.classifier(self.drop(x, deterministic=not train))

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool = False) -> jax.Array:
        return self.join({b: self.encode(b, inputs, train=train) for b in self.branches}, train=train)
