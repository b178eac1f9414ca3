"""Reads tables for training, prediction and preparation: CSV files as people and programs write them."""

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable, Sequence

from stochconv_jax.csv_cells import unguard

IMAGE_COLUMNS = ("image", "image_name", "image_id", "isic_id")  # the first of them in a table names the images
Line = tuple[int, list[str]]  # the line on which a row ends in its file, from 1, and its cells
_SEPARATORS = ",;\t"
_CLASS = re.compile(r"\d+([.,]0*)?")


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The N rows of the file `path` below its header.

    `lines`: the line of the file, from 1, on which each row ends. `columns`: N texts by the column's name.
    """

    path: pathlib.Path
    lines: Sequence[int]
    columns: dict[str, list[str]]

    @classmethod
    def from_rows(cls, path: pathlib.Path, header: Sequence[str], rows: Iterable[Line]) -> "TextTable":
        """Returns the table of these rows, without columns that have no name, such as pandas' index.

        Raises ValueError naming the row whose number of cells is not the header's, or the name that two columns have.
        """
        lines = []
        for line, cells in rows:
            if len(cells) < len(header) or any(cells[len(header) :]):
                raise ValueError(f"{path}, row {line}: {len(cells)} cells, and the header has {len(header)}")
            lines.append((line, cells))
        names = [name.casefold() for name in header if name]
        if twice := next((name for name in header if names.count(name.casefold()) > 1), None):
            raise ValueError(f"{path}: two columns are called {twice!r}, whatever their capitals; rename one of them")
        columns = {name: [cells[place] for _, cells in lines] for place, name in enumerate(header) if name}
        return cls(path, [line for line, _ in lines], columns)

    def where(self, row: int) -> str:
        """Returns the file and the line of a row, for messages."""
        return f"{self.path}, row {self.lines[row]}"

    def image_column(self, name: str = "") -> str | None:
        """Returns the column `name` or, for '', the first of IMAGE_COLUMNS that is there; None if there is none."""
        wanted = [name] if name else IMAGE_COLUMNS
        return next(filter(None, (find_column(self.columns, known) for known in wanted)), None)


def find_column(names: Iterable[str], wanted: str) -> str | None:
    """Returns the one of `names` that is `wanted`, ignoring case and spaces around; None if there is none."""
    return next((name for name in names if name.casefold() == wanted.strip().casefold()), None)


def read(path: pathlib.Path) -> TextTable:
    """Returns the table in a file. Raises ValueError as `read_rows` does, or if there is no row below the header."""
    (_, header), *rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return TextTable.from_rows(path, header, rows)


def read_rows(path: pathlib.Path) -> list[Line]:
    """Returns the rows of a CSV file that are not empty, including its header.

    Cells are stripped of spaces and of the marks of `csv_cells.guard`. Reads UTF-8 and UTF-16, with or without a byte
    order mark; comma, semicolon and tab as separator; and any line ending. Raises ValueError naming the file, and the
    row, if it cannot be read.
    """
    text = re.sub(r"^sep=.(?=\n)", "", _read_text(path))  # a line that names the separator for Excel
    header = re.sub(r'"[^"]*"', "", text.lstrip("\n").partition("\n")[0])  # separators within quotes do not count
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [unguard(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not a CSV file ({error})") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        raise ValueError(f"{path} is empty")
    return rows


def _read_text(path: pathlib.Path) -> str:
    """Returns the file's text with \\n as line ending and without a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    encoding = _detect_encoding(content[:4])
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        where = f"{error.reason}, byte {error.start}"
        raise ValueError(f"{path} is not in {encoding.upper()} ({where}); save it as UTF-8") from error


def _detect_encoding(start: bytes) -> str:
    """Returns the encoding by the byte order mark or, without one, by the zero byte of an ASCII letter in UTF-16."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in start[:2]:
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def class_number(text: str) -> int | None:
    """Returns the class that '1', '1.0' or, with a decimal comma, '1,0' means; None for any other text."""
    return int(re.split("[.,]", text)[0]) if _CLASS.fullmatch(text) else None
