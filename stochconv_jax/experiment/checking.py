"""Before a run's first step: all of its images are looked at, and none may be on both sides of the split."""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.data import image_checks, sources
from stochconv_jax.data.folds import Leak
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training.progress import Progress

logger = logging.getLogger(__name__)

FILE = "checked.json"  # in a run's folder: what was looked at, so that a run that goes on need not do it again
NAMED = 5  # images in an error


def check_images(
    folder: RunFolder, config: ConfigDict, devices: jax.sharding.Mesh, train: sources.Source, validation: sources.Source
) -> None:
    """Looks at all images as config.data.check says; process 0 does, and the others hear whether all is well.

    Raises BadImage with the first that cannot be used, unless config.data.on_bad_image is skip: then the log lists
    them. Raises Leak where an image is on both sides.
    """
    if config.data.check == "none":
        return
    error = None
    if jax.process_index() == 0:
        try:
            _check(folder, config, train, validation)
        except (sources.BadImage, Leak) as found:
            error = found
    if jax.process_count() > 1 and _any(error is not None, devices) and error is None:
        error = sources.BadImage("the images are refused: the log of process 0 says which and why")
    if error:
        raise error


def _any(failed: bool, devices: jax.sharding.Mesh) -> bool:
    """Whether any process has; by the one sum that all know already, see `hosts.join`."""
    ones = np.full(jax.local_device_count(), failed, np.float32)
    ones = jax.make_array_from_process_local_data(meshes.batch_sharding(devices), ones)
    return bool(jax.jit(lambda x: x.sum(), out_shardings=meshes.replicated(devices))(ones))


def _check(folder: RunFolder, config: ConfigDict, train: sources.Source, validation: sources.Source) -> None:
    sides = {"training": train, "validation": validation}
    settings = [config.data.check, config.data.hash_distance, list(config.data.image_size)]
    before = _checked_before(folder)
    if before.get("of") == _fingerprint(settings, sides, config.data.timeout_seconds):
        logger.info("images: checked before (%s)", FILE)
        _refuse_bad(config, before["bad"], len(train) + len(validation))
        return
    found = _look_at_all(config, sides)
    bad = [one.problem for side in found for one in side if one.problem]
    _refuse_bad(config, bad, len(train) + len(validation))
    for name, source, side in zip(sides, sides.values(), found):
        if all(one.problem for one in side):
            raise sources.BadImage(f"none of the {len(source)} {name} images can be used")
    _refuse_copies(config, train, validation, found)
    if train.files:
        # The states are those that were looked at, not those of now: a file that has changed since is not known.
        states = [one.file for side in found for one in side]
        folder.write_json(FILE, {"of": _digest(settings, sides, states), "bad": bad})


def _checked_before(folder: RunFolder) -> dict[str, Any]:
    """What was looked at before; {} where nothing can be read: then all is looked at again."""
    try:
        before = folder.read_json(FILE) or {}
    except ValueError:
        return {}
    return before if isinstance(before.get("bad"), list) else {}


def _look_at_all(config: ConfigDict, sides: dict[str, sources.Source]) -> tuple[list[image_checks.CheckedImage], ...]:
    progress, done = Progress(sum(map(len, sides.values())), every=config.log_every_seconds), 0

    def on_image() -> None:
        nonlocal done
        done += 1
        progress.update(done, note=f"check ({config.data.check}): ")

    return tuple(
        image_checks.check_source(
            source,
            decode=config.data.check == "full",
            hashes=config.data.hash_distance >= 0,
            least=tuple(config.data.image_size),
            timeout_seconds=config.data.timeout_seconds,
            on_image=on_image,
        )
        for source in sides.values()
    )


def _refuse_bad(config: ConfigDict, bad: Sequence[str], count: int) -> None:
    skips = config.data.on_bad_image == "skip"
    if bad:
        logger.warning("%d of %d images cannot be used%s:", len(bad), count, " and are skipped" if skips else "")
        for problem in bad:
            logger.warning("  %s", problem)
    if bad and not skips:
        raise sources.BadImage(
            f"{len(bad)} of {count} images cannot be used: {_some(bad)}. Mend them or take them out of the labels, or "
            "set config.data.on_bad_image=skip"
        )


def _refuse_copies(config: ConfigDict, train: sources.Source, validation: sources.Source, found: Any) -> None:
    distance = config.data.hash_distance
    kinds = {
        "are copies, byte for byte,": image_checks.identical_pairs(
            train, validation, found, config.data.timeout_seconds
        )
    }
    if distance >= 0:
        kinds[f"look like copies (config.data.hash_distance={distance})"] = image_checks.similar_pairs(found, distance)
    for words, pairs in kinds.items():
        if pairs:
            listed = _some([f"{validation.names[j]} of {train.names[i]}" for i, j in pairs])
            raise Leak(
                f"the split leaks: {len(pairs)} validation images {words} of training images: {listed}. Take one of "
                "each out of the labels, keep them together by config.data.group_by, or set config.data.check=none"
            )


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more


def _fingerprint(settings: Sequence[Any], sides: dict[str, sources.Source], timeout_seconds: float) -> str:
    """Of the settings and of each file's name, length and time of change."""
    files = [file for source in sides.values() for file in source.files]
    names = list(map(str, files))
    states = dict(
        image_checks.map_in_threads(
            lambda i: image_checks.file_state(files[i]), names, image_checks.FILE_THREADS, timeout_seconds
        )
    )
    return _digest(settings, sides, [states[i] for i in range(len(files))])


def _digest(settings: Sequence[Any], sides: dict[str, sources.Source], states: Sequence[tuple[int, int]]) -> str:
    names = [source.names for source in sides.values()]
    return hashlib.sha256(json.dumps([settings, names, states]).encode()).hexdigest()
