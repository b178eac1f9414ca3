"""Prepares the images of a plan, shard by shard; makes again only shards that are missing, damaged or outdated.

The outcome of a shard is written when all of its files are complete. So a run that was killed goes on where it stopped,
and the files do not depend on which process makes a shard, or when.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stochconv_jax.atomic_files import write_bytes, write_text
from stochconv_jax.data import paths
from stochconv_jax.data.isic import image_encoding, isic_melanoma, manifest, raw_images, shards
from stochconv_jax.data.isic.shard_plan import (
    FOLDERS,
    OUTCOMES,
    Outcome,
    PlannedShard,
    Settings,
    plain_file,
    read_outcome,
)
from stochconv_jax.data.isic.workers import Workers


def run(
    folder: pathlib.Path,
    plan: Sequence[PlannedShard],
    settings: Settings,
    workers: Workers,
    *,
    on_start: Callable[[int], None] = lambda total: None,
    on_images: Callable[[int], None] = lambda done: None,
    on_damage: Callable[[str], None] = lambda message: None,
) -> list[Outcome]:
    """Makes the shards of the plan that have to be made, and returns the outcomes of all.

    Calls `on_start` with the number of images to be made, `on_images` with the number made so far, and `on_damage` with
    a message about each shard that is made again for another reason than other settings or originals. Raises ValueError
    if the folder has files that the manifest does not allow, and OSError naming a file that cannot be read or written.
    """
    manifest.refuse_outdated_files(folder, settings)
    manifest.refuse_foreign_files(folder, settings)
    for name in (OUTCOMES, *(FOLDERS.values() if "folder" in settings.formats else ())):
        (folder / name).mkdir(exist_ok=True)
    if "tfds" in settings.formats:
        shards.folder(folder / "tfds", settings.size).mkdir(parents=True, exist_ok=True)
        shards.remove_damaged_description(folder / "tfds", settings.size)
    checked = workers.map(functools.partial(check, folder=folder, settings=settings), plan)
    for problem in dict.fromkeys(problem for _, problem in checked if problem):
        on_damage(problem)
    missing = [shard for shard, (outcome, _) in zip(plan, checked) if outcome is None]
    superfluous = manifest.superfluous(folder, plan, settings)
    if missing or superfluous:
        manifest.close(folder, settings)
        manifest.begin(folder, plan, settings)
    for file in superfluous:
        file.unlink()
    on_start(sum(len(shard.images) for shard in missing))
    made = workers.map(functools.partial(make, folder=folder, settings=settings), missing, _Counter(on_images))
    new = iter(made)
    outcomes = [next(new) if outcome is None else outcome for outcome, _ in checked]
    _remove_dropped(folder, plan, outcomes, settings)
    manifest.end(folder, settings)
    return outcomes


class _Counter:
    """Calls `on_images` with the number of images in all outcomes so far."""

    def __init__(self, on_images: Callable[[int], None]):
        self._on_images, self._done = on_images, 0

    def __call__(self, outcome: Outcome) -> None:
        self._done += len(outcome["images"])
        self._on_images(self._done)


def fingerprint(shard: PlannedShard, settings: Settings) -> str:
    """Returns a SHA-256 of all that a shard is made from: settings, ids, classes, texts, and the originals' states.

    The state of an original is its name, its size in bytes and its time of change, see `paths.state`.
    """
    parts = [dataclasses.asdict(settings), shard.split, shard.index, shard.count]
    for image in shard.images:
        states = [[file.name, *paths.state(file)] for file in image.files]
        parts.append([image.image, states, image.target, dict(image.texts)])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check(shard: PlannedShard, *, folder: pathlib.Path, settings: Settings) -> tuple[Outcome | None, str]:
    """Returns the shard's outcome, or None if the shard must be made; and what is damaged or outdated, or ''."""
    file = shard.outcome_file(folder)
    if not file.exists():
        return None, ""
    outcome = read_outcome(file)
    if outcome is None:
        return None, f"{file} is damaged"
    if outcome.get("fingerprint") != fingerprint(shard, settings):
        return None, ""
    if "tfds" in settings.formats and "shard" not in outcome:
        return None, f"{file} is damaged"
    old, new = outcome.get("versions", {}), image_encoding.versions()
    if old != new:
        changes = (
            f"{name} {old.get(name, 'unknown')}, which is now {new[name]}" for name in new if old.get(name) != new[name]
        )
        return None, f"{folder} holds images prepared with {', '.join(changes)}"
    for file, sha256 in _files_with_checksums(shard, outcome, folder, settings):
        if not file.exists():
            return None, f"{file} is gone"
        if shards.checksum(file) != sha256:
            return None, f"{file} is damaged: its checksum is not the one it was written with"
    return outcome, ""


