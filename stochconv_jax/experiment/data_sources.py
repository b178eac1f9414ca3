"""The images that a config names: training images, validation images and a test set."""

import logging
import os

import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.config import name_keys
from stochconv_jax.data import folds, sources, splits, synthetic

logger = logging.getLogger(__name__)


def training_and_validation(config: ConfigDict) -> tuple[sources.Source, sources.Source]:
    """Returns the training images and the validation images; logs classes that have no image.

    Raises Leak, a ValueError, if both have images of the same patient, lesion or group, or the same image. Raises
    ValueError if either has images of one class only, or if a key is set that does not apply to the source.
    """
    data = config.data
    advice = "set config.data.group_by to a column that keeps them together"
    if data.source == "synthetic":
        _refuse(data, "config.data.source='synthetic' draws its images")
        drawn = synthetic.SyntheticSource(
            size=data.num_train + data.num_validation, image_size=tuple(data.image_size), seed=data.seed
        )
        train, validation = (sources.Subset(drawn, i) for i in np.split(np.arange(len(drawn)), [data.num_train]))
    elif data.validation_labels:
        train, validation = (_labelled(data, key) for key in ("labels", "validation_labels"))
        advice = "take them out of config.data.labels or out of config.data.validation_labels"
    else:
        labelled = _labelled(data, "labels")
        train, validation = (sources.Subset(labelled, side) for side in _sides(data, labelled))
    folds.refuse_leaks(_kept_apart(train), _kept_apart(validation), advice)
    if data.validation_labels:
        _refuse(data, "config.data.validation_labels names the validation images")
        folds.refuse_leaks(_groups(data, train), _groups(data, validation), advice)
    _check_classes({"training": train, "validation": validation}, data.num_classes)
    return train, validation


def test_set(config: ConfigDict) -> sources.Source:
    """Returns all images of the test set that config.eval.path and config.eval.labels name.

    Its table is read with the run's own settings, such as the names of columns. Raises ValueError as
    `training_and_validation` does, with the keys of eval in the message.
    """
    if not config.eval.labels:
        raise ValueError("config.eval.path names the images of a test set: config.eval.labels must name its CSV")
    data = config.data.copy_and_resolve_references().unlock()
    data.update({"source": "folder", "path": config.eval.path or data.path, "labels": config.eval.labels})
    try:
        return _labelled(data, "labels")
    except ValueError as error:
        raise ValueError(name_keys(str(error), ["eval", "data"])) from error


def inapplicable(source: str, validation_labels: str) -> tuple[str, ...]:
    """Returns the keys of data that do not apply to the source."""
    if source == "synthetic":
        return ("path", "labels", "validation_labels", "fold", "group_by", "stratify_by")
    return ("fold", "stratify_by") if validation_labels else ()


def _refuse(data: ConfigDict, why: str) -> None:
    for key in inapplicable(data.source, data.validation_labels):
        if data[key]:
            raise ValueError(f"config.data.{key}={data[key]!r} does not apply, because {why}: leave it out")


def _labelled(data: ConfigDict, key: str) -> sources.Source:
    """Returns the images of the table that `data[key]` names, or of the prepared data set."""
    if not data.path:
        raise ValueError(f"`path` is not set: the folder of a source {data.source!r}")
    if data.source == "folder":
        if not data[key]:
            raise ValueError(f"`{key}` is not set: the CSV of the images in `path`")
        if not os.path.exists(os.path.expanduser(data[key])):
            raise ValueError(f"`{key}`={data[key]!r}: there is no such file")
        columns = {"image_column": data.image_column, "target_column": data.target_column}
        return sources.FolderSource.from_csv(data.path, data[key], num_classes=data.num_classes, **columns)
    from stochconv_jax.data import (
        tfds_source,
    )  # imported here because TFDS takes half a second, which other sources need not wait for

    return tfds_source.TfdsSource(data.path, num_classes=data.num_classes)


def _sides(data: ConfigDict, labelled: sources.Source) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training images and of the validation images, which are a fold or a share of all."""
    together = {
        "groups": _groups(data, labelled).get(data.group_by),
        "strata": _column(data, "stratify_by", labelled) if data.stratify_by else None,
    }
    if not data.fold:
        return splits.stratified_split(labelled.labels, data.validation_fraction, data.seed, **together)
    number, count = folds.parse_fold(data.fold)
    fold = folds.k_folds(labelled.labels, count, data.seed, **together)
    return np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _kept_apart(source: sources.Source) -> dict[str, list[str]]:
    """Returns {column: values} for the columns of the source whose values must not be on both sides of a split."""
    columns = {name.lower(): values for name, values in source.columns.items()}
    known = {name: columns[name] for name in ("patient_id", "lesion_id", "group") if name in columns}
    return {"image": list(source.names), **known}


def _groups(data: ConfigDict, source: sources.Source) -> dict[str, list[str]]:
    """Returns {name: values} of the column config.data.group_by, or {} if that is not set."""
    return {data.group_by: _column(data, "group_by", source)} if data.group_by else {}


def _column(data: ConfigDict, key: str, source: sources.Source) -> list[str]:
    """Returns the source's column that the data key `key` names. Raises ValueError naming the key if there is none."""
    try:
        return source.column(data[key])
    except ValueError as error:
        raise ValueError(f"config.data.{key}={data[key]!r}: {error}") from error


def _check_classes(sides: dict[str, sources.Source], num_classes: int) -> None:
    """Raises ValueError if a side has images of fewer than two classes; logs the classes without images."""
    for side, source in sides.items():
        counts = sources.class_counts(source.labels, num_classes)
        if sum(map(bool, counts)) < 2:
            where, there = source.origin, f"all {len(source)} {side} images are of one class"
            raise ValueError(f"{where}: {there if len(source) else f'no {side} image'}, and ROC AUC needs two classes")
        if missing := [str(number) for number, count in enumerate(counts) if not count]:
            logger.warning(
                "no %s image is of class %s (config.data.num_classes=%d): ROC AUC is over the other classes",
                *(side, " or ".join(missing), num_classes),
            )
