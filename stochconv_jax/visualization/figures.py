"""One figure a topic. Every function takes arrays and returns a figure; `save` writes it.

Made for a slide and still to be read a column wide: few words, sizes in pixels. Colours are Okabe & Ito's, which
colour-blind readers can tell apart; filters also differ in line style and number.
"""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import ScalarFormatter

from stochconv_jax.reporting.charts import COLORS
from stochconv_jax.visualization.attribution import Relevance, Size, coverage

WIDTH = 7.2  # inches
SETTINGS = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a file's name may hold dollar signs
}
_styled = matplotlib.rc_context(SETTINGS)
BLUE, VERMILLION, BLACK = COLORS[0], COLORS[1], COLORS[6]
LINES = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (4, 1, 1, 1)), (0, (7, 2)))
SIGNED = LinearSegmentedColormap.from_list("blue to vermillion", (BLUE, "#f4f4f4", VERMILLION))


def save(figure, path: pathlib.Path) -> pathlib.Path:
    """Writes a PNG."""
    figure.savefig(path, dpi=200)
    return path


@_styled
def augmentation(name: str, pictures: Sequence[np.ndarray], thumbnails: Sequence[np.ndarray]):
    """The picture and draws of its augmentation, uint8 `[H, W, 3]`, above the thumbnails made of them."""
    columns = len(pictures)
    height, width = pictures[0].shape[:2]
    figure, axes = _figure(2, columns, 0.75 + 2 * WIDTH / columns * height / width)
    for column, pair in enumerate(zip(pictures, thumbnails)):
        for cell, picture in zip(axes[:, column], pair):
            cell.imshow(picture, interpolation="nearest" if picture is pair[1] else None)
            _sizes(cell, picture.shape, left=column == 0)
        axes[0, column].set_title("as it is" if column == 0 else f"draw {column}")
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("thumbnail")
    _title(figure, f"{name}: what training is shown; sizes in pixels")
    return figure


@_styled
def windows(name: str, picture: np.ndarray, boxes: np.ndarray, window_size: Size):
    """A pass: the windows `[F, 2]` over the picture, and what lies in each."""

    def share_of(columns: int) -> float:
        """Of the width that the picture takes, if so many columns of crops are to be as high as it."""
        crops = -(-len(boxes) // columns) / columns * window_size[0] / window_size[1]
        return crops / (crops + picture.shape[0] / picture.shape[1])

    columns = min(range(1, len(boxes) + 1), key=lambda columns: abs(share_of(columns) - 0.58))
    rows, share = -(-len(boxes) // columns), min(max(share_of(columns), 0.5), 0.8)
    figure = Figure(figsize=(WIDTH, 0.7 + share * WIDTH * picture.shape[0] / picture.shape[1]))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    left, right = figure.subfigures(1, 2, width_ratios=(share, 1 - share))
    whole = left.subplots()
    whole.imshow(picture)
    _sizes(whole, picture.shape)
    _boxes(whole, boxes, window_size)
    for number, axes in enumerate(right.subplots(rows, columns, squeeze=False).flat):
        if number >= len(boxes):
            axes.axis("off")
            continue
        top, left_edge = boxes[number]
        axes.imshow(picture[top : top + window_size[0], left_edge : left_edge + window_size[1]])
        axes.set(xticks=[], yticks=[])
        color, line = _look(number)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2, linestyle=line)
        _number(axes, 0.06, 0.93, number, transform=axes.transAxes, va="top")
    what = "the windows of one pass, one a filter" if len(boxes) > 1 else "the window of one pass, for all filters"
    _title(figure, f"{name}: {what}, {window_size[0]}x{window_size[1]} pixels")
    return figure


@_styled
def covered(name: str, picture: np.ndarray, drawn: Mapping[int, np.ndarray], window_size: Size):
    """How many windows lie over each pixel after some passes; also returns the share of pixels covered by each.

    `drawn`: by number of passes all their windows `[N, 2]`.
    """
    sizes = {"window_size": window_size, "image_size": picture.shape[:2]}
    maps = {passes: coverage(boxes, **sizes) for passes, boxes in drawn.items()}
    shares = {passes: float((counts > 0).mean()) for passes, counts in maps.items()}
    most = max(counts.max() for counts in maps.values())
    height = WIDTH / len(maps) * picture.shape[0] / picture.shape[1]
    figure, axes = _figure(1, len(maps), height + 1.35)
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
    _title(figure, f"{name}: what the windows have seen")
    return figure, shares


@_styled
def sampling(names: Sequence[str], pictures: Sequence[np.ndarray], drawn: Mapping[str, np.ndarray], window_size: Size):
    """The images of a batch, a row each, and their windows under each way of sharing, a column each.

    `drawn`: by name of the way the windows of a pass, `[B or 1, F or 1, 2]`; six filters are drawn.
    """
    about = {
        "per_image": "per_image\na window for each\nimage and filter",
        "per_batch": "per_batch\na window for each filter,\nthe same in all images",
        "shared": "shared\na window for each image,\nthe same for all filters",
    }
    height, width = pictures[0].shape[:2]
    figure, axes = _figure(len(pictures), len(drawn), 1.3 + len(pictures) * WIDTH / len(drawn) * height / width)
    for column, (way, boxes) in enumerate(drawn.items()):
        for row, picture in enumerate(pictures):
            cell = axes[row, column]
            cell.imshow(picture)
            _sizes(cell, picture.shape, left=column == 0, below=row == len(pictures) - 1)
            _boxes(cell, boxes[min(row, len(boxes) - 1)][:6], window_size)
        axes[0, column].set_title(about[way])
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name if len(name) <= 24 else f"{name[:11]}…{name[-11:]}")
    filters = max(boxes.shape[1] for boxes in drawn.values())
    _title(figure, f"Who gets windows of its own: {min(6, filters)} of {filters} filters, one pass")
    return figure


