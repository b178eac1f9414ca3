r"""Measures what windows gain over a thumbnail of equal cost, by the size of the detail and how often windows see it.

    python -m benchmarks.real.detail_map train digits runs/digits
    python -m benchmarks.real.detail_map draw digits runs/digits docs/digits-map.png

    git clone --bare https://github.com/tangsanli5201/DeepPCB DEEPPCB
    python -m benchmarks.real.detail_map train boards runs/boards_map --source=DEEPPCB
    python -m benchmarks.real.detail_map draw boards runs/boards_map docs/boards-map.png

`train` builds the images of each cell of the map, see benchmarks/real/cells.py, and runs the sweep of
configs/ablations/quick_real.py on them. The same command goes on where it was stopped. `--shard=1/2` and `--shard=2/2`
share the cells between two processes. Other arguments are passed to main.py: `--config.sweep.shard=1/2` and `2/2` share
the runs of each cell, whose images the first process must have built before the second starts.

`draw` prints the table of the cells that are trained with two seeds or more, and draws the map: at the size of the
detail in the larger thumbnail, and the mean number of details in the windows of one pass. A detail counts once for each
window that contains it.
"""

import argparse
import dataclasses
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker

from benchmarks.real.cells import BASELINE, MAPS, RIVALS, Cell
from stochconv_jax import metrics
from stochconv_jax.reporting import collect, results
from stochconv_jax.visualization import figures

PASSES = 16


def train(
    folder: pathlib.Path, cells: Sequence[Cell], more: Sequence[str] = (), source: pathlib.Path | None = None
) -> None:
    """Trains and evaluates the rivals of each cell. `more` are further arguments of main.py.

    See `Cell.build` for `source`.
    """
    for cell in cells:
        images = folder / "images" / cell.name
        if not (images / "labels.csv").exists():
            cell.build(images, source)
        _run([sys.executable, "main.py", *arguments(cell, folder), *more])


def arguments(cell: Cell, folder: pathlib.Path) -> list[str]:
    """Returns the arguments of main.py for a cell's sweep."""
    images = folder / "images" / cell.name
    settings = {
        "data.source": "folder",
        "data.path": images / "images",
        "data.labels": images / "labels.csv",
        "augment.rotation": 0,
        "sweep.variants": ",".join((BASELINE, *RIVALS)),
        "sweep.passes": PASSES,
        **cell.settings,
    }
    config = f"configs/ablations/quick_real.py:{cell.side},{cell.thumbnail}"
    start = ["--mode=sweep", f"--config={config}", f"--workdir={folder / 'runs' / cell.name}"]
    return start + [f"--config.{key}={value}" for key, value in settings.items()]


def _run(command: Sequence[str]) -> None:
    """Runs a command, which a signal to this process stops too. Exits with the command's code if that is not 0."""
    process = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: process.terminate())
    if code := process.wait():
        raise SystemExit(code)


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a rival in a cell.

    Attributes:
      baseline: mean ROC AUC of the larger thumbnail over seeds.
      by_passes: mean ROC AUC of the rival over seeds after 1, 2, ... passes.
      difference: of the rival after all passes and the larger thumbnail, with the interval over seeds and images.
      significant: whether p, corrected for the number of rows (Holm), is below 0.05.
    """

    cell: Cell
    rival: str
    seeds: int
    baseline: float
    by_passes: np.ndarray
    difference: metrics.Difference
    significant: bool = False


def read(folder: pathlib.Path, cells: Sequence[Cell]) -> list[Row]:
    """Returns the rows of all cells in which a rival and the baseline are evaluated with two common seeds or more."""
    rows = []
    for cell in cells:
        try:
            groups, _ = collect.collect(folder / "runs" / cell.name)
        except ValueError:  # no run has finished an epoch
            continue
        found = {group.name: results.summarise(group) for group in groups}
        for rival in found.keys() & RIVALS.keys() if BASELINE in found else ():
            compared = results.compare(found[rival], found[BASELINE])
            if compared.image_pairs < 2:
                continue
            ours, theirs = (
                {run.seed: run.evaluation["roc_auc_by_passes"] for run in found[name].group.finished if run.predictions}
                for name in (rival, BASELINE)
            )
            seeds = ours.keys() & theirs.keys()
            mean = np.mean([ours[seed] for seed in seeds], axis=0)
            baseline = float(np.mean([theirs[seed][-1] for seed in seeds]))
            rows.append(Row(cell, rival, len(seeds), baseline, mean, compared.both))
    corrected = results.holm([row.difference.p for row in rows])
    rows = [dataclasses.replace(row, significant=p < 0.05) for row, p in zip(rows, corrected)]
    return sorted(rows, key=lambda row: (list(RIVALS).index(row.rival), cells.index(row.cell)))


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table in Markdown."""
    lines = [
        "| windows | image | detail | details | detail in the larger thumbnail | details in windows, 1 pass | seeds | "
        "larger thumbnail | 1 pass | 4 passes | 16 passes | difference [95 %] |",
        "| --- " * 12 + "|",
    ]
    for row in rows:
        cell, (value, low, high, _) = row.cell, row.difference
        size, places = cell.decides
        cells = [RIVALS[row.rival], cell.side, size, f"{places:g}", f"{cell.in_thumbnail():.1f}"]
        cells += [f"{cell.seen(row.rival):.2g}", row.seeds, f"{row.baseline:.3f}"]
        cells += [f"{row.by_passes[number - 1]:.3f}" for number in (1, 4, PASSES)]
        difference = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells.append(f"**{difference}**" if row.significant else difference)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@figures.styled
