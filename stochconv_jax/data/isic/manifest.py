"""What earlier runs have left in a preparation's folder: what of it must go, and what is not theirs and must stay."""

import pathlib
import shutil
from collections.abc import Sequence

from stochconv_jax import atomic_files
from stochconv_jax.data.isic import shards
from stochconv_jax.data.isic.shard_plan import FOLDERS, FORMATS, Settings, Unit, plain_file, read_record

# The files that are a preparation's, and while one is under way those that it may write: a run that was killed has
# written some of which there is no record yet, and a record may be lost.
_NOTE = "files.txt"


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes the files that killed preparations were writing; the caller holds the folder's lock."""
    for path in sorted(folder.rglob(".*")):
        if atomic_files.TEMPORARY.fullmatch(path.name) or path.suffix == ".part":  # .part: of earlier versions
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # it went with its folder


def refuse_left_behind(folder: pathlib.Path, settings: Settings) -> None:
    """Refuses a folder with files of a format or a size that is not wanted any more.

    They would stay as they are while labels.csv changes.
    """
    if not (folder / "units").exists():
        return
    places = {"folder": FOLDERS.values(), "tfds": ("tfds",)}
    for name in sorted(set(FORMATS) - set(settings.formats)):
        left = [folder / place for place in places[name] if _holds_files(folder / place)]
        if left:
            raise ValueError(
                f"config.prepare.formats={settings.formats}, but {' and '.join(map(str, left))} of an earlier run with "
                f"{name!r} would be left out of date: add {name!r}, remove what is there, or choose another --workdir"
            )
    wanted = shards.folder(folder / "tfds", settings.size).parent
    if others := sorted(place for place in set(wanted.parent.glob("*/")) - {wanted} if _holds_files(place)):
        raise ValueError(
            f"config.prepare.size={settings.size}, but {others[0]} of an earlier run with another size would be left "
            "out of date: set that size, remove what is there, or choose another --workdir"
        )


def _holds_files(folder: pathlib.Path) -> bool:
    return any(file.is_file() for file in folder.rglob("*"))


def refuse_files_of_others(folder: pathlib.Path, settings: Settings) -> None:
    """Refuses a folder with images or shards that no earlier run has made, or another's labels.csv."""
    refuse_labels_of_others(folder)
    if others := _there(folder, settings) - _made(folder, settings):
        raise ValueError(_lost(min(others), folder))


def refuse_labels_of_others(folder: pathlib.Path) -> None:
    """Refuses a labels.csv in a folder where nothing shows that a preparation wrote it."""
    labels = folder / "labels.csv"
    if labels.exists() and not (folder / "units").exists() and not (folder / "report.csv").exists():
        raise ValueError(_lost(labels, folder))


def _lost(file: pathlib.Path, folder: pathlib.Path) -> str:
    return (
        f"{file} is not from a preparation and would be lost: of its own files a preparation has records in "
        f"{folder / 'units'}; move yours elsewhere, or choose another --workdir"
    )


def _there(folder: pathlib.Path, settings: Settings) -> set[pathlib.Path]:
    """Images and shards in the places of the wanted formats."""
    there: set[pathlib.Path] = set()
    if "folder" in settings.formats:
        there |= {file for name in FOLDERS.values() for file in (folder / name).glob("*.jpg")}
    if "tfds" in settings.formats:
        there |= set(shards.folder(folder / "tfds", settings.size).glob("*.array_record-*"))
    return there


def _made(folder: pathlib.Path, settings: Settings) -> set[pathlib.Path]:
    """The files that earlier runs have made or may have made."""
    made: set[pathlib.Path] = set()
    for record in _records(folder):
        split = record.name.rpartition("-")[0]
        if outcome := read_record(record):
            names = [image["image"] for image in outcome["images"] if "sha256" in image]
            made |= {plain_file(folder, split, name) for name in names}
            if "shard" in outcome:
                made.add(shards.folder(folder / "tfds", settings.size) / outcome["shard"]["file"])
    return made | {folder / line for line in _noted(folder).splitlines()}


def _records(folder: pathlib.Path) -> set[pathlib.Path]:
    return {file for split in FOLDERS for file in (folder / "units").glob(f"{split}-*.json")}


def _noted(folder: pathlib.Path) -> str:
    note = folder / "units" / _NOTE
    return note.read_text(encoding="utf-8", errors="replace") if note.exists() else ""


def close(folder: pathlib.Path, settings: Settings) -> None:
    """Takes away what makes the files a data set: while they change, nobody reads them."""
    for name in ("labels.csv", "unlabelled.csv"):
        (folder / name).unlink(missing_ok=True)
    if "tfds" in settings.formats:
        (shards.folder(folder / "tfds", settings.size) / shards.DESCRIPTION).unlink(missing_ok=True)


def superfluous(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> list[pathlib.Path]:
    """Images, shards and records that are in none of the units."""
    there = _there(folder, settings) | _records(folder)
    return sorted(there - _planned(folder, units, settings) - {folder / "units" / unit.name for unit in units})


def _planned(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> set[pathlib.Path]:
    """Images and shards that the units are made into."""
    files: set[pathlib.Path] = set()
    if "folder" in settings.formats:
        files |= {plain_file(folder, unit.split, item.image) for unit in units for item in unit.items}
    if "tfds" in settings.formats:
        files |= {unit.shard(folder, settings.size) for unit in units}
    return files


def begin(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> None:
    """Notes what may be written from here on, beside what is there: all of it belongs to the preparation."""
    _note(folder, _there(folder, settings) | _planned(folder, units, settings))


def end(folder: pathlib.Path, settings: Settings) -> None:
    """Notes what has been made."""
    _note(folder, _there(folder, settings))


def _note(folder: pathlib.Path, files: set[pathlib.Path]) -> None:
    text = "".join(sorted(file.relative_to(folder).as_posix() + "\n" for file in files))
    if text != _noted(folder):
        atomic_files.write_text(folder / "units" / _NOTE, text)
