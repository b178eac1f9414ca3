"""The pictures of the report, each as PNG and SVG, a column wide.

Models differ in colour (Okabe & Ito's palette, which colour-blind readers can tell apart), marker and line, so that
print without colour will do too. They are made without pyplot, which would ask for a window system or a notebook.
"""

import math
import pathlib
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import sklearn.metrics
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import offset_copy

from stochconv_jax import metrics
from stochconv_jax.reporting.collect import Run
from stochconv_jax.reporting.evaluations import BY_PASSES, SavedPredictions
from stochconv_jax.reporting.page import Picture
from stochconv_jax.reporting.results import Result

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^vDPX*"
LINES = ("-", "--", "-.", ":")
WIDTH = 3.6  # inches: a column of a page
LONGEST = 44  # characters of a name that fit into it
SETTINGS = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.hashsalt": "stochconv_jax",  # the same numbers give the same file
}
CHANCE = {"color": "0.6", "lw": 0.8, "zorder": 1}
Line = tuple[np.ndarray, np.ndarray]  # abscissas and values of one run


def draw(results: Sequence[Result], folder: pathlib.Path) -> list[Picture]:
    """Writes into `folder` the figures that the runs have the numbers for."""
    folder.mkdir(exist_ok=True)
    pictures = []
    with matplotlib.rc_context(SETTINGS):
        for name, caption, function in FIGURES:
            figure = function(results)
            if figure is None:
                continue
            figure.savefig(folder / f"{name}.png", dpi=220)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pictures.append(Picture(name, caption))
    return pictures


def _style(place: int) -> dict:
    return {
        "color": COLORS[place % len(COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place // len(COLORS) % len(LINES)],
    }


def _axes(height: float, legend_of: Sequence[Result], rows: int = 1, **settings):
    """A figure whose legend, below the axes, gets room of its own."""
    names = [result.group.name for result in legend_of]
    columns = 2 if len(names) > 1 and max(map(len, names)) <= 22 else 1
    legend_height = 0.17 * -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, height + legend_height), layout="constrained")
    axes = figure.subplots(rows, squeeze=False, **settings)
    figure.legend_columns = columns
    return figure, axes[:, 0]


def _legend(figure, axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=figure.legend_columns)


def _label(name: str) -> str:
    """A name may begin with an underscore, which hides a line, hold a dollar, which begins a formula, or be long."""
    if len(name) > LONGEST:
        name = f"{name[: LONGEST // 2 - 1]}…{name[-LONGEST // 2 :]}"
    return "\u200b" + name.replace("$", r"\$")


