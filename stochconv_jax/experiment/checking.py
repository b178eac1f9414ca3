"""Checks before the first step that all images can be used and that none is on both sides of the split."""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.config import name_keys
from stochconv_jax.data import image_checks, image_io, sources
from stochconv_jax.data.folds import Leak
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training.progress import Progress

logger = logging.getLogger(__name__)

FILE = "checked.json"  # in the run's folder: the result of the check, so that a resumed run does not repeat it
NAMED = 5  # the largest number of images that an error names


def check_images(
    folder: RunFolder, config: ConfigDict, devices: jax.sharding.Mesh, train: sources.Source, validation: sources.Source
) -> None:
    """Checks all images as config.data.check says. Process 0 checks, and the others wait for its result.

    Raises BadImage, naming the first images that cannot be used; if config.data.on_bad_image is 'skip', they are logged
    instead. Raises Leak if a validation image is a copy of a training image.
    """
    if config.data.check == "none":
        return
    error = None
    if jax.process_index() == 0:
        try:
            _check(folder, config, train, validation)
        except (sources.BadImage, Leak) as found:
            error = found
    if jax.process_count() > 1 and _in_any_process(error is not None, devices) and error is None:
        error = sources.BadImage("the images are refused: the log of process 0 says which and why")
    if error:
        raise error


def _in_any_process(failed: bool, devices: jax.sharding.Mesh) -> bool:
    """Returns whether `failed` is true in any process, by the sum that `distributed.join` has compiled in each."""
    ones = np.full(jax.local_device_count(), failed, np.float32)
    ones = jax.make_array_from_process_local_data(meshes.batch_sharding(devices), ones)
    return bool(jax.jit(lambda x: x.sum(), out_shardings=meshes.replicated(devices))(ones))


def _check(folder: RunFolder, config: ConfigDict, train: sources.Source, validation: sources.Source) -> None:
    """Checks all images in this process, or reads the result of the same check from checked.json."""
    sides = {"training": train, "validation": validation}
    settings = [config.data.check, config.data.hash_distance, list(config.data.image_size)]
    before = _checked_before(folder)
    if before.get("of") == _fingerprint(settings, sides, config.data.timeout_seconds):
        logger.info("images: already checked (%s)", FILE)
        _refuse_bad(config, before["bad"], len(train) + len(validation))
        return
    found = _check_each(config, sides)
    bad = [one.problem for side in found for one in side if one.problem]
    _refuse_bad(config, bad, len(train) + len(validation))
    for name, source, side in zip(sides, sides.values(), found):
        if all(one.problem for one in side):
            raise sources.BadImage(f"none of the {len(source)} {name} images can be used")
    _refuse_copies(config, train, validation, found)
    if train.files:
        # The states are from before the files were read, so a file that changes meanwhile will be checked again.
        states = [one.file for side in found for one in side]
        folder.write_json(FILE, {"of": _digest(settings, sides, states), "bad": bad})


def _checked_before(folder: RunFolder) -> dict[str, Any]:
    """Returns the content of checked.json, or {} if it cannot be read, so that all images are checked."""
    try:
        before = folder.read_json(FILE) or {}
    except ValueError:
        return {}
    return before if isinstance(before.get("bad"), list) else {}


def _check_each(config: ConfigDict, sides: dict[str, sources.Source]) -> tuple[list[image_checks.CheckedImage], ...]:
    """Returns the result for each image, by side; logs progress."""
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
    """Logs the problems `bad` of `count` images. Raises BadImage for them unless bad images are skipped."""
    skips = config.data.on_bad_image == "skip"
    if bad:
        logger.warning("%d of %d images cannot be used%s:", len(bad), count, " and are skipped" if skips else "")
        for problem in bad:
            logger.warning("  %s", name_keys(problem, ["data"]))
    if bad and not skips:
        advice = "Mend them or take them out of the data, or set config.data.on_bad_image=skip"
        if image_io.all_too_small(bad):
            advice = "Set a smaller config.data.image_size, or config.data.on_bad_image=skip to leave small images out"
        raise sources.BadImage(f"{len(bad)} of {count} images cannot be used: {_first_of(bad)}. {advice}")


def _refuse_copies(config: ConfigDict, train: sources.Source, validation: sources.Source, found: Any) -> None:
    """Raises Leak if a validation image is a copy of a training image or looks like one."""
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
            listed = _first_of([f"{validation.names[j]} of {train.names[i]}" for i, j in pairs])
            raise Leak(
                f"the split leaks: {len(pairs)} validation images {words} of training images: {listed}. Take one of "
                "each out of the labels, keep them together by config.data.group_by, or set config.data.check=none"
            )


def _first_of(texts: Sequence[str]) -> str:
    """Returns the first `NAMED` texts and the number of the remaining ones."""
    more = f"; and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more


def _fingerprint(settings: Sequence[Any], sides: dict[str, sources.Source], timeout_seconds: float) -> str:
    """Returns a digest of the settings and of each file's current name, length and modification time."""
    files = [file for source in sides.values() for file in source.files]
    names = list(map(str, files))
    states = dict(
        image_checks.map_in_threads(
            lambda i: image_checks.file_state(files[i]), names, image_checks.FILE_THREADS, timeout_seconds
        )
    )
    return _digest(settings, sides, [states[i] for i in range(len(files))])


def _digest(settings: Sequence[Any], sides: dict[str, sources.Source], states: Sequence[tuple[int, int]]) -> str:
    """Returns a SHA-256 of the settings, the names and the states of the files, see `image_checks.state`."""
    names = [source.names for source in sides.values()]
    return hashlib.sha256(json.dumps([settings, names, states]).encode()).hexdigest()
