"""Divides labelled images into K folds without leakage, and checks that a split has none."""

from collections.abc import Mapping, Sequence

import numpy as np

from stochconv_jax.data.splits import stratified_split


def k_folds(
    labels: np.ndarray,
    count: int,
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> np.ndarray:
    """Returns the fold of each image, 1..count, int `[N]`. The arguments are those of `stratified_split`.

    Fold 1 has the validation images of `stratified_split` with a fraction of 1 / count. Raises ValueError if `count` is
    below 2 or a fold would lack a class.
    """
    if count < 2:
        raise ValueError(f"{count} folds: expected 2 or more")
    labels = np.asarray(labels)
    fold, left = np.full(len(labels), count), np.arange(len(labels))
    for number in range(1, count):
        rest, chosen = stratified_split(
            labels[left], 1 / (count - number + 1), seed, groups=_take(groups, left), strata=_take(strata, left)
        )
        fold[left[chosen]] = number
        left = left[rest]
    return fold


def _take(values: Sequence[str] | None, indices: np.ndarray) -> list[str] | None:
    return None if values is None else [values[int(i)] for i in indices]


def parse_fold(text: str) -> tuple[int, int]:
    """Returns (2, 5) for '2/5', the second of five folds. Raises ValueError for any other form."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) and int(count) >= 2):
        raise ValueError(f"fold {text!r}: expected a fold and their number, such as '2/5'")
    return int(number), int(count)


class Leak(ValueError):
    """The two sides of a split share an image, a patient or another group."""


def refuse_leaks(train: Mapping[str, Sequence[str]], validation: Mapping[str, Sequence[str]], advice: str) -> None:
    """Raises Leak, with `advice`, if a column that both sides have shares a value; '' is no value.

    `train` and `validation`: the images' texts by column, such as 'image' and 'patient_id'.
    """
    for name in sorted(train.keys() & validation.keys()):
        shared = sorted(set(train[name]) & set(validation[name]) - {""})
        if shared:
            examples = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
            raise Leak(f"the split leaks: {len(shared)} values of {name} are on both sides ({examples}); {advice}")
