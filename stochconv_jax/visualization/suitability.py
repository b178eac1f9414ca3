"""Places a data set among those that were measured: by how much of a detail the thumbnail keeps, and windows see."""

import dataclasses
import math
from typing import NamedTuple

from stochconv_jax.ops import Axes
from stochconv_jax.visualization import figures
from stochconv_jax.visualization.attribution import Size
from stochconv_jax.visualization.window_chance import chance

PASSES = (1, 4, 16)
DIGITS, BOARDS, PIECES = "digits", "boards", "pieces of boards"  # names of measured data sets
LEAST_SEEN = 0.01  # fewer details in the windows of a pass are drawn here


class Detail(NamedTuple):
    """Describes what decides the class: squares of `size` pixels, which lie at `places` places of an image on average.

    A `size` of 0 means that the size is not known.
    """

    size: int
    places: float = 1


UNKNOWN = Detail(0)


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a network with a window branch sees images; sizes are (height, width) in pixels.

    Attributes:
      image_size, thumbnail_size, window_size: of the image, the thumbnail and a window.
      number: different windows of an image in one pass.
      axes: see `ops.sample_windows`.
    """

    image_size: Size
    thumbnail_size: Size
    window_size: Size
    number: int
    axes: Axes = "independent"

    def in_thumbnail(self, size: float) -> float:
        """Returns the width in the thumbnail, in pixels, of a detail of `size` pixels."""
        return size * min(small / size for small, size in zip(self.thumbnail_size, self.image_size))

    def in_larger_thumbnail(self, size: float) -> float:
        """Returns the width in a thumbnail at the cost of both branches, which has twice the pixels."""
        return 2**0.5 * self.in_thumbnail(size)

    def chance(self, size: int, passes: int = 1) -> float:
        """Returns the chance that a window of one of the passes contains a square of `size` pixels."""
        return self._chance(size, self.number * passes)

    def seen(self, detail: Detail) -> float:
        """Returns the mean number of places that the windows of one pass contain, each as often as it is contained."""
        return self.number * detail.places * self._chance(detail.size, 1)

    def _chance(self, size: int, windows: int) -> float:
        sizes = {"image_size": self.image_size, "window_size": self.window_size}
        return chance(**sizes, detail=size, windows=windows, axes=self.axes)

    def details(self) -> list[int]:
        """Returns sizes of details, four to an octave, from 2 pixels to a window."""
        most = math.log2(min(self.window_size))
        return sorted({round(2 ** (step / 4)) for step in range(4, int(4 * most) + 1)})


@dataclasses.dataclass(frozen=True)
class Measured:
    """A comparison on a data set: the ROC AUC of windows with a thumbnail minus that of a thumbnail of equal cost.

    `larger` is the side of that thumbnail in pixels, and `detail` is typical of what decides. `low` to `high` is the
    95 % interval of the difference, and `significant` says whether its p, corrected for the comparisons of its table in
    docs/when-windows-help.md, is below 0.05.
    """

    name: str
    windows: Windows
    larger: int
    detail: Detail
    difference: float
    low: float
    high: float
    significant: bool = False

    def width(self) -> float:
        """Returns the width of the detail in the larger thumbnail, in pixels."""
        return self.detail.size * self.larger / self.windows.image_size[0]

    def seen(self) -> float:
        """Returns the mean number of details in the windows of one pass."""
        return self.windows.seen(self.detail)

    def gains(self) -> bool:
        """Returns whether windows are significantly better."""
        return self.significant and self.difference > 0


def _on_map(
    name: str, side: int, thumbnail: int, detail: Detail, *difference: float, significant: bool = False
) -> Measured:
    """Returns a cell of a map: images, thumbnails and larger thumbnails of `side`, `thumbnail` and 1.5 `thumbnail`."""
    windows = Windows((side, side), (thumbnail, thumbnail), (thumbnail + 1, thumbnail + 1), 8)
    return Measured(name, windows, thumbnail * 3 // 2, detail, *difference, significant=significant)


# docs/when-windows-help.md has the sources. Boards from which no network learnt are left out.
OF_THE_MAPS = (
    _on_map(DIGITS, 640, 32, Detail(8, 256), 0.037, -0.043, 0.129),
    _on_map(DIGITS, 640, 32, Detail(8, 1024), 0.335, 0.226, 0.442, significant=True),
    _on_map(DIGITS, 320, 32, Detail(8, 16), -0.161, -0.255, -0.071, significant=True),
    _on_map(DIGITS, 320, 32, Detail(8, 64), -0.227, -0.298, -0.144, significant=True),
    _on_map(DIGITS, 320, 32, Detail(8, 256), 0.010, -0.093, 0.108),
    _on_map(DIGITS, 160, 32, Detail(8, 4), -0.147, -0.232, -0.065, significant=True),
    _on_map(DIGITS, 160, 32, Detail(8, 16), -0.198, -0.292, -0.108, significant=True),
    _on_map(DIGITS, 160, 32, Detail(8, 64), -0.040, -0.106, 0.027),
    _on_map(DIGITS, 160, 32, Detail(16, 1), -0.118, -0.206, -0.032, significant=True),
    _on_map(DIGITS, 160, 32, Detail(16, 4), -0.262, -0.346, -0.186, significant=True),
    _on_map(DIGITS, 160, 32, Detail(16, 16), -0.281, -0.342, -0.221, significant=True),
    _on_map(PIECES, 176, 64, Detail(32, 1.4), -0.138, -0.176, -0.102, significant=True),
    _on_map(PIECES, 160, 64, Detail(16, 2.9), -0.102, -0.162, -0.046, significant=True),
)
MEASURED = (
    Measured("retina", Windows((1024, 1024), (224, 224), (225, 225), 32), 320, Detail(16, 10), -0.005, -0.014, 0.004),
    Measured(BOARDS, Windows((320, 320), (112, 112), (113, 113), 8), 160, Detail(16, 6.7), -0.070, -0.128, -0.001),
    Measured("texture", Windows((320, 320), (64, 64), (65, 65), 8), 96, Detail(4, 2000), 0.470, 0.404, 0.538, True),
    *OF_THE_MAPS,
)


def describe(windows: Windows, detail: Detail) -> str:
    """Returns what is known of the detail, in sentences."""
    sizes = [f"{height}x{width}" for height, width in (windows.image_size, windows.thumbnail_size, windows.window_size)]
    text = f"images of {sizes[0]} with thumbnails of {sizes[1]}, and {windows.number} windows of {sizes[2]} in a pass. "
    if not detail.size:
        return text + "How large is the detail that decides? Set --config.show.detail=PIXELS"
    if detail.size > min(windows.window_size):
        text += f"A detail of {detail.size} pixels is larger than a window. "
    chances = ", ".join(f"{windows.chance(detail.size, passes):.2f} in {passes}" for passes in PASSES)
    width, larger = windows.in_thumbnail(detail.size), windows.in_larger_thumbnail(detail.size)
    crop = dataclasses.replace(windows, number=1)
    found = min(MEASURED, key=lambda one: _distance(windows, detail, one))
    text += (
        f"A detail of {detail.size} pixels has {width:.1f} in the thumbnail, and {larger:.1f} in one at the cost of "
        f"both branches. The chance that a window contains a given one, by passes: {chances}. With {detail.places:g} "
        f"in an image (--config.show.places), the windows of a pass contain {_count(windows.seen(detail))} on average, "
        f"repeats counted, and a random crop for all filters {_count(crop.seen(detail))}. Measured nearest: "
        f"{found.name}, {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] AUC against such a thumbnail"
    )
    return text + _doubts(larger, windows.seen(detail))


def _doubts(width: float, seen: float) -> str:
    """Returns a sentence if no measured data set gained with details as wide or as few, else ''."""
    gained = [one for one in MEASURED if one.gains()]
    widest, fewest = max(one.width() for one in gained), min(one.seen() for one in gained)
    doubts = []
    if round(width, 1) > round(widest, 1):
        doubts.append(f"details of more than {widest:.1f} pixels in the larger thumbnail")
    if round(seen) < round(fewest):
        doubts.append(f"fewer than {fewest:.0f} details in the windows of a pass")
    if not doubts:
        return ""
    return ". With a window for each filter, no measured data set gained with " + ", or with ".join(doubts)


def _count(seen: float) -> str:
    return f"{seen:.0f}" if seen > 10 else f"{seen:.2g}"


def _distance(windows: Windows, detail: Detail, other: Measured) -> float:
    """Returns the distance in the right part of the figure, in octaves."""
    widths = windows.in_larger_thumbnail(detail.size) / other.width()
    seen = max(windows.seen(detail), LEAST_SEEN) / other.seen()
    return math.hypot(math.log2(widths), math.log2(seen))


@figures.styled
def draw(windows: Windows, detail: Detail):
    """Draws the chances against the size of the detail, and beside them the measured data sets.

    A line and a star mark the detail, if its size is known.
    """
    figure, ((left, right),) = figures.grid(1, 2, 3.8)
    sizes = windows.details()
    for passes, style, color in zip(PASSES, figures.LINES, figures.COLORS):
        name = f"{passes} pass{'es' * (passes > 1)}"
        left.plot(sizes, [windows.chance(size, passes) for size in sizes], color=color, linestyle=style, label=name)
    left.set(xlabel="detail in the image (pixels)", ylabel="chance that a window contains it", ylim=(0, 1.03))
    widths = [windows.in_larger_thumbnail(size) for size in sizes]
    seen = [max(windows.seen(Detail(size, detail.places)), LEAST_SEEN) for size in sizes]
    right.plot(widths, seen, color=figures.BLACK, label="these images")
    _draw_measured(right)
    if detail.size:
        left.axvline(detail.size, color=figures.BLACK, linewidth=0.8)
        place = windows.in_larger_thumbnail(detail.size), max(windows.seen(detail), LEAST_SEEN)
        right.plot(*place, "*", color=figures.BLACK, markersize=16, fillstyle="none")
    right.set(xlabel="detail in the larger thumbnail (pixels)", ylabel="details in the windows of a pass", yscale="log")
    title = "gain of AUC over the larger thumbnail\nblue: significantly better, orange: worse"
    right.set_title(title, fontsize=9)
    right.yaxis.set_major_formatter("{x:g}")
    right.margins(0.1, 0.12)
    top = left.twiny()
    for axes in (left, right, top):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", fontsize=8)
    top.set(xlabel="in the thumbnail (pixels)", xlim=[windows.in_thumbnail(x) for x in left.get_xlim()])
    return figure


def _draw_measured(axes) -> None:
    """Marks the measured data sets: blue where windows gain significantly, vermillion where they lose, else grey.

    Boards are squares with their numbers on the right, others circles with their numbers above.
    """
    for one in MEASURED:
        place, boards = (one.width(), one.seen()), one.name in (BOARDS, PIECES)
        color = figures.gain_color(one.difference, one.significant)
        axes.plot(*place, "s" if boards else "o", color=color, markersize=6 if boards else 7)
        text, shift, side = f"{one.name}: {one.difference:+.3f}", (-4, 6), "left"
        if boards:
            text, shift = f"{one.difference:+.2f}", (6, -3)
        elif one.name == DIGITS:
            text, shift, side = f"{one.difference:+.2f}", (0, 6), "center"
        axes.annotate(text, place, shift, textcoords="offset points", fontsize=7, ha=side, path_effects=figures.OUTLINE)
    axes.plot([], [], "s", color=figures.gain_color(0, False), markersize=6, label="boards")
