"""The manifest of a preparation: the files in its folder that it has written, so that it removes or replaces no others.

A file belongs to the preparation if an outcome in `units/*.json` names it, or if `units/files.txt` lists it. The list
is written before the work, with all files that will be written, because a run that is killed leaves files that no
outcome names yet, and because an outcome may be lost.
"""

import pathlib
import shutil
from collections.abc import Sequence

from stochconv_jax import atomic_files
from stochconv_jax.data.isic import shards
from stochconv_jax.data.isic.shard_plan import (
    FOLDERS,
    FORMATS,
    OUTCOMES,
    PlannedShard,
    Settings,
    plain_file,
    read_outcome,
)

_LIST = "files.txt"


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes the files that killed preparations were writing. The caller holds the folder's lock."""
    for path in sorted(folder.rglob(".*")):
        if atomic_files.TEMPORARY.fullmatch(path.name) or path.suffix == ".part":  # .part: of earlier versions
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # its folder may have been removed


def refuse_outdated_files(folder: pathlib.Path, settings: Settings) -> None:
    """Raises ValueError if there are files of a format or a size that `settings` do not have.

    They would stay as they are while labels.csv changes.
    """
    if not (folder / OUTCOMES).exists():
        return
    places = {"folder": FOLDERS.values(), "tfds": ("tfds",)}
    for name in sorted(set(FORMATS) - set(settings.formats)):
        left = [folder / place for place in places[name] if _has_files(folder / place)]
        if left:
            raise ValueError(
                f"`formats`={settings.formats}, but {' and '.join(map(str, left))} of an earlier run with "
                f"{name!r} would be left out of date: add {name!r}, remove what is there, or choose another --workdir"
            )
    wanted = shards.folder(folder / "tfds", settings.size).parent
    if others := sorted(place for place in set(wanted.parent.glob("*/")) - {wanted} if _has_files(place)):
        raise ValueError(
            f"`size`={settings.size}, but {others[0]} of an earlier run with another size would be left "
            "out of date: set that size, remove what is there, or choose another --workdir"
        )


def _has_files(folder: pathlib.Path) -> bool:
    return any(file.is_file() for file in folder.rglob("*"))


def refuse_foreign_files(folder: pathlib.Path, settings: Settings) -> None:
    """Raises ValueError naming an image, a shard or a labels.csv in the folder that no earlier run has written."""
    refuse_foreign_labels(folder)
    if foreign := _existing_files(folder, settings) - _own_files(folder, settings):
        raise ValueError(_foreign(min(foreign), folder))


def refuse_foreign_labels(folder: pathlib.Path) -> None:
    """Raises ValueError if there is a labels.csv, but nothing that shows that a preparation wrote it."""
    labels = folder / "labels.csv"
    if labels.exists() and not (folder / OUTCOMES).exists() and not (folder / "report.csv").exists():
        raise ValueError(_foreign(labels, folder))


def _foreign(file: pathlib.Path, folder: pathlib.Path) -> str:
    return (
        f"{file} is not from a preparation and would be lost: of its own files a preparation has records in "
        f"{folder / OUTCOMES}; move yours elsewhere, or choose another --workdir"
    )


def _existing_files(folder: pathlib.Path, settings: Settings) -> set[pathlib.Path]:
    """Returns the images and shards of the formats in `settings` that are in the folder."""
    existing: set[pathlib.Path] = set()
    if "folder" in settings.formats:
        existing |= {file for name in FOLDERS.values() for file in (folder / name).glob("*.jpg")}
    if "tfds" in settings.formats:
        existing |= set(shards.folder(folder / "tfds", settings.size).glob("*.array_record-*"))
    return existing


def _own_files(folder: pathlib.Path, settings: Settings) -> set[pathlib.Path]:
    """Returns the images and shards that outcomes name or the list has; they may be missing."""
    own: set[pathlib.Path] = set()
    for file in _outcome_files(folder):
        split = file.name.rpartition("-")[0]
        if outcome := read_outcome(file):
            images = [image["image"] for image in outcome["images"] if "sha256" in image]
            own |= {plain_file(folder, split, image) for image in images}
            if "shard" in outcome:
                own.add(shards.folder(folder / "tfds", settings.size) / outcome["shard"]["file"])
    return own | {folder / line for line in _read_list(folder).splitlines()}


def _outcome_files(folder: pathlib.Path) -> set[pathlib.Path]:
    return {file for split in FOLDERS for file in (folder / OUTCOMES).glob(f"{split}-*.json")}


def _read_list(folder: pathlib.Path) -> str:
    file = folder / OUTCOMES / _LIST
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def close(folder: pathlib.Path, settings: Settings) -> None:
    """Removes the files by which others find the data set, so that nobody reads it while its files change."""
    for name in ("labels.csv", "unlabelled.csv"):
        (folder / name).unlink(missing_ok=True)
    if "tfds" in settings.formats:
        (shards.folder(folder / "tfds", settings.size) / shards.DESCRIPTION).unlink(missing_ok=True)


def superfluous(folder: pathlib.Path, plan: Sequence[PlannedShard], settings: Settings) -> list[pathlib.Path]:
    """Returns the images, shards and outcomes in the folder that are not in the plan."""
    existing = _existing_files(folder, settings) | _outcome_files(folder)
    return sorted(existing - _planned_files(folder, plan, settings) - {shard.outcome_file(folder) for shard in plan})


def _planned_files(folder: pathlib.Path, plan: Sequence[PlannedShard], settings: Settings) -> set[pathlib.Path]:
    """Returns the images and shards that the plan makes."""
    files: set[pathlib.Path] = set()
    if "folder" in settings.formats:
        files |= {plain_file(folder, shard.split, image.image) for shard in plan for image in shard.images}
    if "tfds" in settings.formats:
        files |= {shard.file(folder, settings.size) for shard in plan}
    return files


def begin(folder: pathlib.Path, plan: Sequence[PlannedShard], settings: Settings) -> None:
    """Lists the files that are in the folder and those that the plan makes, before the work."""
    _write_list(folder, _existing_files(folder, settings) | _planned_files(folder, plan, settings))


def end(folder: pathlib.Path, settings: Settings) -> None:
    """Lists the files that are in the folder, after the work."""
    _write_list(folder, _existing_files(folder, settings))


def _write_list(folder: pathlib.Path, files: set[pathlib.Path]) -> None:
    text = "".join(sorted(file.relative_to(folder).as_posix() + "\n" for file in files))
    if text != _read_list(folder):
        atomic_files.write_text(folder / OUTCOMES / _LIST, text)
