"""Reads, writes and compares config.json of the run in --workdir."""

import datetime
import json
import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax import default_config
from stochconv_jax.config import check_together, complete, flatten
from stochconv_jax.data import sources, table_reader
from stochconv_jax.data.metadata import Encoding
from stochconv_jax.experiment import data_sources
from stochconv_jax.experiment.experiment import AUTO, DTYPES, Experiment, dtype_for
from stochconv_jax.run_folder import FREE_KEYS, RunFolder
from stochconv_jax.runtime import provenance

logger = logging.getLogger(__name__)

# The files that an evaluation writes, and its lock file.
EVALUATION, PREDICTIONS, EVALUATE_LOCK = "evaluation.json", "predictions.csv", ".evaluate.lock"
# Keys, or beginnings of keys, that determine which arrays a checkpoint holds.
RESTORED_KEYS = ("model.", "optimizer.", "data.num_classes", "data.metadata_columns")
METADATA = "metadata.json"  # the encoding of the columns config.data.metadata_columns
DTYPE = "model.dtype"
SIZE_KEYS = ("data.image_size", "data.thumbnail_size")
# Keys that may change in a run if that makes it longer: whether (before, after) do. The epochs done stay as they are.
LENGTHS: Mapping[str, Callable[[int, int], bool]] = {
    "num_epochs": lambda before, after: after > before,
    "checkpoint.patience": lambda before, after: before > 0 and (after > before or after == 0),
}
# Keys of data that do not affect which images are used.
FREE_DATA_KEYS = (
    "data.path", "data.num_workers", "data.timeout_seconds", "data.on_bad_image", "data.order", "data.check",
    "data.hash_distance", *SIZE_KEYS
)  # fmt: skip


def decide_dtype(folder: RunFolder, config: ConfigDict, platform: str) -> ConfigDict:
    """Returns `config` with a dtype of activations in place of 'auto': that of the run in `folder`, if one has begun.

    A new run takes the dtype for `platform`. An old one keeps its dtype on any platform.
    """
    if config.model.dtype != AUTO:
        return config
    saved = (folder.read_config() or {}).get("config") if _has_begun(folder) else None
    recorded = flatten(saved).get(DTYPE) if isinstance(saved, Mapping) else None
    of_run = recorded in DTYPES  # if not, `claim` refuses the folder
    dtype = recorded if of_run else dtype_for(platform)
    logger.info("model.dtype=auto: %s, %s", dtype, "as the run began" if of_run else f"for {platform}")
    return with_dtype(config, dtype)


def with_dtype(config: ConfigDict, dtype: str) -> ConfigDict:
    """Returns `config` with `dtype` in place of model.dtype='auto'."""
    if config.model.dtype != AUTO:
        return config
    decided = config.copy_and_resolve_references()
    decided.model.dtype = dtype
    return decided


def _has_begun(folder: RunFolder) -> bool:
    """Returns whether the run in `folder` has something worth keeping: a checkpoint or an epoch."""
    return folder.has_checkpoint() or bool(folder.read_metrics())


def claim(
    folder: RunFolder,
    config: ConfigDict,
    *,
    size: Mapping[str, int],
    data: Mapping[str, Any],
    classes: Sequence[str] = (),
    **more: Any,
) -> None:
    """Writes config.json of a new run, or checks that the run in `folder` is the one that `config` describes.

    A run that ended before its first epoch and its first checkpoint has nothing worth keeping and counts as new.

    Args:
      folder: the folder of the run.
      config: the config to train.
      size: parameters and multiply-adds of the model.
      data: `fingerprint` of the training images and of the validation images.
      classes: names of the classes as they were found, which config.data.classes in config.json becomes.
      **more: further entries of config.json, for the record.

    Raises:
      ValueError: `folder` holds another run, and the message lists the keys that differ; or its checkpoints are gone.
    """
    # The processes belong to a start and not to the run; a later start may have others.
    content = config.to_dict() | {"distributed": default_config.distributed().to_dict()}
    content["data"] |= {"classes": tuple(classes)}
    old = folder.read_config()
    saved_once, epochs = folder.has_checkpoint(), len(folder.read_metrics())
    if old is not None and (saved_once or epochs):
        before = {"data_set": old["data"]} | complete(old["config"], folder.path).to_dict()
        if found := differences(before, {"data_set": data} | config.to_dict()):
            _refuse_another_run(folder, config, found)
            if jax.process_index() == 0:
                _record_longer(folder, old, found)
        # A row is written before its checkpoint, so there may be two rows before the first checkpoint is complete.
        if not saved_once and (epochs > 2 or (folder.path / EVALUATION).exists()):
            raise ValueError(
                f"the checkpoints of {folder.path} are gone: it would be trained again, from the beginning. Bring them "
                "back, choose another --workdir, or remove its metrics.csv and evaluation.json"
            )
    elif jax.process_index() == 0:
        about = {"config": content, **size, "data": data, **more}
        folder.write_json("config.json", about | provenance.describe(folder.path))


