"""Run folders written by hand, with numbers that can be worked out on paper."""

import csv
import json

from stochconv_jax.run_folder import METRICS

THUMBNAIL = {"model.variant": "b0", "model.branches": ["thumbnail"], "model.merge_after": "head"}
SPLIT = THUMBNAIL | {"model.branches": ["thumbnail", "windows"]}
# Besides: as the report trained its models.
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


def write(folder, areas, *, config=None, seed=0, seconds=60.0, columns=METRICS, validation=7, predictions=(), **files):
    """A run whose validation ROC AUC is `areas` by epoch; `predictions`: (image, target, probability[, group]).

    `config`: dotted keys, or None for no config.json; `files`: more JSON files by name.
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
    """With the columns named alone."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
