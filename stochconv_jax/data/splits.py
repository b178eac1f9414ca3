"""Splits of labelled images into training and validation, fixed by seed, without leakage between groups."""

from collections.abc import Sequence

import numpy as np


def stratified_split(
    labels: np.ndarray,
    fraction: float,
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices `[N_train]` and `[N_validation]`, sorted; about `fraction` of each stratum validates.

    A stratum is a label, together with the value in `strata` where given. Images with one value in `groups` are never
    on both sides; a group counts for the rarest stratum that any of its images is of, with as many images as it has of
    it: most patients with a melanoma have more benign lesions than malignant ones. An empty group name means an image
    of its own. The same on every machine. ValueError if `fraction` is not in (0, 1) or a side would lack a class.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"config.data.validation_fraction={fraction}: expected a share between 0 and 1")
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("there is no labelled image to split into training and validation")
    stratum = _codes(list(zip(labels.tolist(), strata if strata is not None else [""] * len(labels))))
    names = [group or f"\0{i}" for i, group in enumerate(groups)] if groups is not None else range(len(labels))
    group = _codes(list(names))
    random = np.random.default_rng([seed, 0])
    chosen = np.zeros(group.max(initial=-1) + 1, bool)
    rarest, sizes = _rarest(group, stratum)
    for value in range(stratum.max(initial=-1) + 1):
        members = random.permutation(np.flatnonzero(rarest == value))
        wanted = fraction * sizes[members].sum()
        # A group goes over as long as that brings the share nearer to what is wanted.
        before = np.cumsum(sizes[members]) - sizes[members]
        chosen[members[before + sizes[members] / 2 <= wanted]] = True
    validates = chosen[group]
    train, validation = np.flatnonzero(~validates), np.flatnonzero(validates)
    for name, side in (("training", train), ("validation", validation)):
        missing = sorted(set(labels.tolist()) - set(labels[side].tolist()))
        if missing or len(set(labels[side].tolist())) < 2:
            raise ValueError(
                f"the {name} side of the split ({len(side)} of {len(labels)} images) has no image of class "
                f"{missing or 'any other'}: add images or change config.data.validation_fraction"
            )
    return train, validation


def _codes(values: list) -> np.ndarray:
    """Numbers 0.. for equal values, in order of first appearance."""
    numbers: dict = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], int)


def _rarest(group: np.ndarray, stratum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each group the rarest stratum, by images in all, of those it has an image of; and how many it has of it."""
    table = np.zeros((group.max(initial=-1) + 1, stratum.max(initial=-1) + 1), int)
    np.add.at(table, (group, stratum), 1)
    rarest = np.where(table > 0, table.sum(axis=0), len(stratum) + 1).argmin(axis=1)
    return rarest, table[np.arange(len(table)), rarest]
