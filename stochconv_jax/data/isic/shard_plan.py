"""The plan of a preparation: its settings, and which images become which shard.

A shard is some images in the order of their ids. Its outcome, in `units/*.json`, says what was made of each image, and
from what. Without the format tfds there is no shard file, only the outcome.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from stochconv_jax.data.isic import merge, output_tables, raw_images, shards

FORMATS = ("folder", "tfds")
FOLDERS = {"train": "images", "test": "test"}  # of the plain files, by split
OUTCOMES = "units"  # the folder of the outcomes
Outcome = dict[str, Any]  # the content of an outcome's file


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings on which the prepared files depend; `fingerprint` in `preparation` names them.

    `size`: side of the images in pixels. `crop`: see `image_encoding.crop_box`. `quality`: of the JPEGs, 1..100.
    `formats`: of FORMATS. `images_per_shard`: 1 or more.
    """

    size: int
    crop: str
    quality: int
    formats: tuple[str, ...]
    images_per_shard: int


@dataclasses.dataclass(frozen=True)
class PlannedImage:
    """An image to prepare from the first of `files` that is not damaged.

    `image`: its id. `target`: its class, None without a label. `texts`: see `output_tables.texts`.
    """

    image: str
    files: tuple[pathlib.Path, ...]
    target: int | None
    texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class PlannedShard:
    """Shard `index` of the `count` shards of a split."""

    split: str
    index: int
    count: int
    images: tuple[PlannedImage, ...]

    def outcome_file(self, folder: pathlib.Path) -> pathlib.Path:
        """Returns the file of the shard's outcome in the preparation's folder."""
        return folder / OUTCOMES / f"{self.split}-{self.index:05d}.json"

    def file(self, folder: pathlib.Path, size: int) -> pathlib.Path:
        """Returns the shard's own file in the preparation's folder."""
        return shards.folder(folder / "tfds", size) / shards.file_name(self.split, self.index, self.count)


def plain_file(folder: pathlib.Path, split: str, image: str) -> pathlib.Path:
    """Returns the file of an image in the format folder."""
    return folder / FOLDERS[split] / f"{image}.jpg"


def read_outcome(file: pathlib.Path) -> Outcome | None:
    """Returns the outcome in a file; None if it is damaged."""
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
    """Returns 'train' for an image with a label, 'test' for one without."""
    return "test" if entry.target is None else "train"


def plan_shards(kept: Iterable[merge.Entry], chosen: raw_images.Chosen, images_per_shard: int) -> list[PlannedShard]:
    """Returns the shards of the entries `kept`, each image with its usable files."""
    images: dict[str, list[PlannedImage]] = {split: [] for split in FOLDERS}
    for entry in kept:
        files = raw_images.usable(chosen[entry.image])
        images[split_of(entry)].append(PlannedImage(entry.image, files, entry.target, output_tables.texts(entry)))
    plan = []
    for split, members in images.items():
        starts = range(0, len(members), images_per_shard)
        parts = [tuple(members[start : start + images_per_shard]) for start in starts]
        plan += [PlannedShard(split, index, len(parts), part) for index, part in enumerate(parts)]
    return plan
