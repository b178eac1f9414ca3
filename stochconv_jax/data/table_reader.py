"""The one reader of tables, for training, prediction and preparation: CSV files as people and programs write them."""

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable, Sequence

from stochconv_jax.csv_cells import unguard

IMAGE_COLUMNS = ("image", "image_name", "image_id", "isic_id")  # which name images, the first that is there
Line = tuple[int, list[str]]  # where a row ends in its file, from 1, and its cells
_SEPARATORS = ",;\t"
_CLASS = re.compile(r"\d+([.,]0*)?")


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The rows of `path` below its header. `lines`: where each ends; `columns`: texts by name, one a row."""

    path: pathlib.Path
    lines: Sequence[int]
    columns: dict[str, list[str]]

    @classmethod
    def of(cls, path: pathlib.Path, header: Sequence[str], rows: Iterable[Line]) -> "TextTable":
        """Columns without a name, such as pandas' index, are left out.

        ValueError naming the row whose cells are not as many as the header's, or the column that is there twice.
        """
        lines = []
        for line, cells in rows:
            if len(cells) < len(header) or any(cells[len(header) :]):
                raise ValueError(f"{path}, row {line}: {len(cells)} cells, and the header has {len(header)}")
            lines.append((line, cells))
        named = [name.casefold() for name in header if name]
        if twice := next((name for name in header if named.count(name.casefold()) > 1), None):
            raise ValueError(f"{path}: two columns are called {twice!r}, whatever their capitals; rename one of them")
        columns = {name: [cells[place] for _, cells in lines] for place, name in enumerate(header) if name}
        return cls(path, [line for line, _ in lines], columns)

    def where(self, row: int) -> str:
        """The file and the line of a row, for messages."""
        return f"{self.path}, row {self.lines[row]}"

    def image_column(self, name: str = "") -> str | None:
        """The column of the images' names: `name`, or else the first of IMAGE_COLUMNS; None if it is not there."""
        return next(filter(None, (find(self.columns, known) for known in ([name] if name else IMAGE_COLUMNS))), None)


def find(names: Iterable[str], wanted: str) -> str | None:
    """That of the columns' names which is `wanted`, whatever its capitals; None where there is none."""
    return next((name for name in names if name.casefold() == wanted.strip().casefold()), None)


def read(path: pathlib.Path) -> TextTable:
    """The table in a file, see `read_rows`. ValueError, naming the file and row, if it is none or has no rows."""
    (_, header), *rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return TextTable.of(path, header, rows)


def read_rows(path: pathlib.Path) -> list[Line]:
    """The rows of a CSV file that are not empty, its header too; cells are stripped and as `guard` was given them.

    UTF-8 or UTF-16, with or without a byte order mark; separated by comma, semicolon or tab; any line ending.
    ValueError naming the file, and the row, if it cannot be read so.
    """
    text = re.sub(r"^sep=.(?=\n)", "", _text(path))  # a line for Excel alone
    # In names that are quoted a separator says nothing.
    first = re.sub(r'"[^"]*"', "", text.lstrip("\n").partition("\n")[0])
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [unguard(cell.strip()) for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not a CSV file ({error})") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        raise ValueError(f"{path} is empty")
    return rows


def _text(path: pathlib.Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    encoding = _encoding(content[:4])
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        where = f"{error.reason}, byte {error.start}"
        raise ValueError(f"{path} is not in {encoding.upper()} ({where}); save it as UTF-8") from error


def _encoding(start: bytes) -> str:
    """By its mark, or by the zero that stands beside an ASCII letter in UTF-16."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in start[:2]:
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def class_number(text: str) -> int | None:
    """The class that 1, 1.0 or, where a comma is the point, 1,0 means; None for what is no class."""
    return int(re.split("[.,]", text)[0]) if _CLASS.fullmatch(text) else None
