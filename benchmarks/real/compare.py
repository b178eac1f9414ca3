"""Compares the rivals that benchmarks.real.finetune has trained, as a Markdown table.

    python -m benchmarks.real.compare finetuned

Each rival has the mean area under the ROC curve over its folds, after one and after all passes, and the mean difference
from the reference on the folds that both have, with an interval. Intervals are not corrected for the number of rows.
"""

import argparse
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from benchmarks.real.probe import interval
from configs.ablations import real
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import summary

Areas = dict[str, np.ndarray]  # area under the ROC curve after 1, 2, ... passes, by run


def read(folder: pathlib.Path) -> Areas:
    """Returns the areas of the runs in the folder of a rival."""
    found = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as run:
            means = np.cumsum(expit(run["logits"]), 1) / np.arange(1, run["logits"].shape[1] + 1)
            found[file.stem] = np.array([roc_auc_score(run["label"], column) for column in means.T])
    return found


def cost(variant: str, sizes: str) -> float:
    """Returns the million multiply-adds of one pass over one image."""
    config = real.get_config(sizes)
    config.update_from_flattened_dict(real.sweep(sizes)[variant])
    experiment = Experiment(config, mesh=jax.make_mesh((1,), ("data",)))
    return summary.totals(summary.parts(experiment.model, experiment.inputs()))["multiply_adds"] / 1e6


def difference(areas: Areas, reference: Areas) -> str:
    """Returns the mean difference after all passes on the runs that both have, with its interval, as text."""
    both = sorted(areas.keys() & reference.keys())
    values = np.array([areas[run][-1] - reference[run][-1] for run in both])
    if len(values) < 2:
        return ""
    low, high = interval(values)
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def table(areas: Mapping[str, Areas], reference: str, sizes: str) -> str:
    """Returns the table, in the order of the ablation."""
    lines = [f"| rival | million multiply-adds | folds | AUC, 1 pass | all passes | minus {reference}, same folds |"]
    lines.append("| --- " * 6 + "|")
    for name in (name for name in real.sweep(sizes) if areas.get(name)):
        mean = np.mean(list(areas[name].values()), axis=0)
        compared = difference(areas[name], areas[reference]) if name != reference else ""
        cells = [name, f"{cost(name, sizes):,.0f}", len(areas[name]), f"{mean[0]:.3f}", f"{mean[-1]:.3f}", compared]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="output of benchmarks.real.finetune")
    parser.add_argument("--reference", default="thumbnail_equal_cost", choices=sorted(real.sweep()))
    parser.add_argument("--sizes", default=real.SIZES, help="as for benchmarks.real.finetune")
    options = parser.parse_args(args)
    areas = {folder.name: read(folder) for folder in options.folder.iterdir() if folder.is_dir()}
    if not areas.get(options.reference):
        raise SystemExit(f"no run of {options.reference} in {options.folder}: choose another --reference")
    print(table(areas, options.reference, options.sizes))


if __name__ == "__main__":
    main()
