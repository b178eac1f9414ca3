"""Sources of labelled images with random access: files listed in a table, a list of files, a subset of a source."""

import abc
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax.data import class_names, image_files, image_io, paths, table_reader
from stochconv_jax.data import names as file_names

logger = logging.getLogger(__name__)

UNKNOWN = -1  # the label of an image without one


class BadImage(ValueError):
    """An image cannot be used; the message names its file, the row of its table and the reason."""


class Source(abc.ABC):
    """N images with labels. Small and picklable, since worker processes get a copy, and opens no file before `read`.

    `names`: N different names, from which the images' identities are made. `labels`: int32 `[N]`, classes or `UNKNOWN`.
    `texts`: N texts by which the user knows the images, such as the cells of a table; the names by default. `files`:
    the file of each image, or empty if images are not in files of their own. `columns`: further texts about the images,
    N a column, by the column's name. `table`: the file that the columns are from, or None. `classes`: the names of the
    classes 0, 1, ..., or () if they have none. `metadata`: float32 `[N, features]` that a network takes beside the
    images, see `data.metadata`; None until someone sets it.
    """

    metadata: np.ndarray | None = None

    def __init__(
        self,
        names: Sequence[str],
        labels: np.ndarray,
        *,
        texts: Sequence[str] | None = None,
        files: Sequence[pathlib.Path] = (),
        columns: Mapping[str, list[str]] | None = None,
        table: pathlib.Path | None = None,
        classes: Sequence[str] = (),
    ):
        self.names, self.labels = list(names), np.asarray(labels, np.int32)
        self.texts = self.names if texts is None else list(texts)
        self.files, self.columns, self.table = list(files), dict(columns or {}), table
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.names)

    @abc.abstractmethod
    def read(self, index: int, *, least: tuple[int, int] = (1, 1), shrink: int = 1) -> np.ndarray:
        """Returns the picture at `index`, RGB uint8 `[H, W, 3]`; the limits are those of `image_io.decode`.

        Raises BadImage if it cannot be used.
        """

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Returns the error that names the image at `index` and says why it cannot be used."""
        return BadImage(f"{self.names[index]}: {reason}")

    def column(self, name: str) -> list[str]:
        """Returns the N texts of the column `name`, in any case. Raises ValueError if it is none of the columns."""
        found = table_reader.find_column(self.columns, name)
        if found is None:
            known = f"which has {', '.join(self.columns)}" if self.columns else "which has no columns"
            raise ValueError(f"no such column in {self.origin}, {known}")
        return self.columns[found]

    def where(self, index: int) -> str:
        """Returns the place of the image's cells in the columns, for messages."""
        return f"{self.origin}, image {self.texts[index]}"

    @property
    def origin(self) -> str:
        """The table, or another name for where the images are from, for messages."""
        return str(self.table or "the images' source")