def _band(axes, results: Sequence[Result], place: int, lines: Sequence[Line]) -> None:
    """The mean of several runs' lines wherever any has a value, and the band from their lowest to their highest.

    The lines are of `results[place]`.
    """
    x = np.unique(np.concatenate([abscissas for abscissas, _ in lines]))
    table = np.full((len(lines), len(x)), np.nan)
    for row, (abscissas, values) in zip(table, lines):
        row[np.searchsorted(x, abscissas)] = values
    kept = ~np.isnan(table).all(axis=0)
    if not kept.any():
        return
    x, table, style = x[kept], table[:, kept], _style(place)
    label = _label(results[place].group.name)
    axes.plot(x, np.nanmean(table, axis=0), label=label, markevery=max(1, len(x) // 8), **style)
    if len(lines) > 1:
        low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        axes.fill_between(x, low, high, color=style["color"], alpha=min(0.2, 0.6 / len(results)), lw=0)


def _curves(results: Sequence[Result]):
    figure, (above, below) = _axes(4.2, results, rows=2, sharex=True)
    for axes, column, title in ((above, "val_roc_auc", "validation"), (below, "train_roc_auc", "training")):
        for place, result in enumerate(results):
            lines = [(run.metrics["epoch"], run.metrics[column]) for run in result.group.runs]
            _band(axes, results, place, lines)
        axes.set(ylabel=f"{title} ROC AUC")
        if axes.get_ylim()[0] < 0.6:
            axes.axhline(0.5, **CHANCE)
    below.set(xlabel="epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, above)
    return figure


def _against(cost: Callable[[Result], float], label: str):
    """A figure of last-epoch quality against a cost."""

    def figure_of(results: Sequence[Result]):
        known = [result for result in results if 0 < cost(result) < math.inf and result.last.count]
        if not known:
            return None
        figure, (axes,) = _axes(2.5, known)
        if max(map(cost, known)) > 5 * min(map(cost, known)):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        for place, result in enumerate(results):
            if result not in known:
                continue
            mean, style = result.last, _style(place) | {"linestyle": "none"}
            low, high = (mean.low, mean.high) if mean.count > 1 else (mean.value, mean.value)
            if mean.count > 1:
                style["yerr"] = [[mean.value - low], [high - mean.value]]
            # Models of one cost stand side by side, so that they do not hide each other.
            alike = [other for other in known if abs(cost(other) / cost(result) - 1) < 0.02]
            aside = 6 * (alike.index(result) - (len(alike) - 1) / 2)
            where = offset_copy(axes.transData, figure, x=aside, units="points")
            name = _label(result.group.name)
            axes.errorbar(cost(result), mean.value, label=name, capsize=3, transform=where, **style)
            # What is moved aside does not count for the limits by itself.
            axes.update_datalim([(cost(result), low), (cost(result), high)])
        axes.set(xlabel=label, ylabel="validation ROC AUC, last epoch")
        axes.margins(x=0.12)
        axes.autoscale_view()
        _legend(figure, axes)
        return figure

    return figure_of


def _passes(results: Sequence[Result]):
    lines = {result.group.name: _with(result, _passes_of) for result in results}
    lines = {name: found for name, found in lines.items() if max((len(x) for x, _ in found), default=0) > 1}
    figure, axes = _lines(results, lines)
    if figure:
        axes.set(xlabel="passes: draws of windows an image", ylabel="validation ROC AUC")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _calibration(results: Sequence[Result]):
    """Pooled over the seeds: one run's images are too few to fill the bins."""
    lines = {}
    for result in results:
        if found := [run.predictions for run in result.group.finished if run.predictions]:
            pooled = [np.concatenate([getattr(p, part) for p in found]) for part in ("label", "probability")]
            lines[result.group.name] = [metrics.reliability(*pooled)[:2]]
    figure, axes = _lines(results, lines, height=3.3)
    if figure:
        axes.plot([0, 1], [0, 1], **CHANCE)
        axes.set(xlabel="predicted probability of class 1", ylabel="share of class 1", aspect="equal")
    return figure


def _roc(results: Sequence[Result]):
    lines = {result.group.name: _with(result, _roc_of) for result in results}
    figure, axes = _lines(results, {name: found for name, found in lines.items() if found}, height=3.3)
    if figure:
        axes.plot([0, 1], [0, 1], **CHANCE)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    return figure


def _lines(results: Sequence[Result], lines: dict[str, list[Line]], height: float = 2.5):
    """A figure of the models that have lines, in the colours that they have everywhere; (None, None) if none has."""
    if not lines:
        return None, None
    figure, (axes,) = _axes(height, [result for result in results if result.group.name in lines])
    for place, result in enumerate(results):
        if result.group.name in lines:
            _band(axes, results, place, lines[result.group.name])
    _legend(figure, axes)
    return figure, axes


def _with(result: Result, line_of: Callable[[Run], Line | None]) -> list[Line]:
    return [line for line in map(line_of, result.group.finished) if line is not None]


def _passes_of(run: Run) -> Line | None:
    areas = run.evaluation.get(BY_PASSES)
    if not areas or not all(isinstance(area, float) for area in areas):
        return None
    return np.arange(1, len(areas) + 1), np.array(areas, np.float64)


def _roc_of(run: Run) -> Line | None:
    """Sensitivity at even steps of the false-positive rate, so that runs can be averaged."""
    found: SavedPredictions | None = run.predictions
    if found is None or len(np.unique(found.label)) < 2:
        return None
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(found.label, found.probability)
    steps = np.linspace(0, 1, 201)
    return steps, np.interp(steps, false_positive, true_positive)


BAND = "mean over seeds, with the band from the lowest to the highest seed"
FIGURES = (
    (
        "curves",
        f"ROC AUC by epoch, validation and training: {BAND}. Unfinished runs are in it as far as they have come.",
        _curves,
    ),
    (
        "parameters",
        "Quality against size: last epoch's validation ROC AUC, mean over seeds with Student's 95 % interval. "
        "Models of like size stand side by side.",
        _against(lambda result: result.parameters / 1e6, "parameters, millions"),
    ),
    (
        "time",
        "Quality against time: the same, over the minutes that all epochs took, on the machine that trained.",
        _against(lambda result: result.minutes, "training time, minutes"),
    ),
    ("passes", f"ROC AUC by the number of draws of windows that a prediction is the mean of: {BAND}.", _passes),
    (
        "calibration",
        "Calibration: share of class 1 among images of like predicted probability, in ten bins, seeds pooled. On the "
        "diagonal probabilities mean what they say.",
        _calibration,
    ),
    ("roc", f"ROC curves of the predicted images: {BAND}.", _roc),
)
