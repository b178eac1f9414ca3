"""Draws one figure for each topic of --mode=show. Each function takes arrays and returns a figure, which `save` writes.

The figures fit a slide and can be read in a column of a page. Sizes are in pixels. The colours are Okabe & Ito's, which
colour-blind readers can distinguish; filters also differ in line style and number.
"""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import ScalarFormatter

from stochconv_jax.reporting.charts import COLORS
from stochconv_jax.visualization.attribution import Relevance, Size, coverage

WIDTH = 7.2  # inches
SETTINGS: dict[Any, Any] = {  # matplotlib's rcParams
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # because names of files may contain dollar signs
}
styled = matplotlib.rc_context(SETTINGS)
BLUE, VERMILLION, BLACK = COLORS[0], COLORS[1], COLORS[6]
LINES = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (4, 1, 1, 1)), (0, (7, 2)))
OUTLINE = (withStroke(linewidth=3, foreground="white"),)  # keeps text and frames legible on pictures and lines
SIGNED = LinearSegmentedColormap.from_list("blue to vermillion", (BLUE, "#f4f4f4", VERMILLION))


def gain_color(difference: float, significant: bool) -> str:
    """Returns the colour of a difference: blue for a significant gain, vermillion for a significant loss, else grey."""
    if not significant:
        return "0.6"
    return BLUE if difference > 0 else VERMILLION


def save(figure, path: pathlib.Path) -> pathlib.Path:
    """Writes the figure as a PNG and returns `path`."""
    figure.savefig(path, dpi=200)
    return path


@styled
def augmentation(name: str, pictures: Sequence[np.ndarray], thumbnails: Sequence[np.ndarray]):
    """Draws pictures, uint8 `[H, W, 3]`, above their thumbnails: the original first, then its augmented versions."""
    columns = len(pictures)
    height, width = pictures[0].shape[:2]
    figure, axes = grid(2, columns, 0.75 + 2 * WIDTH / columns * height / width)
    for column, pair in enumerate(zip(pictures, thumbnails)):
        for cell, picture in zip(axes[:, column], pair):
            cell.imshow(picture, interpolation="nearest" if picture is pair[1] else None)
            _sizes(cell, picture.shape, left=column == 0)
        axes[0, column].set_title("original" if column == 0 else f"draw {column}")
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("thumbnail")
    _title(figure, f"{name}: images as training sees them; sizes in pixels")
    return figure


