"""What the modes share about the run in --workdir: claiming it, reading its config, restoring its model."""

import datetime
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax import default_config
from stochconv_jax.config import check_together, complete, flatten
from stochconv_jax.data import pipeline, sources
from stochconv_jax.experiment import build, data_sources
from stochconv_jax.run_folder import FREE_KEYS, RunFolder
from stochconv_jax.runtime import provenance
from stochconv_jax.training import state
from stochconv_jax.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

RESTORED_KEYS = ("model.", "optimizer.", "data.num_classes")  # make the tree that a checkpoint holds
SIZE_KEYS = ("data.image_size", "data.thumbnail_size")
# Say nothing about which images are meant.
FREE_DATA_KEYS = (
    "data.path", "data.num_workers", "data.timeout_seconds", "data.on_bad_image", "data.order", "data.check",
    "data.hash_distance", *SIZE_KEYS
)  # fmt: skip
INTEGER_COLUMNS = ("epoch", "step")


def claim(folder: RunFolder, config: ConfigDict, *, size: Mapping[str, int], data: Mapping[str, Any]) -> None:
    """Writes config.json of a new run; of an old one checks that it is the same run, and never overwrites another.

    A run that ended before its first epoch and checkpoint, say at a setting that cannot be, leaves nothing to keep: it
    is new. `size`: parameters and multiply-adds; `data`: fingerprints of the data sets. Raises ValueError that lists
    the keys that differ, or where the checkpoints of its epochs are gone.
    """
    # Which processes ran it is not what it is, and another one would look for them.
    content = config.to_dict() | {"distributed": default_config.distributed().to_dict()}
    old = folder.read_config()
    saved_once, epochs = folder.has_checkpoint(), len(folder.read_metrics())
    if old is not None and (saved_once or epochs):
        before = {"data_set": old["data"]} | complete(old["config"], folder.path).to_dict()
        if found := differences(before, {"data_set": data} | config.to_dict()):
            listing = "\n".join(f"  {key}: {there!r} there, {now!r} now" for key, (there, now) in found.items())
            raise ValueError(f"{folder.path} holds another run; choose another --workdir. What differs:\n{listing}")
        # A row is written before its checkpoint, and the next one may be before that is complete.
        if not saved_once and (epochs > 2 or (folder.path / "evaluation.json").exists()):
            raise ValueError(
                f"the checkpoints of {folder.path} are gone: it would be trained again, from the beginning. Bring them "
                "back, choose another --workdir, or remove its metrics.csv and evaluation.json"
            )
    elif jax.process_index() == 0:
        about = {"config": content, **size, "data": data}
        folder.write_json("config.json", about | provenance.describe(folder.path))