@_styled
def filters(name: str, branches: Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """The first layer of each branch: kernels `[kh, kw, 3, F]`, and above their maps `[h, w, F]` of the image."""
    columns = 8
    rows = {branch: -(-kernels.shape[-1] // columns) for branch, (kernels, _) in branches.items()}
    cell = WIDTH / columns
    shapes = {branch: maps.shape[0] / maps.shape[1] for branch, (_, maps) in branches.items()}
    heights = [0.35 + rows[branch] * (0.45 + shapes[branch]) * cell for branch in branches]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.8))
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0)
    parts = figure.subfigures(len(branches), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (branch, (kernels, maps)) in zip(parts, branches.items()):
        size = "x".join(map(str, kernels.shape[:2]))
        whence = f"maps of {maps.shape[0]} x {maps.shape[1]} pixels"
        whence += ", each of its own window" if branch == "windows" else ""
        part.suptitle(f"{branch} branch: {kernels.shape[-1]} filters of {size}, {whence}", fontweight="normal")
        ratios = [0.4, shapes[branch]] * rows[branch]
        axes = part.subplots(2 * rows[branch], columns, squeeze=False, height_ratios=ratios)
        for place in range(rows[branch] * columns):
            above, below = axes[2 * (place // columns) : 2 * (place // columns) + 2, place % columns]
            if place < kernels.shape[-1]:
                kernel = kernels[..., place]
                above.imshow(0.5 + kernel / (2 * np.abs(kernel).max() + 1e-12), interpolation="nearest")
                below.imshow(maps[..., place].astype(np.float32), cmap="gray")
                above.set(xticks=[], yticks=[])
                below.set(xticks=[], yticks=[])
            else:
                above.axis("off")
                below.axis("off")
    _title(figure, f"{name}: first-layer filters (grey is zero) and below each its feature map, on its own scale")
    return figure


@_styled
def relevance(name: str, picture: np.ndarray, found: Relevance, *, number: int, odds: np.ndarray):
    """The image, and over it how the log-odds `[P]` of class `number` change with where the windows lie."""
    height = 0.42 * WIDTH * picture.shape[0] / picture.shape[1]
    figure, ((left, right),) = _figure(1, 2, height + 1.05)
    probability = (1 / (1 + np.exp(-odds))).mean()
    left.imshow(picture)
    left.set_title(f"class {number}: probability {probability:.2f}")
    scale = Normalize(-(limit := np.abs(found.map).max() or 1.0), limit)
    right.imshow(SIGNED(scale(found.map))[..., :3] * (0.5 + 0.5 * _grey(picture)[..., None]))
    right.set_title("places that raise and lower it")
    bar = figure.colorbar(ScalarMappable(scale, SIGNED), cax=right.inset_axes([1.04, 0, 0.05, 1]))
    bar.set_label(f"change of the log-odds of class {number}")
    for cell in (left, right):
        _sizes(cell, picture.shape, left=cell is left)
    share = f"{max(0.0, found.explained):.0%}" if np.isfinite(found.explained) else "none"
    _title(figure, f"{name}: what the prediction owes to each place")
    text = f"From {len(odds)} passes; where their windows lay explains {share} of what they differ by."
    figure.supxlabel(text, fontsize=9)
    return figure


def _figure(rows: int, columns: int, height: float):
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, squeeze=False)


def _title(figure, text: str) -> None:
    """In lines of what fits beside each other."""
    figure.suptitle(textwrap.fill(text, 68))


def _sizes(axes, shape: Sequence[int], *, left: bool = True, below: bool = True) -> None:
    """Ticks at the first and the last pixel's edges only: the picture's size."""
    height, width = shape[:2]
    axes.set(xticks=[-0.5, width - 0.5], yticks=[-0.5, height - 0.5])
    axes.set_xticklabels(["0", str(width)] if below else [])
    axes.set_yticklabels(["0", str(height)] if left else [])
    axes.tick_params(length=2, labelsize=8)
    for label, side in zip(axes.get_xticklabels(), ("left", "right")):
        label.set_horizontalalignment(side)


def _look(number: int) -> tuple:
    colors = COLORS[:6]
    return colors[number % len(colors)], LINES[number // len(colors) % len(LINES)]


def _boxes(axes, boxes: np.ndarray, window_size: Size) -> None:
    """Numbered frames, later ones inside the picture's own limits."""
    for number, (top, left) in enumerate(boxes):
        color, line = _look(number) if len(boxes) > 1 else (BLACK, "-")
        outline = [withStroke(linewidth=3, foreground="white")]
        place = (left - 0.5, top - 0.5), window_size[1], window_size[0]
        axes.add_patch(Rectangle(*place, fill=False, ec=color, lw=1.5, ls=line, path_effects=outline))
    if len(boxes) > 1:
        for number, (top, left) in enumerate(boxes):
            _number(axes, left + 0.06 * window_size[1], top + 0.06 * window_size[0], number, va="top")


def _number(axes, x: float, y: float, number: int, **settings) -> None:
    look = {"color": _look(number)[0], "fontsize": 8, "weight": "bold"}
    axes.text(x, y, str(number + 1), path_effects=[withStroke(linewidth=2, foreground="white")], **look, **settings)


def _grey(picture: np.ndarray) -> np.ndarray:
    """Brightness 0..1 `[H, W]`."""
    return picture.mean(axis=-1) / 255
