r"""Measures what windows gain over a thumbnail of equal cost, by the size of the detail and the number of its places.

    python -m benchmarks.real.digits_map train runs/digits
    python -m benchmarks.real.digits_map draw runs/digits docs/digits-map.png

`train` builds the images of each cell of the map, see benchmarks/real/digits.py, and runs the sweep of
configs/ablations/quick_real.py on them, seed by seed. The same command goes on where it was stopped. `--shard=1/2` and
`--shard=2/2` share the cells between two processes. `draw` prints the table of all cells that are trained and draws the
map: at the size of the detail in the thumbnail, and the mean number of places that the windows of one pass contain.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.real import digits
from configs.ablations import real
from stochconv_jax.reporting import collect, results
from stochconv_jax.visualization import figures, window_chance

BASELINE = "thumbnail_equal_cost"
NAMES = {"per_image": "a window for each filter", "shared_crop": "a random crop for all filters"}
RIVALS = tuple(NAMES)
FILTERS = 8  # of the tiny network's stem
SEEDS = (0, 1, 2)
IMAGES, EPOCHS, PASSES = 1200, 10, 16


@dataclasses.dataclass(frozen=True)
class Cell:
    """Images of `side` pixels with `copies` digits of `detail` pixels, and thumbnails of `thumbnail` pixels."""

    side: int
    thumbnail: int
    detail: int
    copies: int

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        return f"side_{self.side}_thumbnail_{self.thumbnail}_detail_{self.detail}_copies_{self.copies}"

    def larger_thumbnail(self) -> int:
        """Returns the side of the thumbnail of equal cost in pixels."""
        return real.rivals(self.side, self.thumbnail)[BASELINE]["data.thumbnail_size"][0]

    def in_thumbnail(self) -> float:
        """Returns the side of a digit in pixels in the thumbnail of equal cost."""
        return self.detail * self.larger_thumbnail() / self.side

    def seen(self) -> float:
        """Returns the mean number of digits that the windows of one pass contain."""
        sizes = {"image_size": (self.side,) * 2, "window_size": (self.thumbnail + 1,) * 2, "detail": self.detail}
        return FILTERS * self.copies * window_chance.chance(**sizes, windows=1)


# Details of 8 pixels, the size of the digits in the data, in images that shrink by ever more, and larger details.
CELLS = (
    *(Cell(640, 32, 8, copies) for copies in (64, 256, 1024)),
    *(Cell(320, 32, 8, copies) for copies in (16, 64, 256)),
    *(Cell(160, 32, 8, copies) for copies in (4, 16, 64)),
    *(Cell(160, 32, 16, copies) for copies in (1, 4, 16)),
)


def train(folder: pathlib.Path, cells: Sequence[Cell], more: Sequence[str]) -> None:
    """Trains the rivals of the cells with one seed after the other, and evaluates them.

    `more` are further arguments of main.py.
    """
    for seed in SEEDS:
        for cell in cells:
            images = folder / "images" / cell.name
            if not (images / "labels.csv").exists():
                digits.build(images, number=IMAGES, side=cell.side, detail=cell.detail, copies=cell.copies)
            subprocess.run([sys.executable, "main.py", *arguments(cell, folder, seed), *more], check=True)


def arguments(cell: Cell, folder: pathlib.Path, seed: int) -> list[str]:
    """Returns the arguments of main.py for a cell's sweep with one seed."""
    images = folder / "images" / cell.name
    settings = {
        "data.source": "folder",
        "data.path": images / "images",
        "data.labels": images / "labels.csv",
        "data.group_by": "pool",
        "augment.rotation": 0,
        "num_epochs": EPOCHS,
        "sweep.variants": ",".join((BASELINE, *RIVALS)),
        "sweep.seeds": f"({seed},)",
        "sweep.passes": PASSES,
    }
    config = f"configs/ablations/quick_real.py:{cell.side},{cell.thumbnail}"
    start = ["--mode=sweep", f"--config={config}", f"--workdir={folder / 'runs' / cell.name}"]
    return start + [f"--config.{key}={value}" for key, value in settings.items()]


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a rival in a cell: `by_passes` has the mean ROC AUC over seeds after 1, 2, ... passes."""

    cell: Cell
    rival: str
    seeds: int
    baseline: float
    by_passes: np.ndarray
    difference: float
    low: float
    high: float


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the rows of all cells in which a rival and the baseline are trained with two seeds or more."""
    rows = []
    for cell in CELLS:
        root = folder / "runs" / cell.name
        if not root.exists():
            continue
        groups, _ = collect.collect(root)
        found = {group.name: results.summarise(group) for group in groups}
        for rival in RIVALS:
            if rival not in found or BASELINE not in found:
                continue
            compared = results.compare(found[rival], found[BASELINE])
            if compared.image_pairs < 2:
                continue
            both, quality = compared.both, found[BASELINE].quality
            by_passes = [run.evaluation["roc_auc_by_passes"] for run in found[rival].group.finished]
            assert quality is not None
            mean = np.mean(by_passes, axis=0)
            rows.append(Row(cell, rival, compared.image_pairs, quality.roc_auc, mean, both.value, both.low, both.high))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table in Markdown."""
    lines = [
        "| image | thumbnails | detail, copies | detail in the larger thumbnail | digits in windows | larger "
        "thumbnail | rival | 1 pass | 4 | 16 | difference [95 %] |",
        "| --- " * 11 + "|",
    ]
    for row in rows:
        cell, passes = row.cell, " | ".join(f"{row.by_passes[number - 1]:.3f}" for number in (1, 4, PASSES))
        sizes = f"{cell.side} | {cell.thumbnail}, {cell.larger_thumbnail()} | {cell.detail}, {cell.copies}"
        lines.append(
            f"| {sizes} | {cell.in_thumbnail():.1f} | {cell.seen():.2f} | {row.baseline:.3f} | {row.rival} | "
            f"{passes} | {row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}] |"
        )
    return "\n".join(lines)


@figures.styled
def draw(rows: Sequence[Row]):
    """Draws the map, one panel for each rival: a circle for each cell, with the AUC of both and their difference."""
    figure, (panels,) = figures.grid(1, len(RIVALS), 4.2)
    for axes, rival in zip(panels, RIVALS):
        for row in rows:
            if row.rival == rival:
                _draw_cell(axes, row)
        axes.set(xscale="log", yscale="log", title=NAMES[rival], xlabel="detail in the larger thumbnail (pixels)")
        axes.set(xlim=(0.4, 7.5), ylim=(0.08, 80))
        axes.set_xticks([0.6, 1.2, 2.4, 4.8], ["0.6", "1.2", "2.4", "4.8"])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("digits that windows contain in one pass (mean)")
    return figure


def _draw_cell(axes, row: Row) -> None:
    """Draws a circle in the colour of the difference, grey if its interval includes 0, with numbers below it."""
    place = row.cell.in_thumbnail(), row.cell.seen()
    color = figures.BLUE if row.low > 0 else figures.VERMILLION if row.high < 0 else "0.6"
    axes.plot(*place, "o", color=color, markersize=9)
    text = f"{row.difference:+.2f}\n({row.by_passes[-1]:.2f}, {row.baseline:.2f})"
    axes.annotate(text, place, (0, -7), textcoords="offset points", fontsize=7, ha="center", va="top")


def _shard(text: str) -> slice:
    """Returns the cells of shard '1/2' and so on."""
    part, number = map(int, text.split("/"))
    if not 0 < part <= number:
        raise argparse.ArgumentTypeError(f"{text}: write 1/2 for the first of two parts")
    return slice(part - 1, None, number)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    trained = what.add_parser("train", help="builds the images and trains; what is not known here goes to main.py")
    trained.add_argument("folder", type=pathlib.Path, help="where to write")
    trained.add_argument(
        "--shard", type=_shard, default=slice(None), help="the part of the cells to train, such as 1/2"
    )
    drawn = what.add_parser("draw", help="prints the table and draws the map")
    drawn.add_argument("folder", type=pathlib.Path, help="what `train` wrote")
    drawn.add_argument("figure", type=pathlib.Path, help="PNG to write")
    options, rest = parser.parse_known_args()
    if options.what == "train":
        train(options.folder, CELLS[options.shard], rest)
    else:
        found = read(options.folder)
        print(table(found))
        figures.save(draw(found), options.figure)
