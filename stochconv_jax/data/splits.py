"""Splits labelled images into training and validation images, fixed by a seed, without leakage between groups."""

from collections.abc import Sequence

import numpy as np

from stochconv_jax.data.random_streams import Stream, generator


def stratified_split(
    labels: np.ndarray,
    fraction: float,
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training and of the validation images, int `[N_train]` and `[N_validation]`, sorted.

    `labels`: int `[N]`, classes. About `fraction` of each stratum validates. A stratum is a label, together with the
    image's text in `strata` if given. `groups`: N names; images of one group are on the same side, and '' stands for a
    group of its own. A group belongs to the rarest stratum among its images, and counts with its images of that
    stratum, since most patients with a melanoma have more benign lesions than malignant ones. The split is the same on
    every machine.

    Raises ValueError if `fraction` is not between 0 and 1, or if a side would lack a class.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`validation_fraction`={fraction}: expected a share between 0 and 1")
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("there is no labelled image to split into training and validation")
    stratum = _number_values(list(zip(labels.tolist(), strata if strata is not None else [""] * len(labels))))
    names = [group or f"\0{i}" for i, group in enumerate(groups)] if groups is not None else range(len(labels))
    group = _number_values(list(names))
    random = generator(seed, Stream.SPLIT)
    chosen = np.zeros(group.max(initial=-1) + 1, bool)
    rarest, sizes = _rarest_stratum(group, stratum)
    for value in range(stratum.max(initial=-1) + 1):
        members = random.permutation(np.flatnonzero(rarest == value))
        wanted = fraction * sizes[members].sum()
        # A group validates as long as that brings the number of validation images nearer to the wanted one.
        before = np.cumsum(sizes[members]) - sizes[members]
        chosen[members[before + sizes[members] / 2 <= wanted]] = True
    validates = chosen[group]
    train, validation = np.flatnonzero(~validates), np.flatnonzero(validates)
    for name, side in (("training", train), ("validation", validation)):
        missing = sorted(set(labels.tolist()) - set(labels[side].tolist()))
        if missing or len(set(labels[side].tolist())) < 2:
            raise ValueError(
                f"the {name} side of the split ({len(side)} of {len(labels)} images) has no image of class "
                f"{missing or 'any other'}: add images or change `validation_fraction`"
            )
    return train, validation


def _number_values(values: list) -> np.ndarray:
    """Returns int `[N]`: numbers 0, 1, ... that are equal for equal values, in the order of first appearance."""
    numbers: dict = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)


def _rarest_stratum(group: np.ndarray, stratum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns, by group, the stratum of its images that is rarest among all images, and how many it has of that."""
    table = np.zeros((group.max(initial=-1) + 1, stratum.max(initial=-1) + 1), int)
    np.add.at(table, (group, stratum), 1)
    rarest = np.where(table > 0, table.sum(axis=0), len(stratum) + 1).argmin(axis=1)
    return rarest, table[np.arange(len(table)), rarest]
