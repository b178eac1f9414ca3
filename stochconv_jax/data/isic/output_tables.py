"""Makes the tables beside the images: labels.csv, unlabelled.csv, splits.csv and conflicts.csv."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stochconv_jax.atomic_files import write_csv
from stochconv_jax.data import folds, splits
from stochconv_jax.data.isic import merge
from stochconv_jax.data.isic.merge import Conflict, Entry
from stochconv_jax.data.isic.records import METADATA
from stochconv_jax.data.isic.rules import Rule

LABELS = ("image", "target", "year", "diagnosis", "category", *METADATA, "group")
UNLABELLED = ("image", "year", *METADATA)
SPLITS = ("image", "target", "year", "group", "split", "fold")
CONFLICTS = (
    *("image", "kept", "kept_target", "kept_diagnosis"),
    *("other_image", "other", "other_target", "other_diagnosis"),
)


def texts(entry: Entry) -> dict[str, str]:
    """Returns what a shard and labels.csv hold about an image besides its picture, id and class."""
    about = {"year": entry.record.year, "diagnosis": entry.record.diagnosis, "category": entry.record.category}
    return about | dict(entry.metadata)


def label_rows(entries: Sequence[Entry], dropped: merge.Dropped, pairs: merge.Pairs) -> list[dict]:
    """Returns the rows of labels.csv: the labelled images that are not dropped, each with its `merge.groups`.

    `entries`: all of them, because dropped images connect others by their patient, their lesion or `pairs`.
    """
    return [
        {"image": f"{entry.image}.jpg", "target": entry.target, **texts(entry), "group": group}
        for entry, group in zip(entries, merge.groups(entries, pairs))
        if entry.image not in dropped and entry.target is not None
    ]


def write_unlabelled(file: pathlib.Path, entries: Sequence[Entry], folder: str) -> None:
    """Writes the images without labels, for config.predict.images, with paths relative to the file."""
    rows = [{"image": f"{folder}/{e.image}.jpg", "year": e.record.year, **e.metadata} for e in entries]
    write_csv(file, UNLABELLED, rows)


def split_rows(labels: Sequence[Mapping], *, fraction: float, num_folds: int, seed: int) -> list[dict]:
    """Returns the rows of splits.csv: side and fold of each image, by group, stratified by class and year.

    Training makes the same split of labels.csv with config.data.group_by='group', config.data.stratify_by='year' and
    the same seed and fraction, and the same folds with config.data.fold. Raises ValueError if a side or a fold would
    lack a class, and folds.Leak if two sides share a group.
    """
    targets = np.array([row["target"] for row in labels])
    kept_together = {"groups": [row["group"] for row in labels], "strata": [row["year"] for row in labels]}
    train, validation = splits.stratified_split(targets, fraction, seed, **kept_together)
    fold = folds.k_folds(targets, num_folds, seed, **kept_together)
    check_sides(labels, train, validation)
    for number in range(1, num_folds + 1):
        check_sides(labels, np.flatnonzero(fold != number), np.flatnonzero(fold == number))
    side = np.full(len(labels), "train", object)
    side[validation] = "validation"
    names = SPLITS[:4]
    return [{n: row[n] for n in names} | {"split": s, "fold": f} for row, s, f in zip(labels, side, fold.tolist())]


def check_sides(labels: Sequence[Mapping], train: np.ndarray, validation: np.ndarray) -> None:
    """Raises folds.Leak if a patient, a lesion, a group or an image is on both sides; the sides are indices."""
    columns = ("image", "patient_id", "lesion_id", "group")
    one, other = ({name: [labels[i][name] for i in side] for name in columns} for side in (train, validation))
    folds.refuse_leaks(one, other, "the groups should have kept them together: please report this")


def conflict_rows(conflicts: Iterable[Conflict], rule: Rule) -> list[dict]:
    """Returns the rows of conflicts.csv."""
    rows = []
    for conflict in conflicts:
        both = (conflict.kept, conflict.other)
        cells = [cell for r in both for cell in (r.image, r.where, rule.target(r), r.diagnosis)]
        rows.append(dict(zip(CONFLICTS, cells)))
    return rows
