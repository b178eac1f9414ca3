"""Draws docs/pictures: the method, the coverage of ten passes, the badges.   python -m docs.draw_pictures"""

import io
import pathlib
import tomllib

import cv2
import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from stochconv_jax import ops
from stochconv_jax.data import augment
from stochconv_jax.data.synthetic import SyntheticSource

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
SIDE, THUMBNAIL, WINDOW = 1024, 224, 225  # pixels
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # of four filters
INK = {"light": "#24292f", "dark": "#d8dee6"}
LENS = 28  # pixels of the full image that a lens magnifies
KERNELS = np.array(
    [
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
        [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
    ],
    np.float32,
)


def main() -> None:
    """Writes every picture."""
    image = SyntheticSource(size=12, image_size=(SIDE, SIDE), seed=3).read(7)
    FOLDER.mkdir(exist_ok=True)
    for mode, ink in INK.items():
        figure = draw_idea(image, ink)
        figure.savefig(FOLDER / f"idea-{mode}.webp", dpi=200, transparent=True, pil_kwargs={"quality": 88})
    write_coverage(image, FOLDER / "coverage.gif")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (FOLDER / "badges.svg").write_text(badges(project))


def windows_of(key: int, passes: int, features: int) -> np.ndarray:
    """Returns windows as the layer draws them, int32 (top, left) in pixels, `[passes, features, 2]`."""
    sizes = {"image_size": (SIDE, SIDE), "window_size": (WINDOW, WINDOW)}
    return np.asarray(ops.sample_windows(jax.random.key(key), batch=passes, features=features, **sizes))


def draw_idea(image: np.ndarray, ink: str) -> Figure:
    """Draws the two branches. Image, thumbnail and windows have one scale: 300 units are 1024 pixels."""
    figure = plt.figure(figsize=(9.6, 4.6))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 960), ylim=(460, 0), aspect="equal")
    axes.axis("off")
    scale = 300 / SIDE
    left, top, small = 12, 110, THUMBNAIL * scale
    _show(axes, augment.resize(image, (640, 640)), left, top, 300, ink)
    thumbnail = augment.resize(image, (THUMBNAIL, THUMBNAIL))
    # The thumbnail's row: every filter reads the same small picture.
    row = 26
    _beam(axes, (left, top, 300), (390, row, small), ink)
    _show(axes, thumbnail, 390, row, small, ink)
    middle = np.array([560, 520])  # a place inside the lesion, row and column
    _lens(axes, thumbnail, middle * THUMBNAIL / SIDE, LENS * THUMBNAIL / SIDE, (390, row, small), 486, ink)
    for number, color in enumerate(COLORS):
        x, y = 581 + 15 * (number % 2), row + 18 + 16 * (number // 2)
        _kernel(axes, KERNELS[number], x, y, 13, color)
        _show(axes, _features(thumbnail, KERNELS[number]), 640 + 5 * number, row - 2 + 5 * number, 54, color, "gray")
    # The windows' rows: each filter reads its own full-resolution window.
    for number, ((y, x), color) in enumerate(zip(windows_of(19, 1, 4)[0], COLORS)):
        row = 128 + 82 * number
        crop = image[y : y + WINDOW, x : x + WINDOW]
        size = WINDOW * scale
        box = (left + x * scale, top + y * scale, size)
        _beam(axes, box, (390, row, size), color)
        axes.add_patch(plt.Rectangle(box[:2], size, size, fill=False, ec=color, lw=2.4, zorder=5))
        _show(axes, augment.resize(crop, (140, 140)), 390, row, size, color)
        _lens(axes, crop, np.array([112, 112]), LENS, (390, row, size), 486, color)
        _kernel(axes, KERNELS[number], 582, row + 20, 26, color)
        _show(axes, _features(crop, KERNELS[number]), 645, row + 3, 60, color, "gray")
    _networks(axes, ink)
    _labels(axes, ink)
    return figure


def _show(axes, picture, x, y, side, color, cmap=None) -> None:
    """Draws a picture as a square with its upper left corner at (x, y)."""
    axes.imshow(picture, extent=(x, x + side, y + side, y), cmap=cmap, interpolation="antialiased", zorder=3)
    axes.add_patch(plt.Rectangle((x, y), side, side, fill=False, ec=color, lw=1.6, zorder=4))
    axes.set(xlim=(0, 960), ylim=(460, 0))


def _beam(axes, start, end, color) -> None:
    """Joins the corners of two squares (x, y, side) by a translucent beam."""
    (x0, y0, side0), (x1, y1, side1) = start, end
    corners = [(x0 + side0, y0), (x1, y1), (x1, y1 + side1), (x0 + side0, y0 + side0)]
    axes.add_patch(plt.Polygon(corners, fc=color, ec="none", alpha=0.16, zorder=2))


def _lens(axes, picture, centre, side, source, x, color) -> None:
    """Draws the square of `side` pixels about `centre` (row, column), enlarged, right of the square `source`."""
    from_x, from_y, size = source
    first = np.round(centre - side / 2).astype(int)
    count = max(2, round(side))
    piece = picture[first[0] : first[0] + count, first[1] : first[1] + count]
    scale = size / picture.shape[0]
    corner, width = (from_x + first[1] * scale, from_y + first[0] * scale), count * scale
    axes.add_patch(plt.Rectangle(corner, width, width, fill=False, ec="white", lw=1.2, zorder=5))
    _beam(axes, (*corner, width), (x, from_y, size), color)
    axes.imshow(piece, extent=(x, x + size, from_y + size, from_y), interpolation="nearest", zorder=3)
    axes.add_patch(plt.Rectangle((x, from_y), size, size, fill=False, ec=color, lw=1.6, zorder=4))
    axes.set(xlim=(0, 960), ylim=(460, 0))


def _kernel(axes, kernel, x, y, side, color) -> None:
    """Draws the weights of a filter as a grid of greys."""
    axes.imshow(kernel, extent=(x, x + side, y + side, y), cmap="gray", interpolation="nearest", zorder=3)
    axes.add_patch(plt.Rectangle((x, y), side, side, fill=False, ec=color, lw=1.6, zorder=4))
    axes.set(xlim=(0, 960), ylim=(460, 0))


def _features(picture, kernel) -> np.ndarray:
    """Returns what the filter computes of a picture with stride 2, float32, cut to two standard deviations."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    features = cv2.filter2D(grey, -1, kernel)[1:-1:2, 1:-1:2]
    return np.clip((features - features.mean()) / (features.std() + 1e-6), -2, 2)


def _networks(axes, ink) -> None:
    """Draws each branch's network, their join, and the two probabilities."""
    style = {"fc": ink, "ec": "none", "zorder": 3}
    arrow = {"arrowstyle": "-|>", "color": ink}
    for middle, first, last, joined in ((59, 23, 95, 206), (287, 131, 443, 224)):
        axes.add_patch(
            plt.Polygon([(712, first), (738, middle - 36), (738, middle + 36), (712, last)], **style, alpha=0.16)
        )
        for number, half in enumerate(np.linspace(36, 12, 5)):
            block = plt.Rectangle((740 + 18 * number, middle - half), 11, 2 * half, **style, alpha=0.75 - 0.09 * number)
            axes.add_patch(block)
        axes.annotate("", (861, joined), (828, middle), arrowprops=arrow)
    for row in (59, *range(161, 161 + 4 * 82, 82)):
        for start in (558, 616):
            axes.annotate("", (start + 18, row), (start, row), arrowprops=arrow)
    axes.add_patch(plt.Circle((868, 215), 9, fill=False, ec=ink, lw=1.8))
    axes.plot([868, 868], [210, 220], color=ink, lw=1.6)
    axes.plot([863, 873], [215, 215], color=ink, lw=1.6)
    axes.annotate("", (906, 215), (878, 215), arrowprops=arrow)
    for number, height in enumerate((18, 62)):
        axes.add_patch(plt.Rectangle((912 + 18 * number, 246 - height), 13, height, **style, alpha=0.85))
    axes.plot([908, 947], [246, 246], color=ink, lw=1.4)


def _labels(axes, ink) -> None:
    style = {"color": ink, "fontsize": 10, "ha": "center"}
    axes.text(162, 426, "1024 x 1024", **style)
    axes.text(423, 17, "224 x 224", **style)
    axes.text(423, 118, "225 x 225", **style)
    axes.text(519, 17, "enlarged", **style)
    axes.text(595, 17, "filters", **style)
    axes.text(676, 17, "features", **style)
    axes.text(782, 17, "network", **style)
    axes.text(782, 245, "network", **style)
    axes.text(922, 262, "class 0 | 1", **style)


def write_coverage(image: np.ndarray, path: pathlib.Path, *, side: int = 360, passes: int = 10) -> None:
    """Writes an animation: the windows of one pass after another of 32 filters; what no window has seen stays dark."""
    covered, frames = np.zeros((SIDE, SIDE), bool), []
    dark = (0.22 * cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)).astype(np.uint8)
    for number, boxes in enumerate(windows_of(1, passes, 32), 1):
        for top, left in boxes:
            covered[top : top + WINDOW, left : left + WINDOW] = True
        frame = Image.fromarray(augment.resize(np.where(covered[..., None], image, dark), (side, side)))
        frames.append(_annotated(frame, boxes * side / SIDE, number, covered.mean(), passes))
    durations = [900] * (passes - 1) + [2500]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def _annotated(frame: Image.Image, boxes: np.ndarray, number: int, share: float, passes: int) -> Image.Image:
    """Returns the frame with the windows of pass `number`, and a bar below that says how much is covered."""
    side, size = frame.width, WINDOW * frame.width / SIDE
    whole = Image.new("RGB", (side, side + 30), "#24292f")
    whole.paste(frame)
    draw = ImageDraw.Draw(whole)
    for top, left in boxes:
        draw.rectangle((left, top, left + size, top + size), outline="#56B4E9")
    draw.rectangle((0, side, side * share, side + 4), fill="#56B4E9")
    font = ImageFont.truetype(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", 14)
    times = "1 pass" if number == 1 else f"{number} passes"
    draw.text((8, side + 9), f"{times} of {len(boxes)} windows", font=font, fill="#d8dee6")
    draw.text((side - 8, side + 9), f"{100 * share:.1f} % seen", font=font, fill="#d8dee6", anchor="ra")
    return whole.quantize(64)


def badges(project: dict) -> str:
    """Returns the badges, an SVG, from the `project` table of pyproject.toml."""
    jax_range = next(text for text in project["dependencies"] if text.startswith("jax>="))
    oldest, end = jax_range.removeprefix("jax>=").split(",<")
    python = f"{project['requires-python'].removeprefix('>=')} to 3.14"
    texts = {"Python": python, "JAX": f"{oldest} to <{end}", "Flax": "Linen | NNX", "licence": project["license"]}
    parts, x, out = [], 0, io.StringIO()
    for name, value in texts.items():
        widths = [7 * len(text) + 12 for text in (name, value)]
        for text, width, color in zip((name, value), widths, ("#555555", "#0072B2")):
            parts.append(f'<rect x="{x}" width="{width}" height="20" fill="{color}"/>')
            parts.append(f'<text x="{x + width / 2}" y="14" text-anchor="middle">{text.replace("<", "&lt;")}</text>')
            x += width
        x += 6
    out.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{x}" height="20" fill="white" ')
    out.write(f'font-family="DejaVu Sans,Verdana,sans-serif" font-size="11">{"".join(parts)}</svg>\n')
    return out.getvalue()


if __name__ == "__main__":
    main()