@styled
def windows(name: str, picture: np.ndarray, boxes: np.ndarray, window_size: Size):
    """Draws the windows `[F, 2]` of one pass, as frames over the picture and as crops beside it."""

    def picture_share(columns: int) -> float:
        """Returns the picture's share of the width if it is as high as its crops in so many columns."""
        crops = -(-len(boxes) // columns) / columns * window_size[0] / window_size[1]
        return crops / (crops + picture.shape[0] / picture.shape[1])

    columns = min(range(1, len(boxes) + 1), key=lambda columns: abs(picture_share(columns) - 0.58))
    rows, share = -(-len(boxes) // columns), min(max(picture_share(columns), 0.5), 0.8)
    size = WIDTH, 0.7 + share * WIDTH * picture.shape[0] / picture.shape[1]
    figure = Figure(size, layout=_padding(0.02, 0.01))
    left, right = figure.subfigures(1, 2, width_ratios=(share, 1 - share), squeeze=False)[0]
    left_axes = left.subplots()
    left_axes.imshow(picture)
    _sizes(left_axes, picture.shape)
    _boxes(left_axes, boxes, window_size)
    for number, axes in enumerate(right.subplots(rows, columns, squeeze=False).flat):
        if number >= len(boxes):
            axes.axis("off")
            continue
        top, left_edge = boxes[number]
        axes.imshow(picture[top : top + window_size[0], left_edge : left_edge + window_size[1]])
        axes.set(xticks=[], yticks=[])
        color, line = _style(number)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2, linestyle=line)
        _number(axes, 0.06, 0.93, number, transform=axes.transAxes, va="top")
    which = "the windows of one pass, one per filter" if len(boxes) > 1 else "the window of one pass, for all filters"
    _title(figure, f"{name}: {which}, {window_size[0]}x{window_size[1]} pixels")
    return figure


@styled
def covered(name: str, picture: np.ndarray, drawn: Mapping[int, np.ndarray], window_size: Size):
    """Draws how many windows cover each pixel after different numbers of passes.

    `drawn` has all windows `[N, 2]` by number of passes. Returns the figure and the share of pixels that are covered,
    by number of passes.
    """
    sizes = {"window_size": window_size, "image_size": picture.shape[:2]}
    maps = {passes: coverage(boxes, **sizes) for passes, boxes in drawn.items()}
    shares = {passes: float((counts > 0).mean()) for passes, counts in maps.items()}
    most = max(counts.max() for counts in maps.values())
    height = WIDTH / len(maps) * picture.shape[0] / picture.shape[1]
    figure, axes = grid(1, len(maps), height + 1.35)
    for column, (passes, counts) in enumerate(maps.items()):
        cell = axes[0, column]
        cell.imshow(_grey(picture), cmap="gray", vmin=0, vmax=1)
        heat = cell.imshow(np.ma.masked_equal(counts, 0), cmap="viridis", norm=LogNorm(1, max(2, most)), alpha=0.8)
        _sizes(cell, picture.shape, left=column == 0)
        times = "1 pass" if passes == 1 else f"{passes} passes"
        cell.set_title(f"{times}: {shares[passes]:.0%} covered")
    bar = figure.colorbar(heat, ax=axes, location="bottom", fraction=0.06, pad=0.04, aspect=45)
    bar.set_ticks([value for value in (1, 2, 5, 10, 20, 50, 100, 200, 500) if value <= max(2, most)])
    bar.ax.xaxis.set_major_formatter(ScalarFormatter())
    bar.ax.minorticks_off()
    bar.set_label("windows over a pixel (grey: none)")
    _title(figure, f"{name}: coverage by windows")
    return figure, shares


@styled
def sampling(names: Sequence[str], pictures: Sequence[np.ndarray], drawn: Mapping[str, np.ndarray], window_size: Size):
    """Draws the windows of one pass in a row for each image of a batch and a column for each value of model.sampling.

    `drawn` has the windows `[B or 1, F or 1, 2]` by sampling; those of the first six filters are drawn.
    """
    titles = {
        "per_image": "per_image\na window for each\nimage and filter",
        "per_batch": "per_batch\na window for each filter,\nthe same in all images",
        "shared": "shared\na window for each image,\nthe same for all filters",
    }
    height, width = pictures[0].shape[:2]
    figure, axes = grid(len(pictures), len(drawn), 1.3 + len(pictures) * WIDTH / len(drawn) * height / width)
    for column, (kind, boxes) in enumerate(drawn.items()):
        for row, picture in enumerate(pictures):
            cell = axes[row, column]
            cell.imshow(picture)
            _sizes(cell, picture.shape, left=column == 0, below=row == len(pictures) - 1)
            _boxes(cell, boxes[min(row, len(boxes) - 1)][:6], window_size)
        axes[0, column].set_title(titles[kind])
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name if len(name) <= 24 else f"{name[:11]}…{name[-11:]}")
    filters = max(boxes.shape[1] for boxes in drawn.values())
    _title(figure, f"Sampling of windows: {min(6, filters)} of {filters} filters, one pass")
    return figure


