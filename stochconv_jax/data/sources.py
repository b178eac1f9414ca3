"""Labelled images with random access by index: a folder and its CSV, a list of files, a part of another source."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from stochconv_jax.data import image_files, image_io, table_reader
from stochconv_jax.data import names as file_names

UNKNOWN = -1  # the label of an image that has none


class BadImage(ValueError):
    """An image cannot be used; the message names the file, its row and the reason."""


class Source(Protocol):
    """N images. Small and picklable: it is sent to worker processes, and opens nothing before `read`.

    `names`: N names, of the files where there are any; `labels`: int32 `[N]`, classes or `UNKNOWN`.
    """

    names: Sequence[str]
    labels: np.ndarray

    def __len__(self) -> int: ...

    def read(self, index: int, *, least: tuple[int, int] = (1, 1), shrink: int = 1) -> np.ndarray:
        """The picture, RGB uint8 `[H, W, 3]`; see `image_io.decode`. Raises BadImage."""


def columns_of(source: Source) -> dict[str, list[str]]:
    """What else a source knows of its images: texts by column, N each; empty for one that has none."""
    return getattr(source, "columns", {})


def files_of(source: Source) -> list[pathlib.Path]:
    """The file of each image; empty for a source that has no file an image."""
    return getattr(source, "files", [])


def column(source: Source, name: str, key: str) -> list[str]:
    """The column `name`, whatever its capitals, which the config's `key` asks for.

    ValueError naming the columns that there are.
    """
    columns = columns_of(source)
    found = table_reader.find(columns, name)
    if found is None:
        there = f"which has {', '.join(columns)}" if columns else "which has no columns"
        raise ValueError(f"config.{key}={name!r}: no such column in {table_of(source)}, {there}")
    return columns[found]


def table_of(source: Source) -> str:
    """The file of a source's columns, for messages."""
    return str(getattr(source, "table", "") or "the images' source")


def texts_of(source: Source) -> Sequence[str]:
    """What the user calls the images, N texts: the cells of a table, else the source's names."""
    return getattr(source, "texts", source.names)


class Subset:
    """The images of `source` at `indices`."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, np.asarray(indices)
        self.names = [source.names[i] for i in self._indices]
        self.labels = source.labels[self._indices]
        self.columns = {name: [values[i] for i in self._indices] for name, values in columns_of(source).items()}
        if files := files_of(source):
            self.files = [files[i] for i in self._indices]
        texts = texts_of(source)
        self.texts, self.table = [texts[i] for i in self._indices], getattr(source, "table", None)

    def __len__(self) -> int:
        return len(self._indices)

    def bad(self, index: int, reason: object) -> BadImage:
        """See `FolderSource.bad`."""
        return self._source.bad(int(self._indices[index]), reason)

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`."""
        return self._source.read(int(self._indices[index]), **limits)


class FolderSource:
    """Image files. `texts`: what the user calls them; `lines`: where each stands in `table`, of these `columns`."""

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        names: Sequence[str],
        labels: np.ndarray,
        *,
        texts: Sequence[str] | None = None,
        table: pathlib.Path | None = None,
        lines: Sequence[int] | None = None,
        columns: dict[str, list[str]] | None = None,
    ):
        self.files, self.names, self.labels = list(files), list(names), np.asarray(labels, np.int32)
        self.texts, self.table, self._lines, self.columns = list(texts or names), table, lines, columns or {}

    @classmethod
    def from_files(cls, files: Iterable[pathlib.Path]) -> "FolderSource":
        """Files without labels, named by their file names."""
        files = [pathlib.Path(file) for file in files]
        return cls(files, [file.name for file in files], np.full(len(files), UNKNOWN))

    @classmethod
    def from_csv(
        cls, folder: str, csv_path: str, *, num_classes: int, image_column: str = "", target_column: str = "target"
    ) -> "FolderSource":
        """The images that a table lists, see `tables`, with their classes below `num_classes`.

        `image_column` names files in `folder`, see `names.Files`; '' is the first of tables.IMAGE_COLUMNS. All columns
        are kept. ValueError, naming file and row, for whatever is not so.
        """
        table = table_reader.read(pathlib.Path(os.path.expanduser(csv_path)))
        column, target = table.image_column(image_column), table_reader.find(table.columns, target_column)
        if column is None or target is None:
            _refuse_columns(table, {"image": (column, image_column), "target": (target, target_column)})
        there = _image_files(pathlib.Path(os.path.expanduser(folder)))
        files, labels, first_row = [], [], {}
        for row, (name, text) in enumerate(zip(table.columns[column], table.columns[target])):
            try:
                file = there.one(name)
                if file in first_row:
                    raise ValueError(f"image {name!r} stands in row {table.lines[first_row[file]]} already")
                labels.append(_class(text, num_classes))
            except (OSError, ValueError) as error:
                raise ValueError(f"{table.where(row)}: {error}") from error
            first_row[file] = row
            files.append(file)
        about = {"texts": table.columns[column], "table": table.path, "lines": table.lines, "columns": table.columns}
        return cls(files, list(map(there.name, files)), np.array(labels), **about)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`."""
        try:
            return image_io.decode(self.files[index].read_bytes(), **limits)
        except (OSError, ValueError) as error:
            raise self.bad(index, error) from error

    def bad(self, index: int, reason: object) -> BadImage:
        """The error that names an image's file and row, and why it cannot be used."""
        row = f" (row {self._lines[index]} of {self.table})" if self.table else ""
        return BadImage(f"{self.files[index]}{row}: {reason}")


def _image_files(folder: pathlib.Path) -> file_names.Files:
    """ValueError if it is no folder, or holds no image."""
    if not folder.is_dir():
        raise ValueError(f"config.data.path={str(folder)!r} is not a folder")
    files = file_names.Files(folder)
    if not files.here and not files.below:
        raise ValueError(f"config.data.path={str(folder)!r}: {image_files.no_image(folder.iterdir())}")
    return files


def _refuse_columns(table: table_reader.TextTable, asked: dict[str, tuple[str | None, str]]) -> None:
    """Raises ValueError that says which columns are missing, and by which keys others can be named."""
    missing = {key: asked_for or key for key, (found, asked_for) in asked.items() if found is None}
    keys = " and ".join(f"config.data.{key}_column" for key in missing)
    raise ValueError(
        f"{table.path}: no column {' nor '.join(missing.values())}; its columns are {list(table.columns)}: name the "
        f"right one with {keys}"
    )


def _class(text: str, num_classes: int) -> int:
    number = table_reader.class_number(text)
    words = "" if number else "; classes are numbers, in the column that config.data.target_column names"
    if number is None or number >= num_classes:
        raise ValueError(f"target {text!r} is not a class 0..{num_classes - 1} (config.data.num_classes){words}")
    return number


def class_counts(labels: np.ndarray, num_classes: int) -> list[int]:
    """Number of images of each class."""
    return np.bincount(np.asarray(labels), minlength=num_classes).tolist()