class Subset(Source):
    """The images of `source` at `indices`, int `[N]`."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, np.asarray(indices)

        def chosen(values: Sequence) -> list:
            return [values[i] for i in self._indices]

        super().__init__(
            chosen(source.names),
            source.labels[self._indices],
            texts=chosen(source.texts),
            files=chosen(source.files) if source.files else (),
            columns={name: chosen(values) for name, values in source.columns.items()},
            table=source.table,
            classes=source.classes,
        )

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`."""
        return self._source.read(int(self._indices[index]), **limits)

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Overrides `Source.bad_image`."""
        return self._source.bad_image(int(self._indices[index]), reason)

    def where(self, index: int) -> str:
        """Overrides `Source.where`."""
        return self._source.where(int(self._indices[index]))


class FolderSource(Source):
    """Images in files of their own, which are local, in an archive or at an address, see `paths`.

    `lines`: the line of each in `table`; the other arguments are those of `Source`.
    """

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        names: Sequence[str],
        labels: np.ndarray,
        *,
        lines: Sequence[int] | None = None,
        **about,
    ):
        super().__init__(names, labels, files=files, **about)
        self._lines = lines

    @classmethod
    def from_files(cls, files: Iterable[pathlib.Path]) -> "FolderSource":
        """Returns a source of files without labels, named by their file names."""
        files = list(map(paths.parse, files))
        return cls(files, [file.name for file in files], np.full(len(files), UNKNOWN))

    @classmethod
    def from_csv(
        cls,
        folder: str,
        csv_path: str,
        *,
        num_classes: int,
        classes: Sequence[str] = (),
        image_column: str = "",
        target_column: str = "target",
    ) -> "FolderSource":
        """Returns a source of the images that a table lists, with their classes: numbers below `num_classes`, or words.

        `classes`: the words of the classes 0, 1, ..., see `class_names.find`. `image_column`: the column that names
        files in `folder`, as `names.FileIndex` finds them; '' means the first of `table_reader.IMAGE_COLUMNS`. All
        columns are kept. Raises ValueError, naming the file and the row, if the table cannot be read, or if a row names
        no image, one that an earlier row names, or no such class.
        """
        table = table_reader.read(paths.parse(csv_path))
        column, target = table.image_column(image_column), table_reader.find_column(table.columns, target_column)
        if column is None or target is None:
            raise _missing_columns(table, {"image": (column, image_column), "target": (target, target_column)})
        index = _file_index(paths.parse(folder))
        classes = _naming(table.path, class_names.find, table.columns[target], num_classes, classes)
        files, labels, first_row = [], [], {}
        for row, (name, text) in enumerate(zip(table.columns[column], table.columns[target])):
            try:
                file = index.find_one(name)
                if file in first_row:
                    raise ValueError(f"row {table.lines[first_row[file]]} names image {name!r} already")
                labels.append(class_names.number(text, num_classes, classes))
            except (OSError, ValueError) as error:
                raise ValueError(f"{table.where(row)}: {error}") from error
            first_row[file] = row
            files.append(file)
        about = {"texts": table.columns[column], "table": table.path, "lines": table.lines, "columns": table.columns}
        return cls(files, list(map(index.name, files)), np.array(labels), classes=classes, **about)

    @classmethod
    def from_class_folders(
        cls, root: str, subfolder: str = "", *, num_classes: int, classes: Sequence[str] = ()
    ) -> "FolderSource":
        """Returns a source of the images in the folders of `root`/`subfolder`, one folder for each class.

        The classes are the folders' names: numbers below `num_classes`, or words, as in `from_csv`. Images are named by
        their paths from `root`; those outside class folders and other files are left out, with a warning. Raises
        ValueError, naming the folder, if it is missing, has no class folder with an image, or has one that is none of
        the classes.
        """
        top = paths.parse(root)
        index, folder, prefix = _file_index(top), top / subfolder, os.path.join(subfolder, "")
        names = {index.name(file): file for file in index.inside}
        names = {name: file for name, file in names.items() if name.startswith(prefix)}
        class_of = {name: name.removeprefix(prefix).partition("/") for name in names}
        chosen = [name for name, (text, below, _) in class_of.items() if below and not text.startswith(".")]
        if not chosen:
            raise ValueError(f"`labels` is not set, and {folder} has no folder of images for each class: give either")
        if others := len(names) - len(chosen):
            logger.warning("%s: %d images outside the class folders are not used", folder, others)
        if unread := [file for file in index.others_inside if index.name(file).startswith(prefix)]:
            logger.warning("%s: files that are not read: %s", folder, image_files.describe_others(unread))
        texts = [class_of[name][0] for name in chosen]
        classes = _naming(folder, class_names.find, texts, num_classes, classes)
        numbers = {text: _naming(folder / text, class_names.number, text, num_classes, classes) for text in set(texts)}
        labels = np.array([numbers[text] for text in texts])
        return cls([names[name] for name in chosen], chosen, labels, classes=classes)

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`."""
        try:
            return image_io.decode(self.files[index].read_bytes(), **limits)
        except paths.Unreachable:  # skipping the image would make the batches depend on the network
            raise
        except (OSError, ValueError) as error:
            raise self.bad_image(index, error) from error

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Overrides `Source.bad_image`; names the file, and its row where it is from a table."""
        row = f" (row {self._lines[index]} of {self.table})" if self._lines else ""
        return BadImage(f"{self.files[index]}{row}: {reason}")

    def where(self, index: int) -> str:
        """Overrides `Source.where`."""
        return f"{self.table}, row {self._lines[index]}" if self._lines else super().where(index)


def _file_index(folder: pathlib.Path) -> file_names.FileIndex:
    """Returns the index of the image files in `folder`. Raises ValueError if it is no folder, or has no image."""
    if not folder.is_dir():
        raise ValueError(f"`path`={str(folder)!r} is not a folder")
    index = file_names.FileIndex(folder)
    if not index.directly_inside and not index.inside:
        raise ValueError(f"`path`={str(folder)!r}: {image_files.describe_no_image(folder.iterdir())}")
    return index


def _missing_columns(table: table_reader.TextTable, asked: dict[str, tuple[str | None, str]]) -> ValueError:
    """Returns the error that says which columns are missing, and by which config keys others can be named."""
    missing = {key: asked_for or key for key, (found, asked_for) in asked.items() if found is None}
    keys = " and ".join(f"`{key}_column`" for key in missing)
    return ValueError(
        f"{table.path}: no column {' nor '.join(missing.values())}; its columns are {list(table.columns)}: name the "
        f"right one with {keys}"
    )


def _naming(place: pathlib.Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of `function`, and names the `place` in its ValueError."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def class_counts(labels: np.ndarray, num_classes: int) -> list[int]:
    """Returns the number of images of each class."""
    return np.bincount(np.asarray(labels), minlength=num_classes).tolist()
