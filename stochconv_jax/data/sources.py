"""Labelled images with random access by index: a folder and its CSV, a list of files, a part of another source."""
import csv
import os
import pathlib
import struct
from collections.abc import Iterable, Sequence
from typing import Protocol

import cv2
import numpy as np
import simplejpeg

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
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
        """The picture, RGB uint8 `[H, W, 3]`; see `decode`. Raises BadImage."""


def columns_of(source: Source) -> dict[str, list[str]]:
    """What else a source knows of its images: texts by column, N each; empty for one that has none."""
    return getattr(source, "columns", {})


class Subset:
    """The images of `source` at `indices`."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, np.asarray(indices)
        self.names = [source.names[i] for i in self._indices]
        self.labels = source.labels[self._indices]
        self.columns = {name: [values[i] for i in self._indices] for name, values in columns_of(source).items()}

    def __len__(self) -> int:
        return len(self._indices)

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
        file = self.files[index]
        row = f" (row {self._rows[index]} of {self._csv_path})" if self._csv_path else ""
        try:
            return decode(file.read_bytes(), **limits)
        except (OSError, ValueError) as error:
            raise BadImage(f"{file}{row}: {error}") from error


def decode(content: bytes, *, least: tuple[int, int] = (1, 1), shrink: int = 1) -> np.ndarray:
    """RGB uint8 `[H, W, 3]` of an encoded image: JPEG, PNG or what else OpenCV reads.

    Grey becomes RGB, 16 bits become 8, transparency is dropped, and EXIF orientation is followed. `shrink`, 1, 2, 4 or
    8: divides the sides (rounded up) of a JPEG, whose fine waves are then not decoded, which saves most of the time;
    other formats come whole. ValueError if the image is damaged, or smaller than `least` (height, width) in full.
    """
    if not content:
        raise ValueError("the file is empty")
    if content[:2] == b"\xff\xd8":
        return _decode_jpeg(content, least, shrink)
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:  # such as a header that asks for more pixels than there can be
        raise ValueError(f"not an image that can be read: {error.err}") from error
    if picture is None:
        raise ValueError("not an image that can be read, or a damaged one")
    _check_size(picture.shape[:2], least)
    return picture


def _decode_jpeg(content: bytes, least: tuple[int, int], shrink: int) -> np.ndarray:
    try:
        height, width = simplejpeg.decode_jpeg_header(content)[:2]
    except KeyError as error:  # simplejpeg 1.9 lacks a name for 4:4:1, which libjpeg-turbo 3 knows
        raise ValueError("a JPEG with chroma subsampling 4:4:1, which is not read: save it anew as 4:2:0") from error
    turned = orientation(content)
    _check_size((width, height) if turned in SIDEWAYS else (height, width), least)
    smallest = {"min_height": -(-height // shrink), "min_width": -(-width // shrink)}
    # Strict: a truncated file is an error and not half a grey picture.
    picture = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True, min_factor=shrink, **smallest)
    return _upright(picture, turned)


def _check_size(size: tuple[int, int], least: tuple[int, int]) -> None:
    if size[0] < least[0] or size[1] < least[1]:
        pixels = "pixels (height x width) is smaller than config.data.image_size"
        raise ValueError(f"{size[0]}x{size[1]} {pixels}, {least[0]}x{least[1]}")


_EXIF = b"Exif\0\0"
# EXIF's orientations (JEITA CP-3451, tag 0x0112) as transposition, then turns by 90 degrees against the clock.
_ORIENTATION_TAG = 0x0112
_TURNS = {2: (True, 3), 3: (False, 2), 4: (True, 1), 5: (True, 0), 6: (False, 3), 7: (True, 2), 8: (False, 1)}
SIDEWAYS = (5, 6, 7, 8)


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in _TURNS:
        return picture
    transposed, turns = _TURNS[orientation]
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(np.rot90(picture, turns))


def orientation(content: bytes) -> int:
    """EXIF's orientation of a JPEG; 1, upright, if it has none or its EXIF is damaged.

    Not PIL's reader: that one refuses images above a number of pixels, and warns of damage without naming the file.
    """
    start = content.find(_EXIF, 0, 65536) + len(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(content[start : start + 2])
    if start < len(_EXIF) or order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", content, start + 4)
        (count,) = struct.unpack_from(order + "H", content, start + directory)
        for entry in range(count):
            place = start + directory + 2 + 12 * entry
            tag, _, _, orientation = struct.unpack_from(order + "HHIH", content, place)
            if tag == _ORIENTATION_TAG:
                return orientation
    except struct.error:
        pass
    return 1


def _list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Image files in `folder`, by name with and without ending. ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"config.data.path={str(folder)!r} is not a folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise ValueError(f"config.data.path={str(folder)!r} holds no image ({', '.join(sorted(IMAGE_ENDINGS))})")
    by_name: dict[str, list[pathlib.Path]] = {}
    for file in files:
        by_name.setdefault(file.stem, []).append(file)
    return by_name | {file.name: [file] for file in files}


def _one_file(files: Sequence[pathlib.Path], name: str, folder: str, where: str) -> pathlib.Path:
    if not files:
        raise ValueError(f"{where}: there is no image {name!r} in {folder}")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{where}: {name!r} may be any of {names} in {folder}; give the ending")
    return files[0]


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
