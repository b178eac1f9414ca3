"""The random windows of a stochastic convolution: their size and their positions."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Integer, PRNGKeyArray

Sampling = Literal["per_image", "per_batch", "shared"]
Axes = Literal["independent", "diagonal"]
Size = tuple[int, ...]  # two numbers, (height, width); a type checker cannot count those of a slice of a shape


def window_size(output_size: Size, kernel_size: Size, strides: Size) -> Size:
    """Returns the size of the window that a VALID strided convolution turns into an output of `output_size`.

    Args:
      output_size: (height, width) of the output.
      kernel_size: (height, width) of the filters, in pixels.
      strides: (vertical, horizontal) strides, in pixels.

    Returns:
      (height, width) in pixels: (output_size - 1) * strides + kernel_size.
    """
    return tuple((o - 1) * s + k for o, k, s in zip(output_size, kernel_size, strides, strict=True))


def sample_windows(
    key: PRNGKeyArray,
    *,
    image_size: Size,
    window_size: Size,
    batch: int,
    features: int,
    sampling: Sampling = "per_image",
    filters_per_window: int = 1,
    axes: Axes = "independent",
    examples: Integer[Array, " batch"] | None = None,
) -> Int32[Array, "#batch #features 2"]:
    """Draws window positions, uniform over all positions at which the window lies inside the image.

    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021), whose windows
    "by image" are `per_image` and whose windows "by mini-batch" are `per_batch`.

    Args:
      key: a JAX random key.
      image_size: (height, width) of the images, in pixels.
      window_size: (height, width) of a window, in pixels.
      batch: number of images, B.
      features: number of filters, F.
      sampling: 'per_image' draws one window per image and filter. 'per_batch' draws one window per filter, which all
        images share. 'shared' draws one window per image, which all filters share: a random crop.
      filters_per_window: number of consecutive filters that share a window; it must divide `features`. 1, as in the
        report, gives each filter a window of its own. Ignored by 'shared'.
      axes: 'independent' draws top and left independently. 'diagonal' draws one number along the axis with more
        positions and scales it to the other axis. On a square image that gives top == left, as in the published code.
      examples: integers [B], the identity of each image; by default 0, ..., B - 1. The windows of an image are a
        function of `key` and its identity alone, so that they depend neither on the batch size nor on the other images.
        Ignored by 'per_batch'.

    Returns:
      int32 (top, left) in pixels: [B, F, 2] for 'per_image', [1, F, 2] for 'per_batch', [B, 1, 2] for 'shared'.

    Raises:
      ValueError: `sampling` or `axes` is unknown, `filters_per_window` does not divide `features`, a window is larger
        than the image, or `examples` are not B integers.
    """
    _check_choice("sampling", sampling, Sampling)
    _check_choice("axes", axes, Axes)
    if filters_per_window < 1 or features % filters_per_window:
        raise ValueError(f"`filters_per_window`={filters_per_window} does not divide {features} filters")
    positions = tuple(i - w + 1 for i, w in zip(image_size, window_size, strict=True))
    if min(positions) < 1:
        raise ValueError(
            f"a window of {window_size[0]}x{window_size[1]} pixels does not fit into an image of "
            f"{image_size[0]}x{image_size[1]}: use larger images [batch, height, width, channels] or a smaller output"
        )
    if sampling == "per_batch":
        windows = _draw(key, features // filters_per_window, positions, axes)[None]
        return jnp.repeat(windows, filters_per_window, axis=1)
    examples = jnp.arange(batch) if examples is None else jnp.asarray(examples)
    if examples.shape != (batch,) or not jnp.issubdtype(examples.dtype, jnp.integer):
        raise ValueError(f"examples must be {batch} integers, not {examples.dtype}{list(examples.shape)}")
    windows_per_image = features // filters_per_window if sampling == "per_image" else 1

    def draw_for(example):
        return _draw(jax.random.fold_in(key, example), windows_per_image, positions, axes)

    windows = jax.vmap(draw_for)(examples)
    return windows if sampling == "shared" else jnp.repeat(windows, filters_per_window, axis=1)


def _draw(key: jax.Array, number: int, positions: Size, axes: Axes) -> jax.Array:
    """Draws `number` positions, int32 [number, 2], each below `positions`: the numbers of possible tops and lefts."""
    if axes == "independent":
        return jax.random.randint(key, (number, 2), 0, jnp.array(positions, jnp.int32), jnp.int32)
    along_longer = jax.random.randint(key, (number, 1), 0, max(positions), jnp.int32)
    return along_longer * jnp.array(positions, jnp.int32) // max(positions)


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, not {value!r}")
