"""What earlier runs have left in a preparation's folder, and what of it must go."""
import pathlib
from collections.abc import Sequence

from stochconv_jax.data.isic import shards
from stochconv_jax.data.isic.units import FOLDERS, FORMATS, Settings, Unit, plain_file


def refuse_formats_left_behind(folder: pathlib.Path, settings: Settings) -> None:
    """Files of a format that is not wanted any more would stay as they are while labels.csv changes."""
    places = {"folder": FOLDERS.values(), "tfds": ("tfds",)}
    for name in sorted(set(FORMATS) - set(settings.formats)):
        left = [folder / place for place in places[name] if (folder / place).exists()]
        if left and (folder / "units").exists():
            raise ValueError(
                f"config.prepare.formats={settings.formats}, but {' and '.join(map(str, left))} of an earlier run with "
                f"{name!r} would be left out of date: add {name!r}, remove what is there, or choose another --workdir"
            )


def close(folder: pathlib.Path, settings: Settings) -> None:
    """Takes away what makes the files a data set: while they change, nobody reads them."""
    (folder / "labels.csv").unlink(missing_ok=True)
    if "tfds" in settings.formats:
        (shards.folder(folder / "tfds", settings.size) / shards.DESCRIPTION).unlink(missing_ok=True)


def strangers(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> list[pathlib.Path]:
    """Records, shards and images of an earlier plan that are in none of the units."""
    known = {folder / "units" / unit.name for unit in units}
    there = set((folder / "units").glob("*.json"))
    if "folder" in settings.formats:
        known |= {plain_file(folder, unit.split, item.image) for unit in units for item in unit.items}
        there |= {file for name in FOLDERS.values() for file in (folder / name).glob("*.jpg")}
    if "tfds" in settings.formats:
        known |= {unit.shard(folder, settings.size) for unit in units}
        there |= set(shards.folder(folder / "tfds", settings.size).glob("*.array_record-*"))
    return sorted(there - known)


def remove_strangers(folder: pathlib.Path, units: Sequence[Unit], settings: Settings) -> None:
    for file in strangers(folder, units, settings):
        file.unlink()
