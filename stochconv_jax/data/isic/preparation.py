"""Originals to prepared images, in units that are made whole, checked, and made again only if something changed.

A unit is what becomes one shard: some images in the order of their ids. Its record, `units/*.json`, is written when all
of it is there, and says what was made from what. So a run that was killed goes on where it stopped, and who makes a
unit, and when, does not show in it.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stochconv_jax.atomic_files import write_bytes, write_text
from stochconv_jax.data.isic import image_encoding, isic_melanoma, manifest, raw_images, shards
from stochconv_jax.data.isic.shard_plan import FOLDERS, Outcome, Settings, Unit, plain_file, read_record
from stochconv_jax.data.isic.workers import Workers


def run(
    folder: pathlib.Path,
    units: Sequence[Unit],
    settings: Settings,
    workers: Workers,
    *,
    on_start: Callable[[int], None] = lambda total: None,
    on_images: Callable[[int], None] = lambda done: None,
    on_damage: Callable[[str], None] = lambda message: None,
) -> list[Outcome]:
    """Makes the units that are not there yet, or are not what they were, and returns the outcomes of all.

    `on_start` is told how many images are to be made, `on_images` how many are, `on_damage` what was found spoilt.
    """
    manifest.refuse_left_behind(folder, settings)
    manifest.refuse_files_of_others(folder, settings)
    for name in ("units", *(FOLDERS.values() if "folder" in settings.formats else ())):
        (folder / name).mkdir(exist_ok=True)
    if "tfds" in settings.formats:
        shards.folder(folder / "tfds", settings.size).mkdir(parents=True, exist_ok=True)
        shards.remove_damaged_description(folder / "tfds", settings.size)
    found = workers.map(functools.partial(check, folder=folder, settings=settings), units)
    for problem in dict.fromkeys(problem for _, problem in found if problem):
        on_damage(problem)
    missing = [unit for unit, (outcome, _) in zip(units, found) if outcome is None]
    superfluous = manifest.superfluous(folder, units, settings)
    if missing or superfluous:
        manifest.close(folder, settings)
        manifest.begin(folder, units, settings)
    for file in superfluous:
        file.unlink()
    on_start(sum(len(unit.items) for unit in missing))
    counter = _Counter(on_images)
    made = workers.map(functools.partial(make, folder=folder, settings=settings), missing, counter)
    made_of = dict(zip((unit.name for unit in missing), made))
    outcomes = [made_of.get(unit.name, outcome) for unit, (outcome, _) in zip(units, found)]
    _remove_dropped(folder, units, outcomes, settings)
    manifest.end(folder, settings)
    return outcomes


class _Counter:
    def __init__(self, tell: Callable[[int], None]):
        self._tell, self._done = tell, 0

    def __call__(self, outcome: Outcome) -> None:
        self._done += len(outcome["images"])
        self._tell(self._done)


def fingerprint(unit: Unit, settings: Settings) -> str:
    """Of everything that a unit is made from: settings, names, classes, texts, and the originals' sizes and times."""
    parts = [dataclasses.asdict(settings), unit.split, unit.index, unit.count]
    for item in unit.items:
        files = [(file.name, file.stat()) for file in item.files]
        states = [[name, state.st_size, state.st_mtime_ns] for name, state in files]
        parts.append([item.image, states, item.target, dict(item.texts)])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check(unit: Unit, *, folder: pathlib.Path, settings: Settings) -> tuple[Outcome | None, str]:
    """The unit's outcome if all of it is there and as it was written, else None; and what is spoilt, or ''."""
    record = folder / "units" / unit.name
    if not record.exists():
        return None, ""
    outcome = read_record(record)
    if outcome is None:
        return None, f"{record} is damaged"
    if outcome.get("fingerprint") != fingerprint(unit, settings):
        return None, ""
    if "tfds" in settings.formats and "shard" not in outcome:
        return None, f"{record} is damaged"
    old, new = outcome.get("versions", {}), image_encoding.versions()
    if old != new:
        changes = (
            f"{name} {old.get(name, 'unknown')}, which is now {new[name]}" for name in new if old.get(name) != new[name]
        )
        return None, f"{folder} holds images prepared with {', '.join(changes)}"
    for file, sha256 in _written(unit, outcome, folder, settings):
        if not file.exists():
            return None, f"{file} is gone"
        if shards.checksum(file) != sha256:
            return None, f"{file} is damaged: its checksum is not the one it was written with"
    return outcome, ""


