"""The rows of predictions.csv and predicted.csv."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from stochconv_jax.data import sources, table_reader
from stochconv_jax.training.evaluation import Predictions

logger = logging.getLogger(__name__)


def group_of_each(source: sources.Source, group_by: str) -> Sequence[str] | None:
    """Returns the group of each image, from the column `group_by`, or None if the source has no such column."""
    name = table_reader.find_column(source.columns, group_by) if group_by else None
    return source.columns[name] if name else None


def prediction_rows(source: sources.Source, predictions: Predictions, groups: Sequence[str] | None) -> list[dict]:
    """Returns the rows of predictions.csv: image, target, probability and std, see `probability_cells`.

    `image` is the name in the user's table. If the classes have names, a column `class` has that of the target. If
    `groups` are given, a column `group` follows. The other columns of the source, such as year and patient_id, come
    last.
    """
    rows = []
    probability, std = np.exp(predictions.log_p()), predictions.spread()
    for row, index in enumerate(predictions.index):
        group = {} if groups is None else {"group": groups[index]}
        label = int(predictions.label[row])
        name = {"class": source.classes[label]} if source.classes else {}
        cells = probability_cells(probability[row], std[row], source.classes)
        rows.append({"image": source.texts[index], "target": label, **name, **cells, **group})
    more = further_columns(source.columns, rows[0])
    return [row | {name: more[name][i] for name in more} for row, i in zip(rows, predictions.index)]


def probability_cells(probability: np.ndarray, std: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Returns an image's cells by column; `probability` and `std` are `[K]`, one for each class.

    The columns are probability and std of class 1 for two classes, and probability_0, std_0, ... for more. `classes`:
    the names of the classes, which then have columns such as probability_melanoma; () for none.
    """
    columns = {"": 1} if len(probability) == 2 else {f"_{k}": k for k in range(len(probability))}
    if classes:
        columns = ({"": 1} if len(classes) == 2 else {}) | {f"_{name}": k for k, name in enumerate(classes)}
    cells = {}
    for suffix, k in columns.items():
        cells |= {f"probability{suffix}": float(probability[k]), f"std{suffix}": float(std[k])}
    return cells


def further_columns(columns: Mapping[str, list[str]], row: Mapping) -> dict[str, list[str]]:
    """Returns the columns whose names are not in `row`, ignoring case. Logs which are left out."""
    taken = [name for name in columns if table_reader.find_column(row, name)]
    if lost := [name for name in taken if name.casefold() not in ("image", "target")]:
        logger.warning("the table's %s is left out: the predictions have a column of that name", " and ".join(lost))
    return {name: texts for name, texts in columns.items() if name not in taken}