@styled
def filters(name: str, branches: Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """Draws the first layer of each branch: kernels `[kh, kw, 3, F]` above their feature maps `[h, w, F]` of the image.

    `branches` has (kernels, feature maps) by name of the branch.
    """
    columns = 8
    rows = {branch: -(-kernels.shape[-1] // columns) for branch, (kernels, _) in branches.items()}
    cell = WIDTH / columns
    shapes = {branch: maps.shape[0] / maps.shape[1] for branch, (_, maps) in branches.items()}
    heights = [0.35 + rows[branch] * (0.45 + shapes[branch]) * cell for branch in branches]
    figure = Figure((WIDTH, sum(heights) + 0.8), layout=_padding(0.015, 0.0))
    parts = figure.subfigures(len(branches), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (branch, (kernels, maps)) in zip(parts, branches.items()):
        size = "x".join(map(str, kernels.shape[:2]))
        maps_text = f"maps of {maps.shape[0]} x {maps.shape[1]} pixels"
        maps_text += ", each of its own window" if branch == "windows" else ""
        part.suptitle(f"{branch} branch: {kernels.shape[-1]} filters of {size}, {maps_text}", fontweight="normal")
        ratios = [0.4, shapes[branch]] * rows[branch]
        axes = part.subplots(2 * rows[branch], columns, squeeze=False, height_ratios=ratios)
        for number in range(rows[branch] * columns):
            row, column = divmod(number, columns)
            above, below = axes[2 * row : 2 * row + 2, column]
            if number < kernels.shape[-1]:
                kernel = kernels[..., number]
                above.imshow(0.5 + kernel / (2 * np.abs(kernel).max() + 1e-12), interpolation="nearest")
                below.imshow(maps[..., number].astype(np.float32), cmap="gray")
                above.set(xticks=[], yticks=[])
                below.set(xticks=[], yticks=[])
            else:
                above.axis("off")
                below.axis("off")
    _title(figure, f"{name}: first-layer filters (grey is zero) and below each its feature map, on its own scale")
    return figure


@styled
def relevance(name: str, picture: np.ndarray, found: Relevance, *, class_name: str, odds: np.ndarray):
    """Draws the picture, and beside it the map of `found` over the picture in grey.

    `found` was computed from the log-odds `odds` `[P]` of the class `class_name`.
    """
    height = 0.42 * WIDTH * picture.shape[0] / picture.shape[1]
    figure, ((left, right),) = grid(1, 2, height + 1.05)
    probability = (1 / (1 + np.exp(-odds))).mean()
    left.imshow(picture)
    left.set_title(f"{class_name}: probability {probability:.2f}")
    scale = Normalize(-(limit := np.abs(found.map).max() or 1.0), limit)
    right.imshow(SIGNED(scale(found.map))[..., :3] * (0.5 + 0.5 * _grey(picture)[..., None]))
    right.set_title("regions that raise and lower it")
    bar = figure.colorbar(ScalarMappable(scale, SIGNED), cax=right.inset_axes([1.04, 0, 0.05, 1]))
    bar.set_label(f"change of the log-odds of {class_name}")
    for cell in (left, right):
        _sizes(cell, picture.shape, left=cell is left)
    share = f"{max(0.0, found.explained):.0%}" if np.isfinite(found.explained) else "none"
    _title(figure, f"{name}: relevance of each region for the prediction")
    text = f"From {len(odds)} passes; the positions of their windows explain {share} of the variance between them."
    figure.supxlabel(text, fontsize=9)
    return figure


def grid(rows: int, columns: int, height: float) -> tuple[Figure, np.ndarray]:
    """Returns a figure of `height` inches and its axes `[rows, columns]`."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, squeeze=False)


def _padding(pad: float, space: float) -> ConstrainedLayoutEngine:
    """Returns a layout with `pad` inches around axes, and with `space`, a share of their size, between them."""
    return ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=space, hspace=space)


def _title(figure: Figure, text: str) -> None:
    """Sets the title, wrapped to the figure's width."""
    figure.suptitle(textwrap.fill(text, 68))


def _sizes(axes, shape: Sequence[int], *, left: bool = True, below: bool = True) -> None:
    """Labels the axes with the picture's size, by ticks at its edges only."""
    height, width = shape[:2]
    axes.set(xticks=[-0.5, width - 0.5], yticks=[-0.5, height - 0.5])
    axes.set_xticklabels(["0", str(width)] if below else [])
    axes.set_yticklabels(["0", str(height)] if left else [])
    axes.tick_params(length=2, labelsize=8)
    for label, side in zip(axes.get_xticklabels(), ("left", "right")):
        label.set_horizontalalignment(side)


def _style(number: int) -> tuple[str, Any]:
    """Returns the colour and line style of filter `number`."""
    colors = COLORS[:6]
    return colors[number % len(colors)], LINES[number // len(colors) % len(LINES)]


def _boxes(axes, boxes: np.ndarray, window_size: Size) -> None:
    """Draws windows as frames, numbered if there are several."""
    for number, (top, left) in enumerate(boxes):
        color, line = _style(number) if len(boxes) > 1 else (BLACK, "-")
        corner, width, height = (left - 0.5, top - 0.5), window_size[1], window_size[0]
        frame = {"fill": False, "edgecolor": color, "linewidth": 1.5, "linestyle": line, "path_effects": OUTLINE}
        axes.add_patch(Rectangle(corner, width, height, **frame))
    if len(boxes) > 1:
        for number, (top, left) in enumerate(boxes):
            _number(axes, left + 0.06 * window_size[1], top + 0.06 * window_size[0], number, va="top")


def _number(axes, x: float, y: float, number: int, **settings) -> None:
    """Writes the number of a filter, which counts from 1 for readers, in the filter's colour."""
    settings |= {"color": _style(number)[0], "fontsize": 8, "weight": "bold"}
    axes.text(x, y, str(number + 1), path_effects=OUTLINE, **settings)


def _grey(picture: np.ndarray) -> np.ndarray:
    """Returns the brightness of a picture, 0..1, `[H, W]`."""
    return picture.mean(axis=-1) / 255