def _written(unit: Unit, outcome: Outcome, folder: pathlib.Path, settings: Settings) -> Iterator[tuple]:
    """The files of a finished unit with their checksums."""
    if "tfds" in settings.formats:
        yield shards.folder(folder / "tfds", settings.size) / outcome["shard"]["file"], outcome["shard"]["sha256"]
    if "folder" in settings.formats:
        for image in outcome["images"]:
            if not image["dropped"]:
                yield plain_file(folder, unit.split, image["image"]), image.get("sha256")


def make(unit: Unit, *, folder: pathlib.Path, settings: Settings) -> Outcome:
    """Makes the unit and writes its record. OSError naming the file that cannot be written."""
    about = {"fingerprint": fingerprint(unit, settings), "versions": image_encoding.versions(), "split": unit.split}
    outcome: Outcome = about | {"images": []}
    examples = _examples(unit, outcome["images"], folder, settings)
    if "tfds" in settings.formats:
        features = isic_melanoma.builder(str(folder / "tfds"), settings.size).info.features
        file = unit.shard(folder, settings.size)
        outcome["shard"] = shards.write(file, examples, features)
    else:
        for _ in examples:
            pass
    write_text(folder / "units" / unit.name, json.dumps(outcome, indent=1) + "\n")
    return outcome


def _examples(unit: Unit, images: list, folder: pathlib.Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """The unit's examples one after the other; notes in `images` what became of each image, and writes plain files."""
    use = functools.partial(image_encoding.prepare, size=settings.size, crop=settings.crop, quality=settings.quality)
    for item in unit.items:
        jpeg, damaged = raw_images.first_sound(item.files, use)
        about = {"image": item.image, "damaged": damaged, "dropped": "" if jpeg else damaged[0]}
        if jpeg is None:
            images.append(about)
            continue
        if "folder" in settings.formats:
            write_bytes(plain_file(folder, unit.split, item.image), jpeg)
            about["sha256"] = hashlib.sha256(jpeg).hexdigest()  # of the plain file, which by this is known as ours
        images.append(about)
        target = isic_melanoma.NO_TARGET if item.target is None else item.target
        yield {"image": jpeg, "image_id": item.image, "target": target, **item.texts}


def damage(units: Sequence[Unit], outcomes: Sequence[Outcome]) -> dict[pathlib.Path, str]:
    """The files that proved damaged, each with the reason."""
    items = [item for unit in units for item in unit.items]
    images = [image for outcome in outcomes for image in outcome["images"]]
    return {file: reason for item, image in zip(items, images) for file, reason in zip(item.files, image["damaged"])}


def _remove_dropped(
    folder: pathlib.Path, units: Sequence[Unit], outcomes: Sequence[Outcome], settings: Settings
) -> None:
    """Plain files of images that could be used once and cannot any more."""
    if "folder" in settings.formats:
        for unit, outcome in zip(units, outcomes):
            for image in outcome["images"]:
                if image["dropped"]:
                    plain_file(folder, unit.split, image["image"]).unlink(missing_ok=True)


def finish(folder: pathlib.Path, units: Sequence[Unit], outcomes: Sequence[Outcome], settings: Settings) -> None:
    """Makes the shards a TFDS data set, with a labels.csv of its own beside them; the last step of all."""
    if "tfds" in settings.formats:
        parts = {split: [o["shard"] for u, o in zip(units, outcomes) if u.split == split] for split in FOLDERS}
        place = shards.folder(folder / "tfds", settings.size)
        write_bytes(place / "labels.csv", (folder / "labels.csv").read_bytes())
        checksums = {part["file"]: part for split in parts.values() for part in split}
        write_text(place / shards.CHECKSUMS, json.dumps(checksums, indent=1) + "\n")
        shards.describe(folder / "tfds", settings.size, parts)
