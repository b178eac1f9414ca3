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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stochconv_jax.data.isic import isic_melanoma, pictures, scan, shards, tables, union
from stochconv_jax.data.isic.files import replace, write_text
from stochconv_jax.data.isic.workers import Workers

FORMATS = ("folder", "tfds")
FOLDERS = {"train": "images", "test": "test"}  # of the plain files, by split


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is made. `size` in pixels; `quality` of the JPEGs, 1..100. ValueError naming the key for what cannot be."""

    size: int
    crop: str
    quality: int
    formats: tuple[str, ...]
    images_per_shard: int

    def __post_init__(self):
        if self.size < 1 or self.images_per_shard < 1:
            raise ValueError("config.prepare.size and config.prepare.images_per_shard must be 1 or more")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"config.prepare.jpeg_quality={self.quality}: expected 1 to 100")
        if not self.formats or set(self.formats) - set(FORMATS):
            raise ValueError(f"config.prepare.formats={self.formats}: expected some of {', '.join(FORMATS)}")
        pictures.crop_box(1, 1, self.crop)
        if self.crop == "report" and self.size > pictures.CROP_TO:
            raise ValueError(
                f"config.prepare.size={self.size} with config.prepare.crop='report': that rule leaves "
                f"{pictures.CROP_TO} pixels of a large picture, which would be enlarged; choose a size up to that, or "
                "crop='square'"
            )


@dataclasses.dataclass(frozen=True)
class Item:
    """An image to prepare: its id, class (None without a label) and texts for its record.

    `files`: of the first that is not damaged it is made.
    """

    image: str
    files: tuple[pathlib.Path, ...]
    target: int | None
    texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Unit:
    """Shard `index` of `count` of a split."""

    split: str
    index: int
    count: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """Of its record."""
        return f"{self.split}-{self.index:05d}.json"


Outcome = dict[str, Any]  # what a unit's record says


def split_of(entry: union.Entry) -> str:
    """'train' for an image with a label, 'test' for one without."""
    return "test" if entry.target is None else "train"


def plan(entries: Iterable[union.Entry], chosen: scan.Chosen, images_per_shard: int) -> list[Unit]:
    """The units of the entries that are not dropped, each with its files."""
    items: dict[str, list[Item]] = {split: [] for split in FOLDERS}
    for entry in entries:
        if not entry.dropped:
            about = tables.texts(entry)
            items[split_of(entry)].append(Item(entry.image, scan.usable(chosen[entry.image]), entry.target, about))
    units = []
    for split, members in items.items():
        starts = range(0, len(members), images_per_shard)
        parts = [tuple(members[start : start + images_per_shard]) for start in starts]
        units += [Unit(split, index, len(parts), part) for index, part in enumerate(parts)]
    return units


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
    _refuse_formats_left_behind(folder, settings)
    if not (folder / "units").exists() and (strangers := _strangers(folder, (), settings)):
        raise ValueError(f"{strangers[0]} is not from a preparation and would be lost: choose another --workdir")
    for name in ("units", *(FOLDERS.values() if "folder" in settings.formats else ())):
        (folder / name).mkdir(exist_ok=True)
    if "tfds" in settings.formats:
        shards.folder(folder / "tfds", settings.size).mkdir(parents=True, exist_ok=True)
    found = workers.map(functools.partial(check, folder=folder, settings=settings), units)
    for problem in dict.fromkeys(problem for _, problem in found if problem):
        on_damage(problem)
    missing = [unit for unit, (outcome, _) in zip(units, found) if outcome is None]
    if missing or _strangers(folder, units, settings):
        _close(folder, settings)
    _remove_strangers(folder, units, settings)
    on_start(sum(len(unit.items) for unit in missing))
    counter = _Counter(on_images)
    made = workers.map(functools.partial(make, folder=folder, settings=settings), missing, counter)
    made_of = dict(zip((unit.name for unit in missing), made))
    outcomes = [made_of.get(unit.name, outcome) for unit, (outcome, _) in zip(units, found)]
    _remove_dropped(folder, units, outcomes, settings)
    return outcomes


def _refuse_formats_left_behind(folder: pathlib.Path, settings: Settings) -> None:
    """Files of a format that is not wanted any more would stay as they are while labels.csv changes."""
    places = {"folder": FOLDERS.values(), "tfds": ("tfds",)}
    for name in sorted(set(FORMATS) - set(settings.formats)):
        left = [folder / place for place in places[name] if (folder / place).exists()]
        if left and (folder / "units").exists():
            raise ValueError(
                f"config.prepare.formats={settings.formats}, but {' and '.join(map(str, left))} of an earlier run with "
                f"{name!r} would be left out of date: add {name!r}, remove what is there, or choose another --workdir"
            )


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
    try:
        outcome = json.loads(record.read_text())
    except ValueError:
        return None, f"{record} is damaged"
    if outcome.get("fingerprint") != fingerprint(unit, settings):
        return None, ""
    if (old := outcome["versions"]) != (new := pictures.versions()):
        changes = ", ".join(f"{name} {old[name]}, which is now {new[name]}" for name in new if old[name] != new[name])
        return None, f"{folder} holds images prepared with {changes}"
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
                yield _plain_file(folder, unit.split, image["image"]), image["sha256"]


def _plain_file(folder: pathlib.Path, split: str, image: str) -> pathlib.Path:
    return folder / FOLDERS[split] / f"{image}.jpg"


def make(unit: Unit, *, folder: pathlib.Path, settings: Settings) -> Outcome:
    """Makes the unit and writes its record. OSError naming the file that cannot be written."""
    about = {"fingerprint": fingerprint(unit, settings), "versions": pictures.versions(), "split": unit.split}
    outcome: Outcome = about | {"images": []}
    examples = _examples(unit, outcome["images"], folder, settings)
    if "tfds" in settings.formats:
        features = isic_melanoma.builder(str(folder / "tfds"), settings.size).info.features
        file = shards.folder(folder / "tfds", settings.size) / shards.file_name(unit.split, unit.index, unit.count)
        outcome["shard"] = shards.write(file, examples, features)
    else:
        for _ in examples:
            pass
    write_text(folder / "units" / unit.name, json.dumps(outcome, indent=1) + "\n")
    return outcome


def _examples(unit: Unit, images: list, folder: pathlib.Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """The unit's examples one after the other; notes in `images` what became of each image, and writes plain files."""
    use = functools.partial(pictures.prepare, size=settings.size, crop=settings.crop, quality=settings.quality)
    for item in unit.items:
        jpeg, damaged = scan.first_sound(item.files, use)
        about = {"image": item.image, "damaged": damaged, "dropped": "" if jpeg else damaged[0]}
        if jpeg is None:
            images.append(about)
            continue
        if "folder" in settings.formats:
            with replace(_plain_file(folder, unit.split, item.image)) as file:
                file.write_bytes(jpeg)
        images.append(about | {"sha256": hashlib.sha256(jpeg).hexdigest()})
        target = isic_melanoma.NO_TARGET if item.target is None else item.target
        yield {"image": jpeg, "image_id": item.image, "target": target, **item.texts}


