"""What is to be prepared: settings, and the units of the plan, each of which becomes one shard."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from stochconv_jax.data.isic import image_encoding, merge, output_tables, raw_images, shards

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
        if self.crop == "report" and self.size > image_encoding.CROP_TO:
            raise ValueError(
                f"config.prepare.size={self.size} with config.prepare.crop='report': that rule leaves "
                f"{image_encoding.CROP_TO} pixels of a large picture, which would be enlarged; choose a size up to "
                "that, or crop='square'"
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

    def shard(self, folder: pathlib.Path, size: int) -> pathlib.Path:
        """The file that it becomes in the preparation's folder."""
        return shards.folder(folder / "tfds", size) / shards.file_name(self.split, self.index, self.count)


Outcome = dict[str, Any]  # what a unit's record says


def plain_file(folder: pathlib.Path, split: str, image: str) -> pathlib.Path:
    """Where an image is as a file of its own."""
    return folder / FOLDERS[split] / f"{image}.jpg"


def read_record(file: pathlib.Path) -> Outcome | None:
    """A unit's record; None if it is damaged."""
    try:
        outcome = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return outcome if _is_outcome(outcome) else None


def _is_outcome(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return False
    shard = content.get("shard", {"file": "", "sha256": ""})
    return (
        isinstance(content.get("versions", {}), dict)
        and isinstance(shard, dict)
        and all(isinstance(shard.get(key), str) for key in ("file", "sha256"))
        and all(isinstance(image, dict) and {"image", "dropped"} <= image.keys() for image in content["images"])
    )


def split_of(entry: merge.Entry) -> str:
    """'train' for an image with a label, 'test' for one without."""
    return "test" if entry.target is None else "train"


def plan(entries: Iterable[merge.Entry], chosen: raw_images.Chosen, images_per_shard: int) -> list[Unit]:
    """The units of the entries that are not dropped, each with its files."""
    items: dict[str, list[Item]] = {split: [] for split in FOLDERS}
    for entry in entries:
        if not entry.dropped:
            about = output_tables.texts(entry)
            items[split_of(entry)].append(
                Item(entry.image, raw_images.usable(chosen[entry.image]), entry.target, about)
            )
    units = []
    for split, members in items.items():
        starts = range(0, len(members), images_per_shard)
        parts = [tuple(members[start : start + images_per_shard]) for start in starts]
        units += [Unit(split, index, len(parts), part) for index, part in enumerate(parts)]
    return units
