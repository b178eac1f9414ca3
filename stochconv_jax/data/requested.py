"""Finds the images that a user asks for by a folder, a glob pattern, a table or a file."""

import dataclasses
import glob
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from stochconv_jax.data import image_files, names, paths, table_reader
from stochconv_jax.data.sources import UNKNOWN, BadImage, FolderSource

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RequestedImages:
    """N images in the order in which the user asks for them.

    `texts`: the user's names of them. `files`: the file of each, None if there is none. `reasons`: why there is none,
    else ''. `columns`: the further columns of the table, if they are from one. `places`: the table and the row of each,
    () if they are from no table. `origin`: the tables.
    """

    texts: Sequence[str]
    files: Sequence[pathlib.Path | None]
    reasons: Sequence[str]
    columns: dict[str, list[str]]
    places: Sequence[str] = ()
    origin: str = ""

    @property
    def found(self) -> np.ndarray:
        """The indices of the images that have a file, int `[M]`."""
        return np.flatnonzero([file is not None for file in self.files])

    def source(self) -> FolderSource:
        """Returns a source of the images that have a file, with their further columns.

        Raises ValueError with the first reason if none has a file.
        """
        if not len(self.found):
            raise ValueError(f"none of the {len(self.files)} images can be used: {self.reasons[0]}")
        files = [file for file in self.files if file is not None]
        if not self.places:
            return FolderSource.from_files(files)
        columns = {name: [texts[i] for i in self.found] for name, texts in self.columns.items()}
        return _RowsOfTables(files, columns, [str(self.places[i]) for i in self.found], self.origin)


class _RowsOfTables(FolderSource):
    """Images of tables whose predictions are in a table too, so that reasons need not name the row."""

    def __init__(
        self, files: Sequence[pathlib.Path], columns: dict[str, list[str]], places: Sequence[str], origin: str
    ):
        super().__init__(files, [file.name for file in files], np.full(len(files), UNKNOWN), columns=columns)
        self._places, self._origin = places, origin

    def where(self, index: int) -> str:
        """Overrides `Source.where`."""
        return self._places[index]

    @property
    def origin(self) -> str:
        """Overrides `Source.origin`."""
        return self._origin

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Overrides `Source.bad_image`."""
        return BadImage(f"{self.files[index]}: {reason}")


def find(images: str, key: str, image_column: str = "") -> RequestedImages:
    """Returns the images that `images`, the value of the config's `key`, asks for.

    `images` is a folder, a table, a picture or a glob pattern; a file or folder of that name goes before a pattern. The
    images' names are relative to the folder, or to the folder that the pattern begins with. A table's names are its
    own, in `image_column` if it has that column, else in the first of `table_reader.IMAGE_COLUMNS`; files are looked
    for from the table's folder, see `names.FileIndex`. Raises ValueError naming the key if there is no such thing, or
    no image in it.
    """
    if not images:
        raise ValueError(f"--config.{key} is needed: a folder, a glob pattern or a CSV")
    path = paths.parse(images)
    setting, folder = f"config.{key}={images!r}", path
    if path.is_dir():
        found = list(path.iterdir())
    elif path.is_file() and not image_files.images_of([path]) and image_files.is_ending(path.suffix):
        raise ValueError(f"{setting}: {image_files.why_unread(path)}")
    elif path.is_file() and not image_files.images_of([path]):
        return _from_table(table_reader.read(path), image_column)
    elif path.is_file():
        folder, found = path.parent, [path]
    elif glob.has_magic(images):
        folder, found = match_pattern(path)
        if not found:
            raise ValueError(f"{setting}: no image found, because no file matches this pattern")
    else:
        raise ValueError(f"{setting}: no image found, because there is no such file or folder")
    found, others = image_files.sort_out(found)
    if not found:
        raise ValueError(f"{setting}: {image_files.describe_no_image(others)}")
    if others:
        logger.warning("config.%s: files that are not read: %s", key, image_files.describe_others(others))
    return RequestedImages([file.relative_to(folder).as_posix() for file in found], found, [""] * len(found), {})


def match_pattern(pattern: pathlib.Path) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """Returns the existing folder that a glob pattern begins with, and the paths that match, sorted.

    The folder's own name may have brackets, which are then not part of the pattern.
    """
    folder = next((parent for parent in pattern.parents if parent.is_dir()), pattern.parent)
    rest = str(pattern.relative_to(folder))
    if isinstance(folder, paths.VirtualPath):
        return folder, folder.matches(rest)
    return folder, [folder / name for name in sorted(glob.glob(rest, root_dir=folder, recursive=True))]


def _from_table(table: table_reader.TextTable, image_column: str) -> RequestedImages:
    column = (image_column and table.image_column(image_column)) or table.image_column()
    if not column:
        raise ValueError(
            f"{table.path}: expected a column `image`, found {list(table.columns)}; name the right one with "
            "`image_column`"
        )
    index, files, reasons = names.FileIndex(table.path.parent), [], []
    for text in table.columns[column]:
        try:
            file, reason = index.find_one(text), ""
        except (OSError, ValueError) as error:
            file, reason = None, str(error)
        files.append(file)
        reasons.append(reason)
    columns = {name: values for name, values in table.columns.items() if name != column}
    places = [table.where(row) for row in range(len(table.lines))]
    return RequestedImages(table.columns[column], files, reasons, columns, places, str(table.path))


def joined(parts: Sequence[RequestedImages]) -> RequestedImages:
    """Returns the images of all `parts`, with the columns that all of them have, whatever their capitals."""

    def all_of(name: str) -> list[Any]:
        return [one for part in parts for one in getattr(part, name)]

    columns = {}
    for name in parts[0].columns:
        there = [table_reader.find_column(part.columns, name) for part in parts]
        if None not in there:
            columns[name] = [cell for part, own in zip(parts, there) if own for cell in part.columns[own]]
    places = all_of("places") if all(part.places for part in parts) else ()
    origin = " and ".join(part.origin for part in parts)
    return RequestedImages(all_of("texts"), all_of("files"), all_of("reasons"), columns, places, origin)
