"""The record into which each row of a label file is read, and the ids of images."""

import dataclasses
import pathlib
import posixpath
import unicodedata

from stochconv_jax.data import image_files

METADATA = ("patient_id", "lesion_id", "age", "sex", "site")
_DOWNSAMPLED = "_downsampled"


@dataclasses.dataclass(frozen=True)
class Record:
    """The content of one row of a label file or metadata file; '' stands for a text that the file does not have.

    `line`: the line of `file`, from 1, on which the row ends. `image`: the image's ISIC id. `year`: of the challenge.
    `category`: one of 2019's categories, '' if unknown. `malignant`: whether the file itself says malignant or benign;
    None if it names a diagnosis only. `target`: the class if the file gives one. `folder`: the image's folder if the
    row names one. `file_name`: the id that the image's file has, if it is not `image`, see `same_names.by_folder`.
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
        """Whether the record says what the image shows; otherwise it is metadata."""
        return bool(self.category) or self.malignant is not None or self.target is not None

    @property
    def where(self) -> str:
        """The file's name and the line, for messages."""
        return f"{self.file.name}, row {self.line}"


def image_id(name: str) -> str:
    """Returns the ISIC id in a name: 'ISIC_0000017' for 'ISIC_0000017_downsampled.jpg'."""
    return split_name(name)[1]


def split_name(name: str) -> tuple[str, str]:
    """Returns the folder and the ISIC id of an image as a table names it.

    Reads \\ and / between folders, and returns /. Returns Unicode's composed letters for composed and decomposed ones.
    """
    path = posixpath.normpath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/")) if name else ""
    folder, last = posixpath.split(path)
    stem, ending = posixpath.splitext(last)
    return folder, (stem if image_files.is_ending(ending) else last).removesuffix(_DOWNSAMPLED)