def record_start(folder: RunFolder, config: ConfigDict, step: int) -> None:
    """Adds to the `starts` of config.json that the run begins, or goes on, at `step`, by whom and on what.

    What is other than when the run first began is written there too, and the log names it; so are the values of keys
    that an older version of the config did not have.
    """
    if jax.process_index() != 0:
        return
    about, now = folder.read_config(), provenance.describe(folder.path)
    other = {name: value for name, value in now.items() if about.get(name) != value}
    if other:
        logger.warning("not as the run first began: %s; see `starts` in config.json", ", ".join(other))
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = {"time": time, "step": step, "devices": now["devices"], "git": now["git"]} | other
    known = flatten(about["config"])
    if new := {key: value for key, value in flatten(config.to_dict()).items() if key not in known}:
        start["new_keys"] = new
    folder.write_json("config.json", about | {"starts": [*about.get("starts", ()), start]})


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Of two configs, as they are or as config.json has them, the values that make them different runs, by key."""
    before, after = (flatten(json.loads(json.dumps(config))) for config in (before, after))
    free = FREE_KEYS  # an earlier version took keys that say nothing, and they may be left out since
    if known := data_sources.inapplicable(before.get("data.source"), before.get("data.validation_labels")):
        free += tuple(f"data.{key}" for key in known if not after.get(f"data.{key}"))
    keys = sorted(key for key in before.keys() | after.keys() if not key.startswith(free))
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def fingerprint(source: sources.Source) -> dict[str, int]:
    """Tells one set of images and labels from another, wherever the files are."""
    crc = zlib.crc32("\n".join(source.names).encode("utf-8", "surrogateescape"))
    return {"images": len(source), "crc32": zlib.crc32(np.asarray(source.labels, np.int32).tobytes(), crc)}


def load(overrides: Mapping[str, Any], workdir: str) -> tuple[RunFolder, ConfigDict]:
    """The run in `workdir` and its own config, with the keys set on the command line laid over it.

    --config is not looked at: the run's checkpoint fits no other model. ValueError where there is no run, or where an
    override would change its model.
    """
    folder = RunFolder(workdir)
    about = folder.read_config()
    if about is None:
        raise ValueError(f"no run in {folder.path}: it has no config.json; train first, with the same --workdir")
    if not {"config", "data"} <= about.keys():
        raise ValueError(f"{folder.path / 'config.json'} is not that of a run: it lacks `config` or `data`")
    own = complete(about["config"], folder.path)
    trained = flatten(own.to_dict())
    for key, value in overrides.items():
        if key.startswith(RESTORED_KEYS) and trained[key] != value:
            raise ValueError(f"config.{key}={value!r}: the run in {folder.path} has {trained[key]!r}")
        if key in SIZE_KEYS and trained[key] != value:
            logger.warning("config.%s=%s: the run was trained with %s", key, value, trained[key])
    with own.unlocked():
        own.update_from_flattened_dict(dict(overrides))
    check_together(own)
    model = own.model
    branches = "+".join(model.branches)
    logger.info("%s: %s, branches %s, meeting %s", folder.path, model.variant, branches, model.merge_after)
    return folder, own


def changed(folder: RunFolder, overrides: Mapping[str, Any]) -> list[str]:
    """Of the keys set on the command line, those whose value is another than that of the run in `folder`."""
    own = flatten(default_config.get_config().to_dict()) | flatten(folder.read_config()["config"])
    plain = {key: json.loads(json.dumps([value, own[key]])) for key, value in overrides.items()}
    return [key for key, (value, before) in plain.items() if value != before]


def restore(folder: RunFolder, config: ConfigDict, devices: jax.sharding.Mesh) -> tuple[int, Any]:
    """The step of the checkpoint that `config.eval.checkpoint` names, and its variables to evaluate with."""
    model = build.classifier(config)
    transform = build.optimizer(config, build.schedule(config, steps_per_epoch=1.0))
    shapes = state.shapes(build.initializer(config, model, transform), build.placement(config, devices))
    with Checkpoints(folder.checkpoints, best_metric=config.checkpoint.best_metric, read_only=True) as kept:
        found = kept.restore(config.eval.checkpoint, shapes)
    if found is None:
        raise ValueError(f"no checkpoint in {folder.checkpoints}: train first, with the same --workdir")
    step, restored, _ = found
    logger.info("restored step %d of %s", step, folder.path)
    return step, restored.to_evaluate()


def log_skipped(config: ConfigDict, source: sources.Source, skipped: Sequence[int]) -> None:
    """Says how many images were skipped, and of each why."""
    if found := reasons(config, source, skipped):
        logger.warning("%d of %d images cannot be used:", len(found), len(source))
    for reason in found.values():
        logger.warning("  %s", reason)


def reasons(config: ConfigDict, source: sources.Source, skipped: Sequence[int]) -> dict[int, str]:
    """Why images cannot be used, by index: the workers only tell which, so each is read once more."""
    reader, found = pipeline.Reader(source, **build.pixels(config)), {}
    for index in sorted(set(map(int, skipped))):
        try:
            reader.picture(index)
            found[index] = f"{source.names[index]} could not be read before, and can be now"
        except sources.BadImage as error:
            found[index] = str(error)
    return found
