"""Draws the charts of the report, each as PNG and SVG, one column wide.

Models differ in colour, marker and line style, so that charts can be read in black and white. The colours are Okabe &
Ito's, which colour-blind readers can distinguish. pyplot is not used, because it would look for a display or a
notebook.
"""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import sklearn.metrics
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import offset_copy

from stochconv_jax import metrics
from stochconv_jax.data import class_names
from stochconv_jax.reporting.evaluations import BY_PASSES, SavedPredictions
from stochconv_jax.reporting.models import Run
from stochconv_jax.reporting.page import Picture
from stochconv_jax.reporting.results import Result

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^vDPX*"
LINES = ("-", "--", "-.", ":")
WIDTH = 3.6  # inches, one column of a page
LONGEST = 44  # characters of a model's name in a legend of this width
SETTINGS: dict[Any, Any] = {  # matplotlib's rcParams
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.hashsalt": "stochconv_jax",  # a fixed salt: the same numbers give the same file
}
CHANCE = {"color": "0.6", "lw": 0.8, "zorder": 1}
Line = tuple[np.ndarray, np.ndarray]  # x and y of one run, [points] each


def draw(results: Sequence[Result], folder: pathlib.Path) -> list[Picture]:
    """Draws the charts for which the runs have numbers, writes them into `folder` and returns them with captions."""
    folder.mkdir(exist_ok=True)
    pictures, with_folds = [], any(result.group.folds for result in results)
    with matplotlib.rc_context(SETTINGS):
        for name, caption, function in FIGURES:
            figure = function(results)
            if figure is None:
                continue
            figure.savefig(folder / f"{name}.png", dpi=220)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pictures.append(Picture(name, f"{caption} {BAND_OF_FOLDS}" if with_folds and BAND in caption else caption))
    return pictures


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index // len(COLORS) % len(LINES)],
    }


