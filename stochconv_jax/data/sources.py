"""Labelled images with random access by index: a folder and its CSV, a list of files, a part of another source."""
import csv
import glob
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from stochconv_jax.data import image_files, image_io

UNKNOWN = -1  # the label of an image that has none


class BadImage(ValueError):
    """An image cannot be used; the message names the file, its row and the reason."""


class Source(Protocol):
    """N images. Small and picklable: it is sent to worker processes, and opens nothing before `read`.

    `names`: N names; `labels`: int32 `[N]`, classes or `UNKNOWN`.
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


class Subset:
    """The images of `source` at `indices`."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, np.asarray(indices)
        self.names = [source.names[i] for i in self._indices]
        self.labels = source.labels[self._indices]
        self.columns = {name: [values[i] for i in self._indices] for name, values in columns_of(source).items()}
        if files := files_of(source):
            self.files = [files[i] for i in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def bad(self, index: int, reason: object) -> BadImage:
        """See `FolderSource.bad`."""
        return self._source.bad(int(self._indices[index]), reason)

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`."""
        return self._source.read(int(self._indices[index]), **limits)


class FolderSource:
    """Image files. `rows`: the line of the CSV that each stands in; `columns`: the CSV's columns by name."""

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        names: Sequence[str],
        labels: np.ndarray,
        *,
        csv_path: pathlib.Path | None = None,
        rows: Sequence[int] | None = None,
        columns: dict[str, list[str]] | None = None,
    ):
        self.files, self.names, self.labels = list(files), list(names), np.asarray(labels, np.int32)
        self._csv_path, self._rows, self.columns = csv_path, rows, columns or {}

    @classmethod
    def from_files(
        cls, files: Iterable[pathlib.Path], columns: dict[str, list[str]] | None = None
    ) -> "FolderSource":
        """Files without labels, named by their file name, or by their path where file names repeat."""
        files = [pathlib.Path(file) for file in files]
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            names = [str(file) for file in files]
        return cls(files, names, np.full(len(files), UNKNOWN), columns=columns)

    @classmethod
    def from_csv(cls, folder: str, csv_path: str, *, num_classes: int) -> "FolderSource":
        """The images that a CSV with the columns `image` and `target` lists.

        `image` is a file name in `folder`, with or without its ending; `target` an integer class below `num_classes`.
        Further columns are kept. ValueError, naming file and row, for whatever is not so.
        """
        path = pathlib.Path(os.path.expanduser(csv_path))
        by_name = _list_images(pathlib.Path(os.path.expanduser(folder)))
        rows, columns = _read_columns(path)
        files, labels, first_row = [], [], {}
        for row, name, target in zip(rows, columns["image"], columns["target"]):
            where = f"{path}, row {row}"
            file = _one_file(by_name.get(name, ()), name, folder, where)
            if file in first_row:
                raise ValueError(f"{where}: image {name!r} stands in row {first_row[file]} already")
            first_row[file] = row
            files.append(file)
            labels.append(_class(target, num_classes, where))
        return cls(files, [file.name for file in files], np.array(labels), csv_path=path, rows=rows, columns=columns)

    def __len__(self) -> int:
        return len(self.files)

    def column(self, name: str) -> list[str]:
        """The CSV's column `name`, a text an image. ValueError naming those there are."""
        if name not in self.columns:
            raise ValueError(f"{self._csv_path} has no column {name!r}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`."""
        try:
            return image_io.decode(self.files[index].read_bytes(), **limits)
        except (OSError, ValueError) as error:
            raise self.bad(index, error) from error

    def bad(self, index: int, reason: object) -> BadImage:
        """The error that names an image's file and row, and why it cannot be used."""
        row = f" (row {self._rows[index]} of {self._csv_path})" if self._csv_path else ""
        return BadImage(f"{self.files[index]}{row}: {reason}")


def _list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Image files in `folder`, by name with and without ending. ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"config.data.path={str(folder)!r} is not a folder")
    files, others = image_files.sort_out(folder.iterdir())
    if not files:
        raise ValueError(f"config.data.path={str(folder)!r}: {image_files.no_image(others)}")
    by_name: dict[str, list[pathlib.Path]] = {}
    for file in files:
        by_name.setdefault(file.stem, []).append(file)
    return by_name | {file.name: [file] for file in files}


def _one_file(files: Sequence[pathlib.Path], name: str, folder: str, where: str) -> pathlib.Path:
    if not files:
        return _of_no_known_ending(name, folder, where)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{where}: {name!r} may be any of {names} in {folder}; give the ending")
    return files[0]


def _of_no_known_ending(name: str, folder: str, where: str) -> pathlib.Path:
    """The file of that very name if it is a picture all the same. ValueError saying what is there."""
    path = pathlib.Path(os.path.expanduser(folder), name)
    inside = name and path.parent == pathlib.Path(os.path.expanduser(folder))
    there = [path] if path.is_file() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
    if not (inside and there):
        raise ValueError(f"{where}: there is no image {name!r} in {folder}")
    try:
        if path.is_file() and image_io.read_size(path):
            return path
    except (OSError, ValueError):
        pass
    raise ValueError(f"{where}: {there[0]} is there, but {image_files.why_unread(there[0])}")


def _read_columns(path: pathlib.Path) -> tuple[list[int], dict[str, list[str]]]:
    """A CSV's rows, as the line of the file that each ends in, and its columns by name.

    ValueError if it is missing, not a CSV in UTF-8, lacks `image` or `target`, or has no rows.
    """
    if not path.is_file():
        raise ValueError(f"config.data.labels={str(path)!r}: there is no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            names = list(reader.fieldnames or [])
            missing = {"image", "target"} - set(names)
            if missing:
                raise ValueError(f"{path}: no column {' nor '.join(sorted(missing))}; its columns are {names}")
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file ({error})") from error
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return [line for line, _ in rows], {name: [row[name] or "" for _, row in rows] for name in names}


def _class(target: str, num_classes: int, where: str) -> int:
    if not target.strip().isdecimal() or int(target) >= num_classes:
        raise ValueError(f"{where}: target {target!r} is not a class 0..{num_classes - 1} (config.data.num_classes)")
    return int(target)


def class_counts(labels: np.ndarray, num_classes: int) -> list[int]:
    """Number of images of each class."""
    return np.bincount(np.asarray(labels), minlength=num_classes).tolist()
