"""The images that somebody asks for, by a folder, a pattern, a table or a file."""

import dataclasses
import glob
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from stochconv_jax.data import image_files, names, table_reader
from stochconv_jax.data.sources import FolderSource

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RequestedImages:
    """N images in the order that they are asked for in.

    `texts`: what the user calls them; `files`: None where there is none; `reasons`: why there is none, else '';
    `columns`: the table's, but for that of the images.
    """

    texts: Sequence[str]
    files: Sequence[pathlib.Path | None]
    reasons: Sequence[str]
    columns: dict[str, list[str]]

    @property
    def there(self) -> np.ndarray:
        """Returns the indices of the images that have a file."""
        return np.flatnonzero([file is not None for file in self.files])

    def source(self) -> FolderSource:
        """The images that have a file, without labels. ValueError with the first reason if there are none."""
        if not len(self.there):
            raise ValueError(f"none of the {len(self.files)} images can be used: {self.reasons[0]}")
        return FolderSource.from_files(self.files[i] for i in self.there)


def find(images: str, key: str, image_column: str = "") -> RequestedImages:
    """The images that `images`, the value of the config's `key`, names: what it says is looked for before a pattern.

    Names are relative to the folder, or to the folder that the pattern begins with; a table's are its own texts. Its
    files are looked for from its folder, see `names.Files`, and its column is `image_column` where it has that one,
    else the first of tables.IMAGE_COLUMNS. ValueError where there is no such thing, or no image in it.
    """
    if not images:
        raise ValueError(f"--config.{key} is needed: a folder, a glob pattern or a CSV")
    path = pathlib.Path(os.path.expanduser(images))
    what, folder = f"config.{key}={images!r}", path
    if path.is_dir():
        found = list(path.iterdir())
    elif path.is_file() and not image_files.images_of([path]) and image_files.is_ending(path.suffix):
        raise ValueError(f"{what}: {image_files.why_unread(path)}")
    elif path.is_file() and not image_files.images_of([path]):
        return _from_table(table_reader.read(path), image_column)
    elif path.is_file():
        folder, found = path.parent, [path]
    elif glob.has_magic(images):
        folder, found = matches(path)
        if not found:
            raise ValueError(f"{what}: no image found, for no file matches this pattern")
    else:
        raise ValueError(f"{what}: no image found, for there is no such file or folder")
    found, others = image_files.sort_out(found)
    if not found:
        raise ValueError(f"{what}: {image_files.no_image(others)}")
    if others:
        logger.warning("config.%s: passed over: %s", key, image_files.passed_over(others))
    return RequestedImages([file.relative_to(folder).as_posix() for file in found], found, [""] * len(found), {})


def matches(pattern: pathlib.Path) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The folder that a pattern begins with, brackets or not, and what in it matches the rest, sorted."""
    folder, rest = pathlib.Path(), list(pattern.parts)
    while len(rest) > 1 and (folder / rest[0]).is_dir():
        folder /= rest.pop(0)
    return folder, [folder / name for name in sorted(glob.glob(os.path.join(*rest), root_dir=folder, recursive=True))]


def _from_table(table: table_reader.TextTable, image_column: str) -> RequestedImages:
    column = (image_column and table.image_column(image_column)) or table.image_column()
    if not column:
        raise ValueError(
            f"{table.path}: expected a column `image`, found {list(table.columns)}; name the right one with "
            "config.data.image_column"
        )
    there, files, reasons = names.Files(table.path.parent), [], []
    for text in table.columns[column]:
        try:
            file, reason = there.one(text), ""
        except (OSError, ValueError) as error:
            file, reason = None, str(error)
        files.append(file)
        reasons.append(reason)
    columns = {name: values for name, values in table.columns.items() if name != column}
    return RequestedImages(table.columns[column], files, reasons, columns)
