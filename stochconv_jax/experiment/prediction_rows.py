"""The rows of predictions.csv and predicted.csv."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from stochconv_jax.data import sources, table_reader
from stochconv_jax.decisions import Calibration
from stochconv_jax.training.evaluation import Predictions

logger = logging.getLogger(__name__)


def group_of_each(source: sources.Source, group_by: str) -> Sequence[str] | None:
    """Returns the group of each image, from the column `group_by`, or None if the source has no such column."""
    name = table_reader.find_column(source.columns, group_by) if group_by else None
    return source.columns[name] if name else None


def prediction_rows(
    source: sources.Source,
    predictions: Predictions,
    groups: Sequence[str] | None,
    rank: np.ndarray | None = None,
) -> list[dict]:
    """Returns the rows of predictions.csv: image, target, probability and std, see `probability_cells`.

    `image` is the name in the user's table. If the classes have names, a column `class` has that of the target. If they
    are given, the columns `rank`, that of each prediction, and `group` follow. The other columns of the source, such as
    year and patient_id, come last.
    """
    rows = []
    probability, std = np.exp(predictions.log_p()), predictions.spread()
    for row, index in enumerate(predictions.index):
        group = {} if groups is None else {"group": groups[index]}
        label = int(predictions.label[row])
        name = {"class": source.classes[label]} if source.classes else {}
        cells = probability_cells(probability[row], std[row], source.classes)
        if rank is not None:
            cells["rank"] = float(rank[row])
        rows.append({"image": source.texts[index], "target": label, **name, **cells, **group})
    more = further_columns(source.columns, rows[0])
    return [row | {name: more[name][i] for name in more} for row, i in zip(rows, predictions.index)]


def probability_cells(probability: np.ndarray, std: np.ndarray, classes: Sequence[str]) -> dict[str, float | str]:
    """Returns an image's cells by column; `probability` and `std` are `[K]`, one for each class.

    The columns are probability and std of class 1 for two classes, and probability_0, std_0, ... for more. `classes`:
    the names of the classes, which then have columns such as probability_melanoma; () for none. An unknown std, NaN, is
    an empty cell.
    """
    cells = {}
    for suffix, k in _suffixes(len(probability), classes).items():
        cells[f"probability{suffix}"] = float(probability[k])
        cells[f"std{suffix}"] = "" if np.isnan(std[k]) else float(std[k])
    return cells


def decision_cells(
    probability: np.ndarray, calibration: Calibration, classes: Sequence[str] = ()
) -> dict[str, float | int | str]:
    """Returns what a calibration makes of an image's probabilities `[classes]`, by column.

    The columns are `calibrated`, the probability at the fitted temperature, for the classes that `probability_cells`
    shows; for each threshold whether the image counts as class 1, such as `at_youden`; and `set`, the classes in its
    prediction set, such as '0 1' or, with names, which may have spaces, 'benign; malignant'.
    """
    calibrated, positive, sets = calibration.apply(probability[None])
    cells: dict[str, float | int | str] = {
        f"calibrated{suffix}": float(calibrated[0, k]) for suffix, k in _suffixes(len(probability), classes).items()
    }
    cells |= {f"at_{name}": int(above[0]) for name, above in positive.items()}
    names = classes or list(map(str, range(len(probability))))
    separator = "; " if classes else " "
    return cells | {"set": separator.join(names[int(k)] for k in np.flatnonzero(sets[0]))}


def _suffixes(number: int, classes: Sequence[str]) -> dict[str, int]:
    """Returns the classes that a table shows, by the suffix of their columns.

    Of two classes that is class 1, with the suffix ''; of more, each class, with its number. Classes with names are all
    shown, by name.
    """
    class_1 = {"": 1} if number == 2 else {}
    return class_1 | {f"_{name}": k for k, name in enumerate(classes or (() if number == 2 else range(number)))}


def further_columns(columns: Mapping[str, list[str]], row: Mapping) -> dict[str, list[str]]:
    """Returns the columns whose names are not in `row`, ignoring case. Logs which are left out."""
    taken = [name for name in columns if table_reader.find_column(row, name)]
    if lost := [name for name in taken if name.casefold() not in ("image", "target")]:
        logger.warning("the table's %s is left out: the predictions have a column of that name", " and ".join(lost))
    return {name: texts for name, texts in columns.items() if name not in taken}