def _axes(height: float, models: Sequence[Result], rows: int = 1, **settings) -> tuple[Figure, np.ndarray]:
    """Returns a figure with room for a legend of `models` below the axes, and its axes `[rows]`.

    `height` is that of the axes, in inches.
    """
    legend_rows = -(-len(models) // _legend_columns(models))
    figure = Figure(figsize=(WIDTH, height + 0.17 * legend_rows), layout="constrained")
    return figure, figure.subplots(rows, squeeze=False, **settings)[:, 0]


def _legend_columns(models: Sequence[Result]) -> int:
    return 2 if len(models) > 1 and max(len(result.group.name) for result in models) <= 22 else 1


def _legend(figure: Figure, axes: Axes, models: Sequence[Result]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_legend_columns(models))


def _label(name: str) -> str:
    """Returns a model's name as matplotlib draws it: shortened, and with its special characters escaped.

    A leading underscore would hide the line, and a dollar sign would begin a formula.
    """
    if len(name) > LONGEST:
        name = f"{name[: LONGEST // 2 - 1]}…{name[-LONGEST // 2 :]}"
    return "\u200b" + name.replace("$", r"\$")


def _band(axes: Axes, results: Sequence[Result], index: int, lines: Sequence[Line]) -> None:
    """Draws the mean of the lines of `results[index]`, and the band from their minimum to their maximum.

    The lines may have different x. At each x the runs that have a value there count.
    """
    x = np.unique(np.concatenate([line_x for line_x, _ in lines]))
    table = np.full((len(lines), len(x)), np.nan)
    for row, (line_x, values) in zip(table, lines):
        row[np.searchsorted(x, line_x)] = values
    kept = ~np.isnan(table).all(axis=0)
    if not kept.any():
        return
    x, table, style = x[kept], table[:, kept], _style(index)
    label = _label(results[index].group.name)
    axes.plot(x, np.nanmean(table, axis=0), label=label, markevery=max(1, len(x) // 8), **style)
    if len(lines) > 1:
        low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        axes.fill_between(x, low, high, color=style["color"], alpha=min(0.2, 0.6 / len(results)), lw=0)


def _curves(results: Sequence[Result]) -> Figure:
    figure, (above, below) = _axes(4.2, results, rows=2, sharex=True)
    for axes, column, title in ((above, "val_roc_auc", "validation"), (below, "train_roc_auc", "training")):
        for index, result in enumerate(results):
            lines = [(run.metrics["epoch"], run.metrics[column]) for run in result.group.runs]
            _band(axes, results, index, lines)
        axes.set(ylabel=f"{title} ROC AUC")
        if axes.get_ylim()[0] < 0.6:
            axes.axhline(0.5, **CHANCE)
    below.set(xlabel="epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, above, results)
    return figure


def _against(cost: Callable[[Result], float], label: str) -> Callable[[Sequence[Result]], Figure | None]:
    """Returns a function that draws the last epoch's ROC AUC against `cost`, whose axis is labelled `label`."""

    def draw_against(results: Sequence[Result]) -> Figure | None:
        known = [result for result in results if 0 < cost(result) < math.inf and result.last.count]
        if not known:
            return None
        figure, (axes,) = _axes(2.5, known)
        if max(map(cost, known)) > 5 * min(map(cost, known)):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        for index, result in enumerate(results):
            if result not in known:
                continue
            mean, style = result.last, _style(index) | {"linestyle": "none"}
            low, high = (mean.low, mean.high) if mean.count > 1 else (mean.value, mean.value)
            if mean.count > 1:
                style["yerr"] = [[mean.value - low], [high - mean.value]]
            # Models of nearly equal cost are drawn side by side, so that they do not hide each other.
            equal_cost = [other for other in known if abs(cost(other) / cost(result) - 1) < 0.02]
            points = 6 * (equal_cost.index(result) - (len(equal_cost) - 1) / 2)
            shifted = offset_copy(axes.transData, figure, x=points, units="points")
            name = _label(result.group.name)
            axes.errorbar(cost(result), mean.value, label=name, capsize=3, transform=shifted, **style)
            # matplotlib ignores shifted points when it sets the limits of the axes.
            axes.update_datalim([(cost(result), low), (cost(result), high)])
        axes.set(xlabel=label, ylabel="validation ROC AUC, last epoch")
        axes.margins(x=0.12)
        axes.autoscale_view()
        _legend(figure, axes, known)
        return figure

    return draw_against


def _passes(results: Sequence[Result]) -> Figure | None:
    lines = {result.group.name: _lines_of_runs(result, _passes_line) for result in results}
    lines = {name: found for name, found in lines.items() if max((len(x) for x, _ in found), default=0) > 1}

    def finish(axes: Axes) -> None:
        axes.set(xlabel="passes: draws of windows an image", ylabel="validation ROC AUC")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _bands(results, lines, finish)


def _calibration(results: Sequence[Result]) -> Figure | None:
    """Draws calibration curves of all runs together, because the images of one run are too few to fill the bins."""
    lines = {}
    for result in results:
        if found := [run.predictions for run in result.group.finished if run.predictions]:
            label, probability = (
                np.concatenate([getattr(p, part) for p in found]) for part in ("label", "probability")
            )
            lines[result.group.name] = [metrics.reliability(label, probability)[:2]]

    def finish(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], **CHANCE)
        name = _class_1(results)
        axes.set(xlabel=f"predicted probability of {name}", ylabel=f"share of {name}", aspect="equal")

    return _bands(results, lines, finish, height=3.3)


def _class_1(results: Sequence[Result]) -> str:
    """Returns the name of class 1 if it is the same in all runs, else 'class 1'."""
    named = {tuple(run.settings.get("data.classes", ())) for result in results for run in result.group.runs}
    (names,) = named if len(named) == 1 else [()]
    return class_names.describe(1, names)


def _roc(results: Sequence[Result]) -> Figure | None:
    lines = {result.group.name: list(filter(None, map(_roc_line, _predictions(result)))) for result in results}

    def finish(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], **CHANCE)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")

    return _bands(results, {name: found for name, found in lines.items() if found}, finish, height=3.3)


def _bands(
    results: Sequence[Result], lines: dict[str, list[Line]], finish: Callable[[Axes], None], height: float = 2.5
) -> Figure | None:
    """Draws a band for each model that has `lines`, in the model's colour, and calls `finish` with the axes.

    Returns None if no model has lines.
    """
    if not lines:
        return None
    models = [result for result in results if result.group.name in lines]
    figure, (axes,) = _axes(height, models)
    for index, result in enumerate(results):
        if result in models:
            _band(axes, results, index, lines[result.group.name])
    _legend(figure, axes, models)
    finish(axes)
    return figure


def _lines_of_runs(result: Result, line_of: Callable[[Run], Line | None]) -> list[Line]:
    return [line for line in map(line_of, result.group.finished) if line is not None]


def _passes_line(run: Run) -> Line | None:
    areas = run.evaluation.get(BY_PASSES)
    if not areas or not all(isinstance(area, float) for area in areas):
        return None
    return np.arange(1, len(areas) + 1), np.array(areas, np.float64)


def _predictions(result: Result) -> list[SavedPredictions]:
    """Returns the predictions of each finished run, or, of all folds, those for each seed."""
    if result.out_of_fold:
        return result.out_of_fold.by_seed()
    return [run.predictions for run in result.group.finished if run.predictions]


def _roc_line(found: SavedPredictions) -> Line | None:
    """Returns the ROC curve at 201 equally spaced false-positive rates, so that runs can be averaged."""
    if len(np.unique(found.label)) < 2:
        return None
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(found.label, found.probability)
    steps = np.linspace(0, 1, 201)
    return steps, np.interp(steps, false_positive, true_positive)


BAND = "mean over seeds, with a band from the lowest to the highest seed"
BAND_OF_FOLDS = (
    "Of a model with folds it is over all folds and seeds; ROC curves are over the images of all folds, and over seeds."
)
FIGURES = (
    (
        "curves",
        f"ROC AUC by epoch, validation and training: {BAND}. Unfinished runs are included up to their last epoch.",
        _curves,
    ),
    (
        "parameters",
        "Quality against size: last epoch's validation ROC AUC, mean over seeds with Student's 95 % interval. "
        "Models of nearly equal size are drawn side by side.",
        _against(lambda result: result.parameters / 1e6, "parameters, millions"),
    ),
    (
        "time",
        "Quality against time: the same by the minutes that all epochs took, on the machine that trained.",
        _against(lambda result: result.minutes, "training time, minutes"),
    ),
    ("passes", f"ROC AUC by the number of draws of windows that a prediction averages: {BAND}.", _passes),
    (
        "calibration",
        "Calibration: share of class 1 by predicted probability, in ten bins, all seeds together. Calibrated "
        "probabilities lie on the diagonal.",
        _calibration,
    ),
    ("roc", f"ROC curves of the predicted images: {BAND}.", _roc),
)
