"""The function that is exported: from images uint8 [B, H, W, 3] to probabilities float32 [B, classes].

Thumbnails are made inside, and the probabilities are the mean over passes. The windows of each pass are the same for
all images: those of an image whose identity is 0. They are fixed by the seed of the run.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.stochastic_conv import StochasticConv
from stochconv_jax.models.views import PIXELS, turn
from stochconv_jax.training import steps

WINDOWS = "windows"  # the branch
Images = UInt8[Array, "batch height width 3"]
Metadata = Float32[Array, "batch features"] | None  # None for a network that takes none
Probabilities = Float32[Array, "batch classes"]


@dataclasses.dataclass(frozen=True)
class Program:
    """The function that is exported.

    Attributes:
      model: the classifier.
      variables: 'params' and 'batch_stats'.
      seed: the seed of the windows.
      passes, views: number of passes over each view and of views, see `steps.predict_views`.
      image_size: height and width of the images in pixels, as in training.
      thumbnail_size: height and width in pixels.
    """

    model: Classifier
    variables: Any
    seed: int | np.integer
    passes: int
    views: int
    image_size: tuple[int, int]
    thumbnail_size: tuple[int, int]

    def arguments(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns the shape and dtype for one image of each argument of `probabilities`, by name."""
        arguments: dict[str, tuple[tuple[int, ...], Any]] = {"images": ((*self.image_size, 3), np.uint8)}
        if self.model.metadata_features:
            arguments["metadata"] = ((self.model.metadata_features,), np.float32)
        return arguments

    def probabilities(self, images: Images, metadata: Metadata = None) -> Probabilities:
        """Returns the mean probabilities over passes, computed as in evaluation."""
        drawn = {"seed": self._seed, "passes": self.passes, "views": self.views}
        inputs = self._inputs(images, metadata)
        return _mean_probabilities(steps.predict_views(self.variables, inputs, model=self.model, **drawn))

    def portable_probabilities(
        self, images: Images, metadata: Metadata = None, *, windows: np.ndarray | None
    ) -> Probabilities:
        """Returns what `probabilities` does, to rounding, by operations that other formats of networks have.

        No loop and no random number is in it: passes follow each other, and `windows`, the result of `windows`, are
        constants.
        """
        inputs, logits = self._inputs(images, metadata), []
        for view in range(self.views):
            corners = None if windows is None else windows[view * self.passes : (view + 1) * self.passes]
            turned = {name: turn(inputs[name], view) for name in PIXELS if name in inputs}
            logits += self._portable_logits(inputs | turned, corners)
        return _mean_probabilities(jnp.concatenate([one[None] for one in logits]))

    def _portable_logits(self, inputs: dict[str, jax.Array], windows: np.ndarray | None) -> list[jax.Array]:
        """Returns the logits of each pass over one view."""
        apply: Any = functools.partial(self.model.apply, self.variables)
        unchanged = [name for name in self.model.encoders if name != WINDOWS]
        features = {name: apply(name, inputs, method="encode") for name in unchanged}
        if windows is None:
            return [apply(features, method="join")]
        logits = []
        for corners in windows:
            with nn.intercept_methods(_crops_for_windows(corners)):
                encoded = apply(WINDOWS, inputs, method="encode")
            logits.append(apply(features | {WINDOWS: encoded}, method="join"))
        return logits

    def windows(self) -> np.ndarray | None:
        """Returns the windows, (top, left) in pixels, int32 `[views * passes, F or 1, 2]`; None without windows."""
        if WINDOWS not in self.model.branches:
            return None
        inputs = {"image": jnp.zeros((1, *self.image_size, 3), jnp.uint8), "example": jnp.zeros(1, jnp.uint32)}
        settings = {"model": self.model, "seed": self._seed, "method": "stem"}

        @jax.jit
        def draw(number):
            return steps.apply_window_branch(self.variables, inputs, number, **settings)[1][0]

        return np.stack([np.asarray(draw(number)) for number in range(self.views * self.passes)])

    @property
    def _seed(self) -> jax.Array:
        return jnp.int32(self.seed)

    def in_float32(self) -> "Program":
        """Returns the program with activations in float32, and without the recomputation that is for gradients."""
        layers = dataclasses.replace(self.model.layers, dtype=jnp.float32)
        return dataclasses.replace(self, model=self.model.clone(layers=layers, remat=False))

    def _inputs(self, images: Images, metadata: Metadata) -> dict[str, jax.Array]:
        """Returns the inputs of the model for images that all have the identity 0."""
        inputs = {"image": images, "example": jnp.zeros(images.shape[:1], jnp.uint32)}
        if "thumbnail" in self.model.branches:
            inputs["thumbnail"] = area_resize(images, self.thumbnail_size)
        return inputs if metadata is None else inputs | {"metadata": metadata}


def area_resize(images: Images, size: tuple[int, int]) -> Images:
    """Returns the images reduced to `size` by area averaging, rounded as `data.augment.resize` rounds them."""
    x = images.astype(jnp.float32)
    for axis, small in zip((1, 2), size):
        weights = jnp.asarray(_area_weights(images.shape[axis], small))
        x = jnp.tensordot(x, weights, ((axis,), (0,)), precision=jax.lax.Precision.HIGHEST)
        x = jnp.moveaxis(x, -1, axis)
    halved = images.shape[1:3] == (2 * size[0], 2 * size[1])
    # OpenCV rounds halves up where it averages 2x2 pixels, and to even numbers elsewhere.
    return (jnp.floor(x + 0.5) if halved else jnp.round(x)).astype(jnp.uint8)


def _area_weights(large: int, small: int) -> np.ndarray:
    """Returns the share of each pixel of a line in each pixel of the reduced line, float32 `[large, small]`."""
    edges = np.arange(small + 1) * (large / small)
    pixels = np.arange(large)[:, None]
    overlap = np.minimum(pixels + 1, edges[1:]) - np.maximum(pixels, edges[:-1])
    return (np.maximum(overlap, 0) * (small / large)).astype(np.float32)


def _mean_probabilities(logits: Float32[Array, "passes batch _"]) -> Probabilities:
    if logits.shape[-1] > 1:
        return nn.softmax(logits).mean(0)
    positive = nn.sigmoid(logits).mean(0)
    return jnp.concatenate([1.0 - positive, positive], axis=-1)


def _crops_for_windows(corners: np.ndarray) -> Callable[..., Any]:
    """Returns an interceptor of `nn.intercept_methods` by which a StochasticConv convolves crops at fixed `corners`.

    `corners`: int `[F or 1, 2]`, (top, left) in pixels. The crops are one image with 3 channels for each of them, and
    each filter reads its own three.
    """

    def intercept(next_function, arguments, keywords, context):
        layer = context.module
        if not (isinstance(layer, StochasticConv) and context.method_name == "__call__"):
            return next_function(*arguments, **keywords)
        image, params = arguments[0].astype(jnp.float32), layer.variables["params"]
        if layer.mean is not None and layer.std is not None:
            image = (image / 255.0 - jnp.asarray(layer.mean)) / jnp.asarray(layer.std)
        height, width = layer.window_size
        crops = [
            jax.lax.slice_in_dim(jax.lax.slice_in_dim(image, top, top + height, axis=1), left, left + width, axis=2)
            for top, left in corners.tolist()
        ]
        out = jax.lax.conv_general_dilated(
            jnp.concatenate(crops, axis=-1),
            params["kernel"],
            layer.strides,
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=len(crops),
        )
        return out + params["bias"] if layer.use_bias else out

    return intercept
