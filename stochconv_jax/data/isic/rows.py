"""What every label file is read into, and how the text of a CSV file is opened."""
import csv
import dataclasses
import io
import pathlib
import re

_ENDING = re.compile(r"\.(jpe?g|jpe|jfif|png|bmp|gif|tiff?|webp|avif|jp2|hei[cf])$", re.IGNORECASE)
_DOWNSAMPLED = "_downsampled"
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a label or metadata file. A text that the file does not have is ''.

    `line`: where the row ends in `file`, from 1. `image`: the ISIC id. `year`: of the challenge, '' if unknown.
    `category`: a 2019 category, '' if unknown. `malignant`: what the file itself says, None if it names a diagnosis
    only. `target`: a class that the file gives outright. A row that says nothing about the class is metadata.
    """

    file: pathlib.Path
    line: int
    image: str
    year: str
    diagnosis: str = ""
    category: str = ""
    malignant: bool | None = None
    target: int | None = None
    patient_id: str = ""
    lesion_id: str = ""
    age: str = ""
    sex: str = ""
    site: str = ""

    @property
    def labelled(self) -> bool:
        """Whether the row says what the image shows."""
        return bool(self.category) or self.malignant is not None or self.target is not None

    @property
    def where(self) -> str:
        """The file's name and the line, for messages."""
        return f"{self.file.name}, row {self.line}"


METADATA = ("patient_id", "lesion_id", "age", "sex", "site")


def image_id(name: str) -> str:
    """'ISIC_0000017_downsampled.jpg' -> 'ISIC_0000017': one name for a picture, whatever the archive calls it."""
    return _ENDING.sub("", name.strip()).removesuffix(_DOWNSAMPLED)


def read_table(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with its line number; cells are stripped.

    UTF-8, or UTF-16 with its mark; separated by comma, semicolon or tab; any line ending. ValueError naming the file.
    """
    text = _text(path)
    first = text.lstrip("\n").partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not a CSV file ({error})") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    return rows


def _text(path: pathlib.Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    encoding = "utf-16" if content.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        where = f"{error.reason}, byte {error.start}"
        raise ValueError(f"{path} is not in {encoding.upper()} ({where}); save it as UTF-8") from error