def draw(rows: Sequence[Row]):
    """Draws the map, one panel for each rival: a circle for each cell, with the AUC of both and their difference."""
    figure, (panels,) = figures.grid(1, len(RIVALS), 4.2)
    widths = sorted({row.cell.in_thumbnail() for row in rows})
    for axes, (rival, title) in zip(panels, RIVALS.items()):
        for row in rows:
            if row.rival == rival:
                _draw_cell(axes, row)
        axes.set(xscale="log", yscale="log", title=title, xlabel="detail in the larger thumbnail (pixels)")
        axes.set_xticks(widths, [f"{width:.1f}" for width in widths])
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.margins(0.2)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("details in the windows of one pass (mean)")
    return figure


def _draw_cell(axes, row: Row) -> None:
    """Draws a circle: blue where windows gain significantly, vermillion where they lose, else grey; with numbers."""
    place = row.cell.in_thumbnail(), row.cell.seen(row.rival)
    gain = row.difference.value
    axes.plot(*place, "o", color=figures.gain_color(gain, row.significant), markersize=9)
    text = f"{gain:+.2f}\n({row.by_passes[-1]:.2f}, {row.baseline:.2f})"
    axes.annotate(text, place, (0, -7), textcoords="offset points", fontsize=7, ha="center", va="top")


def _shard(text: str) -> tuple[int, int]:
    """Returns part and number of parts of '1/2' and so on."""
    part, _, number = text.partition("/")
    if not (part.isdecimal() and number.isdecimal() and 0 < int(part) <= int(number)):
        raise argparse.ArgumentTypeError(f"{text}: write 1/2 for the first of two parts")
    return int(part), int(number)


def main() -> None:
    """Trains or draws, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    trained = what.add_parser("train", help="builds the images and trains; further arguments are those of main.py")
    drawn = what.add_parser("draw", help="prints the table and draws the map")
    for command, folder in ((trained, "where to write"), (drawn, "what `train` wrote")):
        command.add_argument("map", choices=MAPS, help="the cells, see benchmarks/real/cells.py")
        command.add_argument("folder", type=pathlib.Path, help=folder)
    trained.add_argument("--shard", type=_shard, default=(1, 1), help="the part of the cells to train, such as 1/2")
    trained.add_argument("--source", type=pathlib.Path, help="a clone of the boards, for their map")
    drawn.add_argument("figure", type=pathlib.Path, help="PNG to write")
    options, more = parser.parse_known_args()
    cells = MAPS[options.map]
    if options.what == "train":
        part, number = options.shard
        if number > len(cells):
            parser.error(f"--shard={part}/{number}: the map has {len(cells)} cells")
        try:
            return train(options.folder, cells[part - 1 :: number], more, options.source)
        except ValueError as error:
            parser.error(str(error))
    rows = read(options.folder, cells)
    if more or not rows:
        parser.error(f"unknown: {' '.join(more)}" if more else f"{options.folder}: no cell is trained with two seeds")
    print(table(rows))
    figures.save(draw(rows), options.figure)


if __name__ == "__main__":
    main()
