"""--mode=report: compares the runs in the folders below --workdir. Reads run folders only; knows no training code."""
import logging
import math
import pathlib

import matplotlib

from stochconv_jax.run_folder import RunFolder

matplotlib.use("Agg")
import matplotlib.pyplot as plt

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Prints a table of the runs and writes curves.png."""
    del overrides
    root = pathlib.Path(workdir).expanduser()
    curves = read_runs(root)
    width = max(len(name) for name in curves)
    print(f"{'run':{width}}  epochs  last val ROC AUC  best val ROC AUC")
    for name, rows in curves.items():
        areas = [row["val_roc_auc"] for row in rows]
        print(f"{name:{width}}  {len(rows):6}  {areas[-1]:16.4f}  {max(areas):16.4f}")
    draw_curves(curves, root / "curves.png")
    logger.info("written: %s", root / "curves.png")


def read_runs(root: pathlib.Path) -> dict[str, list[dict[str, float]]]:
    """Rows of metrics.csv by name of the run's folder. ValueError where there is no run that finished an epoch."""
    curves = {}
    for file in sorted(root.glob("*/metrics.csv")):
        rows = [{k: float(v) for k, v in row.items()} for row in RunFolder(file.parent).read_metrics()]
        rows = [row for row in rows if not math.isnan(row["val_roc_auc"])]
        if rows:
            curves[file.parent.name] = rows
        else:
            logger.warning("%s: no finished epoch; left out", file)
    if not curves:
        raise ValueError(f"no run with a finished epoch in {root}: its folders should hold metrics.csv")
    return curves


def draw_curves(curves: dict[str, list[dict[str, float]]], path: pathlib.Path) -> None:
    """Validation ROC AUC by epoch, a line a run; training's dashed."""
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    colors = plt.cm.cividis([0.1, 0.75, 0.4, 0.95] * len(curves))
    for color, marker, (name, rows) in zip(colors, "os^v" * len(curves), curves.items()):
        epochs = [row["epoch"] for row in rows]
        name = name.replace("_", " ")
        for column, part, style in (
            ("val_roc_auc", "validation", {"marker": marker}),
            ("train_roc_auc", "training", {"linestyle": "--", "linewidth": 1}),
        ):
            axes.plot(epochs, [row[column] for row in rows], color=color, label=f"{name}, {part}", **style)
    axes.axhline(0.5, color="0.6", lw=0.8, zorder=0)
    axes.set(xlabel="epoch", ylabel="ROC AUC", ylim=(0.35, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)
    plt.close(figure)
