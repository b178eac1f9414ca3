"""The views of an image: its flips and quarter turns, over which predictions are averaged."""

import functools
from collections.abc import Mapping

import jax
from jaxtyping import Array, Num

VIEWS = (1, 2, 4, 8)  # numbers of views: the image; its left-right flip too; both flips; quarter turns too

PIXELS = ("image", "thumbnail")  # the inputs of a Classifier that are turned


def turn(
    pixels: Num[Array, "batch height width channels"], view: int
) -> Num[Array, "batch turned_height turned_width channels"]:
    """Returns view 0, ..., 7 of images. Views from 4 on exchange height and width.

    View 0 is the image. The lowest bit of `view` flips left and right, the next one flips top and bottom, and the
    third, after them, exchanges rows and columns.
    """
    if flipped := tuple(axis for axis, bit in ((2, 1), (1, 2)) if view & bit):
        pixels = jax.lax.rev(pixels, flipped)
    return jax.lax.transpose(pixels, (0, 2, 1, 3)) if view & 4 else pixels


def turn_inputs(inputs: Mapping[str, jax.Array], view: jax.Array, views: int) -> dict[str, jax.Array]:
    """Returns the inputs of a Classifier for `view`, a traced number 0, ..., `views` - 1.

    Raises TypeError if `views` is 8 and images are not square.
    """
    forms = [functools.partial(turn, view=number) for number in range(views)]
    turned = {name: jax.lax.switch(view, forms, inputs[name]) for name in PIXELS if name in inputs}
    return {**inputs, **turned}
