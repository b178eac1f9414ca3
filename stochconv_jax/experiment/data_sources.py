"""The images that a config names: training images, validation images and a test set."""

import logging
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.config import name_keys
from stochconv_jax.data import folds, paths, sources, splits, synthetic

logger = logging.getLogger(__name__)

# Subfolders of config.data.path with class folders of their own.
TRAIN, VALIDATION, TEST = "train", ("val", "valid", "validation"), "test"


def training_and_validation(config: ConfigDict) -> tuple[sources.Source, sources.Source]:
    """Returns the training images and the validation images; logs classes that have no image.

    Raises Leak, a ValueError, if both have images of the same patient, lesion or group, or the same image. Raises
    ValueError if either has images of one class only, or if a key is set that does not apply to the source.
    """
    data = config.data
    apart = data.validation_labels or _validation_folder(data)
    advice = "set config.data.group_by to a column that keeps them together"
    if data.source == "synthetic":
        _refuse(data, "", "config.data.source='synthetic' draws its images ('folder' reads your own)")
        drawn = synthetic.SyntheticSource(
            size=data.num_train + data.num_validation, image_size=tuple(data.image_size), seed=data.seed
        )
        train, validation = (sources.Subset(drawn, i) for i in np.split(np.arange(len(drawn)), [data.num_train]))
    elif apart:
        tables, folders = ("config.data.labels", "config.data.validation_labels"), (f"the folder {TRAIN}", apart)
        advice = "take them out of {} or out of {}".format(*(tables if data.validation_labels else folders))
        train = _labelled(data, "labels", TRAIN)
        validation = _same_classes(_labelled(data, "validation_labels", apart, train.classes), train.classes)
    else:
        labelled = _labelled(data, "labels", TRAIN)
        train, validation = (sources.Subset(labelled, side) for side in _sides(data, labelled))
    folds.refuse_leaks(_kept_apart(train), _kept_apart(validation), advice)
    if apart:
        where = "config.data.validation_labels names" if data.validation_labels else f"the folder {apart} has"
        _refuse(data, apart, f"{where} the validation images")
        folds.refuse_leaks(_groups(data, train), _groups(data, validation), advice)
    _check_classes({"training": train, "validation": validation}, data.num_classes)
    return train, validation


def test_set(config: ConfigDict) -> sources.Source:
    """Returns all images of the test set that config.eval.path and config.eval.labels name.

    They are read with the run's own settings, such as the names of columns and of classes. Raises ValueError as
    `training_and_validation` does, with the keys of eval in the message.
    """
    data = config.data.copy_and_resolve_references().unlock()
    data.update({"source": "folder", "path": config.eval.path or data.path, "labels": config.eval.labels})
    try:
        found = _labelled(data, "labels", TEST)
    except ValueError as error:
        raise ValueError(name_keys(str(error), ["eval", "data"])) from error
    return _same_classes(found, data.classes)


def inapplicable(source: str, validation: str) -> tuple[str, ...]:
    """Returns the keys of data that do not apply to the source.

    `validation`: the table or the folder of validation images; '' if there is none.
    """
    if source == "synthetic":
        return ("path", "labels", "validation_labels", "classes", "fold", "group_by", "stratify_by", "metadata_columns")
    return ("fold", "stratify_by") if validation else ()


def _refuse(data: ConfigDict, validation: str, why: str) -> None:
    for key in inapplicable(data.source, validation):
        if data[key]:
            raise ValueError(f"config.data.{key}={data[key]!r} does not apply, because {why}: leave it out")


def _labelled(data: ConfigDict, key: str, subfolder: str, classes: Sequence[str] = ()) -> sources.Source:
    """Returns the images of the table `data[key]`, or of the prepared data set.

    Without a table they are those of the class folders in config.data.path, or in its `subfolder` if there is one.
    `classes`: names of the classes that other images have; () for config.data.classes.
    """
    if not data.path:
        raise ValueError(f"`path` is not set: the folder of a source {data.source!r}")
    names = {"num_classes": data.num_classes, "classes": classes or data.classes}
    if data.source == "folder" and not data[key]:
        return sources.FolderSource.from_class_folders(data.path, _existing(data, (subfolder,)), **names)
    if data.source == "folder":
        if not paths.parse(data[key]).exists():
            raise ValueError(f"`{key}`={data[key]!r}: there is no such file")
        columns = {"image_column": data.image_column, "target_column": data.target_column}
        return sources.FolderSource.from_csv(data.path, data[key], **names, **columns)
    # Imported here because TFDS takes half a second, which other sources need not wait for.
    from stochconv_jax.data import tfds_source

    return tfds_source.TfdsSource(data.path, **names)


def _validation_folder(data: ConfigDict) -> str:
    """Returns the subfolder of config.data.path that has the class folders of the validation images, or ''."""
    has_train = data.source == "folder" and not data.labels and _existing(data, (TRAIN,))
    return _existing(data, VALIDATION) if has_train else ""


def _existing(data: ConfigDict, subfolders: Sequence[str]) -> str:
    """Returns the first of `subfolders` that is in config.data.path, or ''."""
    folder = paths.parse(data.path)
    return next((name for name in subfolders if (folder / name).is_dir()), "")


def _same_classes(source: sources.Source, classes: Sequence[str]) -> sources.Source:
    """Returns `source`. Raises ValueError if its classes are words where those of the training images are numbers."""
    if source.classes != tuple(classes):
        raise ValueError(
            f"{source.origin}: its classes are words ({', '.join(source.classes)}), and those of the training images "
            "are numbers: list the words of the classes 0, 1, ... as config.data.classes"
        )
    return source


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
        if missing := [source.classes[k] if source.classes else str(k) for k, count in enumerate(counts) if not count]:
            logger.warning(
                "no %s image is of class %s (config.data.num_classes=%d): ROC AUC is over the other classes",
                *(side, " or ".join(missing), num_classes),
            )