def _refuse_another_run(folder: RunFolder, config: ConfigDict, found: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises ValueError, which lists the keys that differ, unless the run in `folder` is only to be longer."""
    grown = [key for key, values in found.items() if key in LENGTHS and LENGTHS[key](*values)]
    if len(grown) == len(found) and ("num_epochs" not in found or config.optimizer.schedule != "cosine"):
        return
    listing = "\n".join(f"  {key}: {there!r} there, {now!r} now" for key, (there, now) in found.items())
    advice = ""
    if len(grown) == len(found):
        advice = (
            " The cosine schedule depends on the number of epochs: a new run can start from the weights of this one "
            f"with --config.init.run={folder.path}."
        )
    raise ValueError(f"{folder.path} holds another run; choose another --workdir.{advice} What differs:\n{listing}")


def _record_longer(folder: RunFolder, about: Mapping[str, Any], found: Mapping[str, tuple[Any, Any]]) -> None:
    """Writes new values of `LENGTHS` into the config of a run, and the old ones into `before` of its config.json."""
    config = json.loads(json.dumps(about["config"]))
    for key, (there, now) in found.items():
        logger.info("config.%s: %s, before %s", key, now, there)
        section, _, name = key.rpartition(".")
        (config.setdefault(section, {}) if section else config)[name] = now
    before = [*about.get("before", ()), {key: there for key, (there, _) in found.items()}]
    folder.write_json("config.json", dict(about) | {"config": config, "before": before})


def record_start(folder: RunFolder, config: ConfigDict, step: int) -> None:
    """Appends to `starts` in config.json the time, step, devices and commit of this start of the run.

    Also writes and logs differences from the first start, such as versions, and the values of keys that an older
    version of the config did not have.
    """
    if jax.process_index() != 0:
        return
    about, now = recorded(folder), provenance.describe(folder.path)
    other = {name: value for name, value in now.items() if about.get(name) != value}
    if other:
        logger.warning("different from the run's first start: %s; see `starts` in config.json", ", ".join(other))
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = {"time": time, "step": step, "devices": now["devices"], "git": now["git"]} | other
    known = flatten(about["config"])
    if new := {key: value for key, value in flatten(config.to_dict()).items() if key not in known}:
        start["new_keys"] = new
    folder.write_json("config.json", about | {"starts": [*about.get("starts", ()), start]})


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns {key: (value in `before`, value in `after`)} for every key that makes the two configs different runs."""
    before, after = (flatten(json.loads(json.dumps(config))) for config in (before, after))
    free = FREE_KEYS
    # An earlier version accepted keys that do not apply to the source; they may now be left out.
    if known := data_sources.inapplicable(before.get("data.source", ""), before.get("data.validation_labels", "")):
        free += tuple(f"data.{key}" for key in known if not after.get(f"data.{key}"))
    keys = sorted(key for key in before.keys() | after.keys() if not key.startswith(free))
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def experiment(folder: RunFolder, config: ConfigDict, **given: Any) -> Experiment:
    """Returns the experiment of a run that has a checkpoint, with the encoding of metadata that it began with.

    `given`: see `Experiment`. Raises ValueError, naming the file, if the encoding is gone, damaged or of other columns.
    """
    columns = list(config.data.metadata_columns)
    if not columns:
        return Experiment(config, **given)
    try:
        encoding = Encoding.from_json(folder.read_json(METADATA) or {})
        if encoding.names != columns:
            raise ValueError(f"it is of the columns {encoding.names}, and those of the run are {columns}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{folder.path / METADATA} is gone or damaged ({error!r}), and without it the metadata cannot be encoded "
            "as in training: bring it back"
        ) from error
    return Experiment(config, metadata=encoding, **given)


def begin(folder: RunFolder, config: ConfigDict) -> Experiment:
    """Returns the experiment to train, with the encoding of metadata of the run in `folder` if that has a checkpoint.

    A run of other columns is another run, which `claim` refuses.
    """
    saved = (folder.read_config() or {}).get("config") if folder.has_checkpoint() else None
    columns = flatten(saved).get("data.metadata_columns") if isinstance(saved, Mapping) else None
    return experiment(folder, config) if columns == list(config.data.metadata_columns) else Experiment(config)


def fingerprint(source: sources.Source, columns: Sequence[str] = ()) -> dict[str, int]:
    """Returns the number of images and a CRC-32 of their names and labels, which do not depend on the folder.

    The texts of `columns`, those of the metadata, have a CRC-32 of their own where the source has them. So runs with
    and without metadata can be compared on the same images.
    """
    there = (table_reader.find_column(source.columns, name) for name in columns)
    texts = [text for name in there if name for text in source.columns[name]]
    labels = np.asarray(source.labels, np.int32).tobytes()
    found = {"images": len(source), "crc32": zlib.crc32(labels, _crc32_of(source.names))}
    return found | ({"metadata_crc32": _crc32_of(texts)} if texts else {})


def all_folds_crc32(train: sources.Source, validation: sources.Source) -> int:
    """Returns a CRC-32 of the names and classes of all images, which does not depend on the fold that they are in."""
    pairs = (pair for source in (train, validation) for pair in zip(source.names, source.labels.tolist()))
    return _crc32_of([f"{name}\t{label}" for name, label in sorted(pairs)])


def _crc32_of(texts: Sequence[str]) -> int:
    return zlib.crc32("\n".join(texts).encode("utf-8", "surrogateescape"))


def recorded(folder: RunFolder) -> dict[str, Any]:
    """Returns the content of config.json of a run that has started, such as one that `claim` or `read_run` accepted."""
    content = folder.read_config()
    assert content is not None, f"{folder.path} has no config.json any more"
    return content


def read_run(workdir: str | os.PathLike, overrides: Mapping[str, Any]) -> tuple[RunFolder, ConfigDict]:
    """Returns the folder and the config of the run in `workdir`, with `overrides`, values by dotted key, applied to it.

    Raises ValueError if there is no run, or if an override would change the arrays of its checkpoints.
    """
    folder = RunFolder(workdir)
    about = folder.read_config()
    if about is None:
        raise ValueError(f"no run in {folder.path}: it has no config.json; train first, with the same --workdir")
    if not {"config", "data"} <= about.keys():
        raise ValueError(f"{folder.path / 'config.json'} is not that of a run: it lacks `config` or `data`")
    config = complete(about["config"], folder.path)
    trained = flatten(config.to_dict())
    overrides = {key: value for key, value in overrides.items() if (key, value) != (DTYPE, AUTO)}
    for key, value in overrides.items():
        if key.startswith(RESTORED_KEYS) and trained[key] != value:
            raise ValueError(f"config.{key}={value!r}: the run in {folder.path} has {trained[key]!r}")
        if key in SIZE_KEYS and trained[key] != value:
            logger.warning("config.%s=%s: the run was trained with %s", key, value, trained[key])
    with config.unlocked():
        config.update_from_flattened_dict(dict(overrides))
    check_together(config)
    model = config.model
    branches = "+".join(model.branches)
    logger.info("%s: model %s, branches %s, merge_after %s", folder.path, model.variant, branches, model.merge_after)
    return folder, config


def changed_keys(folder: RunFolder, overrides: Mapping[str, Any]) -> list[str]:
    """Returns the keys of `overrides` whose values differ from those of the run in `folder`."""
    own = flatten(default_config.get_config().to_dict()) | flatten(recorded(folder)["config"])
    plain = {key: json.loads(json.dumps([value, own[key]])) for key, value in overrides.items()}
    return [key for key, (value, before) in plain.items() if value != before]
