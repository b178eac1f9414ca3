"""The one classifier: an EfficientNet with a thumbnail branch, a window branch or both, which meet at a chosen depth.

Every model of the report is a choice of `branches` and `merge_after`; the README has a table of them.
"""

import dataclasses
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
HEAD, METADATA = "head", "metadata"


class WindowStem(nn.Module):
    """The stem of the window branch: a stochastic convolution, batch norm and activation.

    Maps pixels [B, H, W, 3] and the examples' identities [B] to [B, *conv.output_size, conv.features].
    """

    conv: StochasticConv
    layers: LayerConfig

    @nn.compact
    def __call__(
        self, pixels: UInt8[Array, "batch height width 3"], examples: UInt32[Array, " batch"], *, train: bool
    ) -> Float[Array, "batch stem_height stem_width filters"]:
        x = self.conv(pixels, examples)
        return self.layers.conventions.activation(self.layers.norm(x, train=train, name="norm"))


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
    frozen: tuple[str, ...] = ()  # names of stages, or 'head', that compute as in evaluation also in training

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], *, train: bool) -> Float[Array, "batch ..."]:
        stage_class = nn.remat(Stage, static_argnums=(3,)) if self.remat else Stage
        scales = None
        if train and self.stochastic_depth:
            scales = survival_scales(self.make_rng("stochastic_depth"), self.variant, self.stochastic_depth, len(x))
        block = sum(spec.repeats for spec in self.variant.stages[: self.first - 1])
        for number in range(self.first, self.last + 1):
            spec = self.variant.stages[number - 1]
            trains = train and f"stage{number}" not in self.frozen
            survival = scales[block : block + spec.repeats] if scales is not None and trains else None
            x = stage_class(spec, self.layers, name=f"stage{number}")(x, survival, trains)
            block += spec.repeats
        if self.head:
            x = Head(self.variant.head_filters, self.layers, name="head")(x, train=train and "head" not in self.frozen)
        return x


class MetadataBranch(nn.Module):
    """The branch for metadata: two dense layers, each with batch norm and swish, and dropout between them.

    Maps features [B, F] to float32 [B, 128]. It is that of the winners of the SIIM-ISIC challenge of 2020 (Ha, Liu &
    Liu, 2020, arXiv:2010.05351, and the code that belongs to it).
    """

    layers: LayerConfig

    @nn.compact
    def __call__(self, features: Float32[Array, "batch features"], *, train: bool) -> Float32[Array, "batch 128"]:
        layers = dataclasses.replace(self.layers, dtype=jnp.float32)
        x = nn.swish(layers.norm(nn.Dense(512, name="dense1")(features), train=train, name="norm1"))
        x = nn.Dropout(0.3, deterministic=not train)(x)
        return nn.swish(layers.norm(nn.Dense(128, name="dense2")(x), train=train, name="norm2"))


