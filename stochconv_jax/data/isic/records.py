"""What every label file is read into."""

import dataclasses
import pathlib
import posixpath
import unicodedata

from stochconv_jax.data import image_files

_DOWNSAMPLED = "_downsampled"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a label or metadata file. A text that the file does not have is ''.

    `line`: where the row ends in `file`, from 1. `image`: the ISIC id; `folder`: of the image, where the row names it;
    `file_name`: the image's id as its file has it, if that is another, see `apart.by_folder`. `year`: of the challenge.
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
    folder: str = ""
    file_name: str = ""

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
    return split_name(name)[1]


def split_name(name: str) -> tuple[str, str]:
    """The folder, with /, and the id of an image as a table names it: by \\ or /, in Unicode's composed letters."""
    path = posixpath.normpath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/")) if name else ""
    folder, last = posixpath.split(path)
    stem, ending = posixpath.splitext(last)
    return folder, (stem if image_files.is_ending(ending) else last).removesuffix(_DOWNSAMPLED)
