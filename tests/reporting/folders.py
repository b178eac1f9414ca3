"""Writes run folders whose numbers can be worked out on paper, and reads their results."""

import csv
import json

from stochconv_jax.reporting import collect, results
from stochconv_jax.run_folder import METRICS

THUMBNAIL = {"model.variant": "b0", "model.branches": ["thumbnail"], "model.merge_after": "head"}
SPLIT = THUMBNAIL | {"model.branches": ["thumbnail", "windows"]}
# Further settings with which the project report trained its models.
AS_REPORTED = {
    "num_epochs": 60,
    "data.source": "folder",
    "data.num_classes": 2,
    "data.image_size": [1024, 1024],
    "data.thumbnail_size": [224, 224],
    "init.weights": "",
    "eval.passes": 1,
    "model.sampling": "per_image",
}
# Predictions (image, target, probability) with a ROC AUC between 0.5 and 1.
IMAGES = [(f"i{k}", int(k % 3 == 0), 0.1 + 0.04 * ((9 * k) % 20)) for k in range(20)]


def better(target, probability):
    """Returns the probability that a better model predicts."""
    return 0.1 * target + 0.9 * probability


def summarised(root):
    """Returns the results of the models below `root` by name."""
    return {group.name: results.summarise(group) for group in collect.collect(root)[0]}


def write(folder, areas, *, config=None, seed=0, seconds=60.0, columns=METRICS, validation=7, predictions=(), **files):
    """Writes a run whose validation ROC AUC is `areas` by epoch.

    `config` has dotted keys, or is None for a run without config.json. `predictions` are (image, target, probability)
    or (image, target, probability, group). `files` are further JSON files by name.
    """
    folder.mkdir(parents=True)
    rows = [
        dict.fromkeys(METRICS, 0.5)
        | {"epoch": epoch, "step": epoch, "val_roc_auc": area, "seconds": seconds, "images_per_second": 100.0}
        for epoch, area in enumerate(areas, start=1)
    ]
    write_csv(folder / "metrics.csv", columns, rows)
    if config is not None:
        tree = {"seed": seed, "num_epochs": len(areas)}
        for key, value in config.items():
            group, _, leaf = key.rpartition(".")
            (tree.setdefault(group, {}) if group else tree)[leaf] = value
        data = {"train": {"images": 3, "crc32": 1}, "validation": {"images": 4, "crc32": validation}}
        files["config"] = {"config": tree, "parameters": 4_000_000, "multiply_adds": 385_000_000, "data": data}
    if predictions and len(predictions[0]) == 4:
        files["evaluation"] = {"roc_auc_interval_95_clustered": [0.5, 0.9]} | files.get("evaluation", {})
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if predictions:
        columns = ("image", "target", "probability", "group")[: len(predictions[0])]
        write_csv(folder / "predictions.csv", columns, [dict(zip(columns, row)) for row in predictions])


def write_csv(path, columns, rows):
    """Writes the named columns of `rows`."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
