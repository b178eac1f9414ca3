"""Where the windows of a stochastic convolution lie."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

Sampling = Literal["per_image", "per_batch", "shared"]
Axes = Literal["independent", "diagonal"]
Size = tuple[int, int]


def window_size(output_size: Size, kernel_size: Size, strides: Size) -> Size:
    """(height, width) in pixels of the window that a VALID strided convolution turns into `output_size`."""
    return tuple((o - 1) * s + k for o, k, s in zip(output_size, kernel_size, strides, strict=True))


def sample_windows(
    key: jax.Array,
    *,
    image_size: Size,
    window_size: Size,
    batch: int,
    features: int,
    sampling: Sampling = "per_image",
    axes: Axes = "independent",
    examples: jax.Array | None = None,
) -> jax.Array:
    """Draws the windows' positions, uniform over every one that fits, both ends included.

    Source: "Stochastic Convolutions for High Resolution Medical Image Classification" (C. Reekie, 2021), the
    windows "by image" (`per_image`) and "by mini-batch" (`per_batch`); `shared` is a random crop.

    Args:
      key: a JAX random key.
      image_size: (height, width) of the images, in pixels.
      window_size: (height, width) of a window, in pixels.
      batch: number of images, B.
      features: number of filters, F.
      sampling: 'per_image' draws a window for every image and filter, 'per_batch' one a filter for the whole
        batch, 'shared' one an image for all its filters.
      axes: 'independent' draws top and left apart; 'diagonal' draws once, along the longer of the two ranges,
        and puts the window at the same share of the way along the other, which on a square image is the
        published code's top == left.
      examples: integers [B], the identity of each image; default 0 .. B - 1. Row b of the result depends on
        `key` and `examples[b]` alone, never on B or on the other rows. 'per_batch' ignores it.

    Returns:
      int32 (top, left) in pixels: [B, F, 2] for 'per_image', [1, F, 2] for 'per_batch', [B, 1, 2] for
      'shared'.

    Raises:
      ValueError: an unknown `sampling` or `axes`, a window larger than the image, `examples` not
        integers [B].
    """
    _check_choice("sampling", sampling, Sampling)
    _check_choice("axes", axes, Axes)
    positions = tuple(i - w + 1 for i, w in zip(image_size, window_size, strict=True))
    if min(positions) < 1:
        raise ValueError(
            f"a window of {window_size[0]}x{window_size[1]} pixels does not fit into an image of "
            f"{image_size[0]}x{image_size[1]}: take larger images or a smaller output"
        )
    if sampling == "per_batch":
        return _draw(key, features, positions, axes)[None]
    examples = jnp.arange(batch) if examples is None else jnp.asarray(examples)
    if examples.shape != (batch,) or not jnp.issubdtype(examples.dtype, jnp.integer):
        raise ValueError(f"examples must be {batch} integers, not {examples.dtype}{list(examples.shape)}")
    number = features if sampling == "per_image" else 1

    def draw(example):
        return _draw(jax.random.fold_in(key, example), number, positions, axes)

    return jax.vmap(draw)(examples)


def _draw(key: jax.Array, number: int, positions: Size, axes: Axes) -> jax.Array:
    """int32 [number, 2]: indices below `positions`, (number of tops, number of lefts)."""
    if axes == "independent":
        return jax.random.randint(key, (number, 2), 0, jnp.array(positions, jnp.int32), jnp.int32)
    along = jax.random.randint(key, (number, 1), 0, max(positions), jnp.int32)
    return along * jnp.array(positions, jnp.int32) // max(positions)


def _check_choice(name: str, value: str, choices: type) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, not {value!r}")
