"""Places a data set among those that were measured: by how much of a detail the thumbnail keeps, and windows see."""

import dataclasses
import math

from stochconv_jax.ops import Axes
from stochconv_jax.visualization import figures
from stochconv_jax.visualization.attribution import Size
from stochconv_jax.visualization.window_chance import chance

PASSES = (1, 4, 16)


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

    def in_thumbnail(self, detail: float) -> float:
        """Returns the width in the thumbnail, in pixels, of a detail of `detail` pixels."""
        return detail * min(small / size for small, size in zip(self.thumbnail_size, self.image_size))

    def chance(self, detail: int, passes: int = 1) -> float:
        """Returns the chance that a window of one of the passes contains the detail."""
        sizes = {"image_size": self.image_size, "window_size": self.window_size}
        return chance(**sizes, detail=detail, windows=self.number * passes, axes=self.axes)

    def details(self) -> list[int]:
        """Returns sizes of details, four to an octave, from 2 pixels to a window."""
        most = math.log2(min(self.window_size))
        return sorted({round(2 ** (step / 4)) for step in range(4, int(4 * most) + 1)})


@dataclasses.dataclass(frozen=True)
class Measured:
    """A comparison on a data set: the ROC AUC of windows with a thumbnail minus that of a thumbnail of equal cost.

    `detail` is the typical size in pixels of what decides, and `low` to `high` the 95 % interval of the difference.
    """

    name: str
    windows: Windows
    detail: int
    difference: float
    low: float
    high: float


# docs/when-windows-help.md has the sources.
MEASURED = (
    Measured("retina", Windows((1024, 1024), (224, 224), (225, 225), 32), 16, -0.008, -0.021, 0.004),
    Measured("boards", Windows((320, 320), (112, 112), (113, 113), 8), 15, -0.041, -0.100, 0.019),
    Measured("drawn", Windows((320, 320), (64, 64), (65, 65), 8), 4, 0.465, 0.382, 0.558),
)


def describe(seen: Windows, detail: int) -> str:
    """Returns what is known of a detail of `detail` pixels, in sentences; 0 if its size is not known."""
    sizes = [f"{height}x{width}" for height, width in (seen.image_size, seen.thumbnail_size, seen.window_size)]
    text = f"images of {sizes[0]} with thumbnails of {sizes[1]}, and {seen.number} windows of {sizes[2]} in a pass. "
    if not detail:
        return text + "How large is the detail that decides? Set --config.show.detail=PIXELS"
    chances = ", ".join(f"{seen.chance(detail, passes):.2f} in {passes}" for passes in PASSES)
    width = seen.in_thumbnail(detail)
    found = min(MEASURED, key=lambda one: _distance(seen, detail, one))
    return text + (
        f"A detail of {detail} pixels has {width:.1f} in the thumbnail, and {2**0.5 * width:.1f} in one at the cost of "
        f"both branches. The chance that a window contains it, by passes: {chances}. Measured nearest to this: "
        f"{found.name}, {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] AUC against such a thumbnail"
    )


def _distance(seen: Windows, detail: int, other: Measured) -> float:
    widths = seen.in_thumbnail(detail), other.windows.in_thumbnail(other.detail)
    chances = seen.chance(detail), other.windows.chance(other.detail)
    return math.hypot(math.log2(widths[0] / widths[1]), 4 * (chances[0] - chances[1]))


@figures.styled
def draw(seen: Windows, detail: int):
    """Draws the chances against the size of the detail, and beside them the measured data sets.

    A line and a star mark the detail of `detail` pixels, if it is not 0.
    """
    figure, ((left, right),) = figures.grid(1, 2, 3.8)
    sizes = seen.details()
    for passes, style, color in zip(PASSES, figures.LINES, figures.COLORS):
        name = f"{passes} pass{'es' * (passes > 1)}"
        left.plot(sizes, [seen.chance(size, passes) for size in sizes], color=color, linestyle=style, label=name)
    left.set(xlabel="detail in the image (pixels)", ylabel="chance that a window contains it")
    widths = [seen.in_thumbnail(size) for size in sizes]
    right.plot(widths, [seen.chance(size) for size in sizes], color=figures.BLACK, label="these images")
    _draw_measured(right)
    if detail:
        left.axvline(detail, color=figures.BLACK, linewidth=0.8)
        right.plot(
            seen.in_thumbnail(detail), seen.chance(detail), "*", color=figures.BLACK, markersize=16, fillstyle="none"
        )
    right.set(xlabel="detail in the thumbnail (pixels)", ylabel="chance in one pass")
    right.set_title("circles: measured gain of AUC\nover a thumbnail of equal cost", fontsize=9)
    for axes in (left, right):
        axes.set_ylim(0, 1.03)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", fontsize=8)
    top = left.twiny()
    for axes in (left, right, top):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    top.set(xlabel="in the thumbnail (pixels)", xlim=[seen.in_thumbnail(x) for x in left.get_xlim()])
    return figure


def _draw_measured(axes) -> None:
    """Marks the measured data sets: blue where windows gain significantly, vermillion where they lose, else grey."""
    for one in MEASURED:
        place = one.windows.in_thumbnail(one.detail), one.windows.chance(one.detail)
        color = figures.BLUE if one.low > 0 else figures.VERMILLION if one.high < 0 else "0.6"
        axes.plot(*place, "o", color=color, markersize=8)
        axes.annotate(
            f"{one.name}: {one.difference:+.3f}", place, (0, 8), textcoords="offset points", fontsize=8, ha="center"
        )