def _files_with_checksums(
    shard: PlannedShard, outcome: Outcome, folder: pathlib.Path, settings: Settings
) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the files of a finished shard with the SHA-256 in its outcome."""
    if "tfds" in settings.formats:
        yield shards.folder(folder / "tfds", settings.size) / outcome["shard"]["file"], outcome["shard"]["sha256"]
    if "folder" in settings.formats:
        for image in outcome["images"]:
            if not image["dropped"]:
                yield plain_file(folder, shard.split, image["image"]), image.get("sha256")


def make(shard: PlannedShard, *, folder: pathlib.Path, settings: Settings) -> Outcome:
    """Makes the shard's files, then writes its outcome and returns it. Raises OSError naming a file that fails."""
    about = {"fingerprint": fingerprint(shard, settings), "versions": image_encoding.versions(), "split": shard.split}
    outcome: Outcome = about | {"images": []}
    examples = _examples(shard, outcome["images"], folder, settings)
    if "tfds" in settings.formats:
        features = isic_melanoma.builder(str(folder / "tfds"), settings.size).info.features
        outcome["shard"] = shards.write(shard.file(folder, settings.size), examples, features)
    else:
        for _ in examples:
            pass
    write_text(shard.outcome_file(folder), json.dumps(outcome, indent=1) + "\n")
    return outcome


def _examples(shard: PlannedShard, results: list, folder: pathlib.Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yields the shard's TFDS examples; writes plain files, and appends to `results` what became of each image."""
    use = functools.partial(image_encoding.prepare, size=settings.size, crop=settings.crop, quality=settings.quality)
    for image in shard.images:
        jpeg, damaged = raw_images.first_sound(image.files, use)
        result = {"image": image.image, "damaged": damaged, "dropped": "" if jpeg else damaged[0]}
        if jpeg is None:
            results.append(result)
            continue
        if "folder" in settings.formats:
            write_bytes(plain_file(folder, shard.split, image.image), jpeg)
            result["sha256"] = hashlib.sha256(jpeg).hexdigest()  # by which `manifest` knows the plain file as ours
        results.append(result)
        target = isic_melanoma.NO_TARGET if image.target is None else image.target
        yield {"image": jpeg, "image_id": image.image, "target": target, **image.texts}


def damaged_files(plan: Sequence[PlannedShard], outcomes: Sequence[Outcome]) -> dict[pathlib.Path, str]:
    """Returns the original files that are damaged, each with the reason."""
    images = [image for shard in plan for image in shard.images]
    results = [result for outcome in outcomes for result in outcome["images"]]
    return {file: why for image, result in zip(images, results) for file, why in zip(image.files, result["damaged"])}


def _remove_dropped(
    folder: pathlib.Path, plan: Sequence[PlannedShard], outcomes: Sequence[Outcome], settings: Settings
) -> None:
    """Removes the plain files of images that earlier runs could use and this one cannot."""
    if "folder" in settings.formats:
        for shard, outcome in zip(plan, outcomes):
            for result in outcome["images"]:
                if result["dropped"]:
                    plain_file(folder, shard.split, result["image"]).unlink(missing_ok=True)


def finish(folder: pathlib.Path, plan: Sequence[PlannedShard], outcomes: Sequence[Outcome], settings: Settings) -> None:
    """Makes the shards a TFDS data set, with a copy of labels.csv beside them; the last step of a preparation."""
    if "tfds" in settings.formats:
        written = {split: [o["shard"] for s, o in zip(plan, outcomes) if s.split == split] for split in FOLDERS}
        place = shards.folder(folder / "tfds", settings.size)
        write_bytes(place / "labels.csv", (folder / "labels.csv").read_bytes())
        checksums = {shard["file"]: shard for split in written.values() for shard in split}
        write_text(place / shards.CHECKSUMS, json.dumps(checksums, indent=1) + "\n")
        shards.describe(folder / "tfds", settings.size, written)
