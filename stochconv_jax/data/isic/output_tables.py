"""The tables beside the images: labels.csv, splits.csv, conflicts.csv."""

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
    """What a record holds beside picture, id and class."""
    about = {"year": entry.row.year, "diagnosis": entry.row.diagnosis, "category": entry.row.category}
    return about | dict(entry.metadata)


def label_rows(entries: Sequence[Entry], pairs: Iterable[tuple[str, str]]) -> list[dict]:
    """Rows of labels.csv for the labelled images that are not dropped, with the group that a split must keep together.

    `entries`: the dropped ones too, since what they are tied to by patient, lesion or `pairs` is tied together by them.
    """
    return [
        {"image": f"{entry.image}.jpg", "target": entry.target, **texts(entry), "group": group}
        for entry, group in zip(entries, merge.groups(entries, pairs))
        if not entry.dropped and entry.target is not None
    ]


def write_unlabelled(file: pathlib.Path, entries: Sequence[Entry], folder: str) -> None:
    """Writes the images without labels, for config.predict.images: paths relative to the file."""
    rows = [{"image": f"{folder}/{e.image}.jpg", "year": e.row.year, **e.metadata} for e in entries]
    write_csv(file, UNLABELLED, rows)


def split_rows(labels: Sequence[Mapping], *, fraction: float, num_folds: int, seed: int) -> list[dict]:
    """Rows of splits.csv: side and fold of each image, by group, stratified by class and year.

    They are what training makes of labels.csv itself with config.data.group_by='group', stratify_by='year' and the same
    seed and fraction, or config.data.fold. ValueError if a side or a fold would lack a class; folds.Leak if it shares
    a group.
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
    """Raises folds.Leak if a patient, a lesion, a group or an image is on both sides."""
    columns = ("image", "patient_id", "lesion_id", "group")
    sides = [{name: [labels[i][name] for i in side] for name in columns} for side in (train, validation)]
    folds.refuse_leaks(*sides, "the group column should have kept them together: please report this")


def conflict_rows(conflicts: Iterable[Conflict], rule: Rule) -> list[dict]:
    """Rows of conflicts.csv."""
    rows = []
    for conflict in conflicts:
        kept, other = conflict.kept, conflict.other
        cells = [cell for row in (kept, other) for cell in (row.image, row.where, rule.target(row), row.diagnosis)]
        rows.append(dict(zip(CONFLICTS, cells)))
    return rows
