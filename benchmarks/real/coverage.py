"""Computes the chance that random windows show a small detail, and draws it for several images and numbers of windows.

    python -m benchmarks.real.coverage --figure=docs/coverage-chance.png

A detail is a square that lies anywhere in the image with equal chance. A window shows it if it contains it. A position
of the detail is in a window with a probability that is known exactly, since windows are uniform over all positions, so
the chance is a sum over positions. It says what a perfect network could see, not what a trained one does.
"""

import argparse
import pathlib

import numpy as np

from stochconv_jax.visualization import figures, window_chance
from stochconv_jax.visualization.suitability import PASSES

WINDOW = 225  # side in pixels, of a stem with 112x112 outputs
DETAILS = (8, 16, 32, 64, 128, 200)
IMAGES = (512, 1024, 2048, 4096)


def chance(image: int, detail: int, windows: int) -> float:
    """Returns the chance that at least one of `windows` windows of a square image contains the detail."""
    sizes = {"image_size": (image, image), "window_size": (WINDOW, WINDOW)}
    return window_chance.chance(**sizes, detail=detail, windows=windows)


def table(filters: int) -> list[tuple[int, int, list[float]]]:
    """Returns (image, passes, chances by detail) for each image and each number of passes of windows."""
    return [
        (image, passes, [chance(image, detail, filters * passes) for detail in DETAILS])
        for image in IMAGES
        for passes in PASSES
    ]


@figures.styled
def draw():
    """Draws the chance against the number of windows, for each size of image, for details of 32 pixels."""
    figure, ((axes,),) = figures.grid(1, 1, 3.8)
    numbers = 2 ** np.arange(10)
    for image, style, color in zip(IMAGES, figures.LINES, figures.COLORS):
        chances = [chance(image, 32, number) for number in numbers]
        axes.plot(numbers, chances, linestyle=style, color=color, label=f"{image}x{image}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set(xlabel="different windows of an image, over all passes", ylabel="chance that one shows the detail")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(title=f"image; detail 32x32, window {WINDOW}x{WINDOW}", fontsize=8, title_fontsize=8)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=32, help="different windows of an image in each pass")
    parser.add_argument("--figure", type=pathlib.Path, help="file to draw into")
    options = parser.parse_args()
    print(f"| image | passes | {' | '.join(f'{detail} px' for detail in DETAILS)} |")
    print(f"| --- | --- {'| --- ' * len(DETAILS)}|")
    for image, passes, chances in table(options.filters):
        print(f"| {image}x{image} | {passes} | {' | '.join(f'{value:.3f}' for value in chances)} |")
    if options.figure:
        figures.save(draw(), options.figure)
