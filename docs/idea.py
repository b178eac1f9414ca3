"""Draws docs/idea.png: what the two branches see of one image.   python -m docs.idea"""

import pathlib

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects

from stochconv_jax import ops
from stochconv_jax.data import augment
from stochconv_jax.data.synthetic import SyntheticSource

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def main() -> None:
    """One drawn lesion at 1024x1024, its thumbnail, and the windows of six filters."""
    source = SyntheticSource(size=12, image_size=(1024, 1024), seed=3)
    image = source.read(7)
    window_size = ops.window_size((112, 112), (3, 3), (2, 2))
    windows = np.asarray(
        ops.sample_windows(
            jax.random.key(4), image_size=image.shape[:2], window_size=window_size, batch=1, features=len(COLORS)
        )
    )[0]
    figure = plt.figure(figsize=(9.6, 4.1), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=(1.15, 2.3, 0.8, 0.8, 0.8))
    thumbnail, whole = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
    thumbnail.imshow(augment.resize(image, (224, 224)))
    thumbnail.set_title("thumbnail branch:\nthe whole image, 224x224", fontsize=9)
    whole.imshow(image)
    whole.set_title("window branch: one random window\nfor each image and filter, 1024x1024", fontsize=9)
    outline = patheffects.withStroke(linewidth=2, foreground="white")
    for number, ((top, left), color) in enumerate(zip(windows, COLORS)):
        box = plt.Rectangle((left, top), window_size[1], window_size[0], fill=False, ec=color, lw=2)
        whole.add_patch(box)
        label = {"color": color, "fontsize": 7, "weight": "bold", "path_effects": [outline]}
        whole.text(left + 8, top + 44, f"filter {number + 1}", **label)
        axes = figure.add_subplot(grid[number // 3, 2 + number % 3])
        axes.imshow(image[top : top + window_size[0], left : left + window_size[1]])
        axes.set_title(f"filter {number + 1}", fontsize=8, color=color)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
    figure.savefig(pathlib.Path(__file__).with_name("idea.png"), dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
