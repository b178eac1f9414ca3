"""What every label file is read into."""
import dataclasses
import pathlib
import re

_ENDING = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp)$", re.IGNORECASE)
_DOWNSAMPLED = "_downsampled"


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