class Classifier(nn.Module):
    """EfficientNet on a thumbnail, on random windows of the full image, or on both.

    Each branch has a stem and the stages 1, ..., m of its own. There the branches' channels are concatenated, and one
    trunk with the stages m + 1, ... and the head goes on. With `merge_after='head'`, each branch is a whole network,
    and the pooled features are concatenated. With `metadata_features`, the output of a MetadataBranch is concatenated
    to them. Dropout and a dense layer follow.

    The inputs are a mapping of 'thumbnail', uint8 [B, h, w, 3], and/or 'image', uint8 [B, H, W, 3], and with the latter
    'example', uint32 [B], the images' identities from which the windows are drawn; and 'metadata', float32 [B, F]. The
    result is float32 logits [B, num_classes]. Rng streams: 'windows' for the window branch, always; 'dropout' and
    'stochastic_depth' in training.

    `__call__` is `join` of the `encode` of each of `encoders`. Both are public because several passes over an image
    differ only in their windows, so that the thumbnail needs to be encoded only once.

    Attributes:
      variant: the EfficientNet, see `variants.VARIANTS`.
      branches: ('thumbnail',), ('windows',) or both.
      merge_after: the stage m after which two branches meet, 0 for right after the stems, or 'head'. Ignored for one
        branch.
      num_classes: number of logits; 1 for two classes.
      window_output: (height, width) of the window stem's output. Where branches meet before the head it must be half
        the thumbnail's size, rounded up.
      window_stem_filters: number of filters in the window branch's stem; 0 for as many as the variant has.
      sampling: which filters share a window, see `ops.sample_windows`.
      filters_per_window: number of consecutive filters that share a window, see `ops.sample_windows`.
      axes: how a window's place is drawn, see `ops.sample_windows`.
      dropout: rate before the dense layer.
      stochastic_depth: the largest rate at which a block may be dropped, see `survival_scales`.
      remat: whether to recompute activations in the backward pass, stage by stage, instead of keeping them.
      layers: settings of all layers.
      frozen: beginnings of the names of `parts` that compute as in evaluation also in training: batch norm uses its
        running statistics and leaves them as they are, and no block is dropped.
      metadata_features: number F of features of an image's metadata; 0 for a network that takes none.
    """

    variant: Variant
    branches: tuple[str, ...] = BRANCHES
    merge_after: int | str = HEAD
    num_classes: int = 1
    window_output: tuple[int, int] = (112, 112)
    window_stem_filters: int = 0
    sampling: ops.Sampling = "per_image"
    filters_per_window: int = 1
    axes: ops.Axes = "independent"
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    remat: bool = False
    layers: LayerConfig = LayerConfig()
    frozen: tuple[str, ...] = ()
    metadata_features: int = 0

    def setup(self):
        self._check()
        variant, last = self.variant, len(self.variant.stages)
        conventions = self.layers.conventions.of_variant(variant)
        layers = dataclasses.replace(self.layers, conventions=conventions)

        def stages(name: str, first: int, last: int, head: bool) -> Stages:
            frozen = tuple(part.partition("/")[2] for part in self._frozen_parts() if part.startswith(f"{name}/"))
            return Stages(variant, first, last, head, self.stochastic_depth, self.remat, layers, frozen)

        if "thumbnail" in self.branches:
            self.thumbnail_stem = Stem(variant.stem_filters, variant.mean, variant.std, layers)
            self.thumbnail = stages("thumbnail", 1, self.depth, self.meet == HEAD)
        if "windows" in self.branches:
            self.windows_stem = WindowStem(self._stochastic_conv(), layers)
            self.windows = stages("windows", 1, self.depth, self.meet == HEAD)
        if self.meet != HEAD:
            self.merged = stages("merged", self.depth + 1, last, True)
        if self.metadata_features:
            self.metadata = MetadataBranch(layers)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = nn.Dense(self.num_classes, kernel_init=classifier_init)

    @property
    def meet(self) -> int | str:
        """The stage after which the branches meet, or 'head', also for one branch."""
        return HEAD if len(self.branches) == 1 else self.merge_after

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names that `encode` takes: the branches and, if the network takes metadata, 'metadata'."""
        return (*self.branches, METADATA) if self.metadata_features else self.branches

    @property
    def depth(self) -> int:
        """The number of stages of each branch."""
        return len(self.variant.stages) if self.meet == HEAD else int(self.meet)

    def parts(self) -> list[str]:
        """Returns the names of stems, stages, heads and the classifier, with which the names of parameters begin."""
        stages = [f"stage{number}" for number in range(1, len(self.variant.stages) + 1)]
        own, joint = [*stages, "head"], []
        if self.meet != HEAD:
            own, joint = stages[: self.depth], [*stages[self.depth :], "head"]
        found = [part for b in self.branches for part in (f"{b}_stem", *(f"{b}/{name}" for name in own))]
        metadata = [METADATA] if self.metadata_features else []
        return [*found, *(f"merged/{name}" for name in joint), *metadata, "classifier"]

    def _frozen_parts(self) -> list[str]:
        return [part for part in self.parts() if part.startswith(self.frozen)]

    def _stochastic_conv(self) -> StochasticConv:
        """Returns the first layer of the window branch, of which `windows_stem` becomes the parent."""
        return StochasticConv(
            self.window_stem_filters or self.variant.stem_filters,
            output_size=self.window_output,
            sampling=self.sampling,
            filters_per_window=self.filters_per_window,
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

    @property
    def windows_per_pass(self) -> int:
        """The number of different windows of an image in one pass."""
        return 1 if self.sampling == "shared" else self._stochastic_conv().features // self.filters_per_window

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
        for name in self.frozen:
            if not any(part.startswith(name) for part in self.parts()):
                raise ValueError(
                    f"`freeze`: no part's name begins with {name!r}; the parts are {', '.join(self.parts())}"
                )
        if self.frozen and self._frozen_parts() == self.parts():
            raise ValueError(f"`freeze`={self.frozen}: nothing is left to train")

    def encode(
        self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float[Array, "batch ... channels"]:
        """Returns the features of `branch` where the branches meet: [B, h, w, C], or pooled [B, C] at the head.

        Those of 'metadata', [B, 128], are joined after the head.
        """
        if branch == METADATA:
            return self.metadata(inputs[METADATA], train=train and METADATA not in self._frozen_parts())
        stages = self.thumbnail if branch == "thumbnail" else self.windows
        return stages(self.stem(branch, inputs, train=train), train=train)

    def stem(
        self, branch: str, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float[Array, "batch height width filters"]:
        """Returns the output of the stem of `branch`."""
        trains = train and f"{branch}_stem" not in self._frozen_parts()
        if branch == "thumbnail":
            return self.thumbnail_stem(inputs["thumbnail"], train=trains)
        return self.windows_stem(inputs["image"], inputs["example"], train=trains)

    def join(
        self, features: Mapping[str, Float[Array, "batch ... _"]], *, train: bool = False
    ) -> Float32[Array, "batch {self.num_classes}"]:
        """Returns the logits from what `encode` returned for each of `encoders`.

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
        if self.metadata_features:
            x = jnp.concatenate([x, features[METADATA]], axis=-1)
        return self.classifier(self.drop(x, deterministic=not train))

    def __call__(
        self, inputs: Mapping[str, jax.Array], *, train: bool = False
    ) -> Float32[Array, "batch {self.num_classes}"]:
        """Returns the logits."""
        return self.join({name: self.encode(name, inputs, train=train) for name in self.encoders}, train=train)


def sown_windows(intermediates: Mapping[str, Any]) -> Int32[Array, "#batch #filters 2"]:
    """Returns the windows that one call of a Classifier drew, (top, left) in pixels, from its 'intermediates'."""
    (windows,) = intermediates["windows_stem"]["conv"][WINDOWS]
    return windows
