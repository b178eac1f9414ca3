"""Decides from the rows of metrics.csv whether a run ends before its last epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def is_over(rows: Sequence[Mapping[str, Any]], metric: str, patience: int) -> bool:
    """Returns whether the last `patience` epochs have not improved `metric`; False for a patience of 0.

    A metric that ends in 'loss' improves when it falls, others when they rise; NaN and an equal value improve nothing.
    `rows`: those of metrics.csv, in order, whose values may be text.
    """
    if not rows or not patience:
        return False
    values = np.array([row[metric] for row in rows], float) * (-1 if metric.endswith("loss") else 1)
    best = int(np.where(np.isnan(values), -np.inf, values).argmax())  # the first of equal values
    return int(rows[-1]["epoch"]) - int(rows[best]["epoch"]) >= patience
