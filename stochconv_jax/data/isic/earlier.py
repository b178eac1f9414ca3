"""What earlier runs have left in a preparation's folder: what of it must go, and what is not theirs and must stay."""
import pathlib
from collections.abc import Sequence

from stochconv_jax.data.isic import shards
from stochconv_jax.data.isic.files import write_text
from stochconv_jax.data.isic.units import FOLDERS, FORMATS, Settings, Unit, plain_file, read_record

# What is about to be written: a run that was killed has written some of it, of which there is no record yet.
_UNFINISHED = "unfinished.txt"


def refuse_left_behind(folder: pathlib.Path, settings: Settings) -> None:
    """Refuses a folder with files of a format or a size that is not wanted any more.

    They would stay as they are while labels.csv changes.
    """
    if not (folder / "units").exists():
        return
    places = {"folder": FOLDERS.values(), "tfds": ("tfds",)}
    for name in sorted(set(FORMATS) - set(settings.formats)):
        left = [folder / place for place in places[name] if (folder / place).exists()]
        if left:
            raise ValueError(
                f"config.prepare.formats={settings.formats}, but {' and '.join(map(str, left))} of an earlier run with "
                f"{name!r} would be left out of date: add {name!r}, remove what is there, or choose another --workdir"
            )
    wanted = shards.folder(folder / "tfds", settings.size).parent
    if others := sorted(set(wanted.parent.glob("*/")) - {wanted}):
        raise ValueError(
            f"config.prepare.size={settings.size}, but {others[0]} of an earlier run with another size would be left "
            "out of date: set that size, remove what is there, or choose another --workdir"
        )


def refuse_files_of_others(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> None:
    """Refuses a folder with images or shards that no earlier run has made, or another's labels.csv."""
    refuse_labels_of_others(folder)
    if others := _there(folder, settings) - _made(folder, units, settings):
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


def _made(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> set[pathlib.Path]:
    """The files that earlier runs have made or may have made."""
    made: set[pathlib.Path] = set()
    for record in (folder / "units").glob("*.json"):
        split = record.name.rpartition("-")[0]
        if split in FOLDERS and (outcome := read_record(record)):
            names = [image["image"] for image in outcome["images"] if "sha256" in image]
            made |= {plain_file(folder, split, name) for name in names}
            if "shard" in outcome:
                made.add(shards.folder(folder / "tfds", settings.size) / outcome["shard"]["file"])
        else:  # damaged: what it has named is most likely what its unit is to be made of now
            made |= _planned(folder, [unit for unit in units if unit.name == record.name], settings)
    unfinished = folder / "units" / _UNFINISHED
    lines = unfinished.read_text(encoding="utf-8").splitlines() if unfinished.exists() else []
    return made | {folder / line for line in lines}


def close(folder: pathlib.Path, settings: Settings) -> None:
    """Takes away what makes the files a data set: while they change, nobody reads them."""
    for name in ("labels.csv", "unlabelled.csv"):
        (folder / name).unlink(missing_ok=True)
    if "tfds" in settings.formats:
        (shards.folder(folder / "tfds", settings.size) / shards.DESCRIPTION).unlink(missing_ok=True)


def superfluous(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> list[pathlib.Path]:
    """Images, shards and records that are in none of the units."""
    there = _there(folder, settings) | set((folder / "units").glob("*.json"))
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
    files = _there(folder, settings) | _planned(folder, units, settings)
    lines = sorted(file.relative_to(folder).as_posix() + "\n" for file in files)
    write_text(folder / "units" / _UNFINISHED, "".join(lines))


def end(folder: pathlib.Path) -> None:
    """Takes the note away: there is a record of everything."""
    (folder / "units" / _UNFINISHED).unlink(missing_ok=True)