def damage(units: Sequence[Unit], outcomes: Sequence[Outcome]) -> dict[pathlib.Path, str]:
    """The files that proved damaged, each with the reason."""
    items = [item for unit in units for item in unit.items]
    images = [image for outcome in outcomes for image in outcome["images"]]
    return {file: reason for item, image in zip(items, images) for file, reason in zip(item.files, image["damaged"])}


def _close(folder: pathlib.Path, settings: Settings) -> None:
    """Takes away what makes the files a data set: while they change, nobody reads them."""
    (folder / "labels.csv").unlink(missing_ok=True)
    if "tfds" in settings.formats:
        (shards.folder(folder / "tfds", settings.size) / shards.DESCRIPTION).unlink(missing_ok=True)


def _strangers(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> list[pathlib.Path]:
    """Records, shards and images of an earlier plan that are in none of the units."""
    known = {folder / "units" / unit.name for unit in units}
    there = set((folder / "units").glob("*.json"))
    if "folder" in settings.formats:
        known |= {_plain_file(folder, unit.split, item.image) for unit in units for item in unit.items}
        there |= {file for name in FOLDERS.values() for file in (folder / name).glob("*.jpg")}
    if "tfds" in settings.formats:
        place = shards.folder(folder / "tfds", settings.size)
        known |= {place / shards.file_name(unit.split, unit.index, unit.count) for unit in units}
        there |= set(place.glob("*.array_record-*"))
    return sorted(there - known)


def _remove_strangers(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> None:
    for file in _strangers(folder, units, settings):
        file.unlink()


def _remove_dropped(
    folder: pathlib.Path, units: Sequence[Unit], outcomes: Sequence[Outcome], settings: Settings
) -> None:
    """Plain files of images that could be used once and cannot any more."""
    if "folder" in settings.formats:
        for unit, outcome in zip(units, outcomes):
            for image in outcome["images"]:
                if image["dropped"]:
                    _plain_file(folder, unit.split, image["image"]).unlink(missing_ok=True)


def finish(folder: pathlib.Path, units: Sequence[Unit], outcomes: Sequence[Outcome], settings: Settings) -> None:
    """Makes the shards a TFDS data set, with a labels.csv of its own beside them; the last step of all."""
    if "tfds" in settings.formats:
        parts = {split: [o["shard"] for u, o in zip(units, outcomes) if u.split == split] for split in FOLDERS}
        place = shards.folder(folder / "tfds", settings.size)
        with replace(place / "labels.csv") as copy:
            copy.write_bytes((folder / "labels.csv").read_bytes())
        checksums = {part["file"]: part for split in parts.values() for part in split}
        write_text(place / shards.CHECKSUMS, json.dumps(checksums, indent=1) + "\n")
        shards.describe(folder / "tfds", settings.size, parts)
