"""Reads the challenges' label files, each by the format that its header shows, whatever its name.

How each year names diagnoses, and how they become 2019's categories:

    2016  benign | malignant, as words or numbers. Malignant is MEL: 238 of the 248 are in 2019 too, all as MEL.
    2017  `melanoma` and `seborrheic_keratosis`. Neither is NV: 1838 of the 1843 are in 2019 too, all as NV.
    2018  one column a category, or HAM10000's `dx`. AKIEC, which includes Bowen's disease, becomes AK.
    2019  one column a category.
    2020  `benign_malignant`, and a `diagnosis` that is mostly unknown.
    2024  `target` or `malignant`, and a diagnosis `iddx_full` of up to five levels, of which most rows have one.

The ISIC archive's own metadata, of any year, has levels `diagnosis_1` to `diagnosis_5`, or one `diagnosis`, and may
have `benign_malignant`. The first level is Benign, Malignant or Indeterminate, and the last is the most specific.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stochconv_jax.data import table_reader
from stochconv_jax.data.isic.records import Record, image_id, split_name

CATEGORIES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")  # of 2019, in its order
_DIAGNOSES = {
    "MEL": "melanoma",
    "NV": "nevus",
    "BCC": "basal cell carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
    "UNK": "unknown",
}
_CATEGORY_OF = {words: category for category, words in _DIAGNOSES.items()} | {
    "seborrheic keratosis": "BKL",
    "lichenoid keratosis": "BKL",
    "solar lentigo": "BKL",
    "lentigo nos": "BKL",
    "lichen planus like keratosis": "BKL",
    "pigmented benign keratosis": "BKL",
    "solar or actinic keratosis": "AK",
}
_LEVELS = tuple(f"diagnosis_{level}" for level in range(1, 6))
# Beginnings of diagnoses that the archive divides further, as in 'Melanoma in situ' or 'Nevus, Atypical, Junctional'.
_DIVIDED = ("melanoma", "nevus", "basal cell carcinoma", "squamous cell carcinoma")
_ONE_HOT_2018 = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
_ONE_HOT_2019 = tuple(category.lower() for category in CATEGORIES)
Cells = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a file: records about images, or pairs of ids of images that show the same picture."""

    path: pathlib.Path
    format: str
    records: tuple[Record, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class _Format:
    """A file format: the lower-case columns that a file must have, the image's first, and how to read a row.

    `read`: returns the fields of a `Record` from the cells of a row by column.
    """

    name: str
    year: str
    columns: tuple[str, ...]
    read: Callable[[Cells], dict]


def read(path: pathlib.Path, *, image_column: str = "", target_column: str = "target") -> Contents:
    """Reads a label file, a metadata file or a list of duplicates of any year, or a table of images and classes.

    `image_column`, `target_column`: the columns of such a table, as in `sources.FolderSource.from_csv`. Raises
    ValueError naming the file and its header if it has no known format, or the row of an invalid value.
    """
    header, *body = table_reader.read_rows(path)
    if _is_headless_2016(header[1]):
        header, body = (0, ["image_id", "label"]), [header, *body]
    table = table_reader.TextTable.from_rows(path, [name.lower() for name in header[1]], body)
    if {"image_name_1", "image_name_2"} <= table.columns.keys():
        return Contents(path, "2020 duplicates", pairs=tuple(_pairs(table)))
    own = _own_classes(table, image_column, target_column)
    if own and own.columns[1] != "target":  # a column that the user chose goes before known formats
        form = own
    else:
        form = _format_of(path, list(table.columns), ",".join(header[1]), own)
    if not body:
        raise ValueError(f"{path} has no rows below its header")
    return Contents(path, form.name, records=tuple(_records(table, form)))


def _is_headless_2016(cells: list[str]) -> bool:
    return len(cells) == 2 and cells[0].upper().startswith("ISIC_") and cells[0][5:].isdecimal()


def _records(table: table_reader.TextTable, form: _Format) -> Iterable[Record]:
    for row, cells in enumerate(_cells(table)):
        folder, image = split_name(cells[form.columns[0]])
        if not image:
            raise ValueError(f"{table.where(row)}: no image is named")
        try:
            fields: dict[str, Any] = {"year": form.year} | form.read(cells)
            yield Record(table.path, table.lines[row], image, folder=folder, **fields)
        except ValueError as error:
            raise ValueError(f"{table.where(row)}: {error}") from error


def _pairs(table: table_reader.TextTable) -> Iterable[tuple[str, str]]:
    for row, cells in enumerate(_cells(table)):
        pair = image_id(cells["image_name_1"]), image_id(cells["image_name_2"])
        if "" in pair:  # it would tie all images that are paired with it
            raise ValueError(f"{table.where(row)}: a cell without an image")
        yield pair


def _cells(table: table_reader.TextTable) -> Iterable[Cells]:
    return (dict(zip(table.columns, cells)) for cells in zip(*table.columns.values()))


def _own_classes(table: table_reader.TextTable, image_column: str, target_column: str) -> _Format | None:
    """Returns the format of a table with these columns of images and classes; None if it lacks one of them."""
    image, target = table.image_column(image_column), table_reader.find_column(table.columns, target_column)
    if image is None or target is None:
        return None
    return _Format("image,target", "", (image, target), lambda cells: _with_target({**cells, "target": cells[target]}))


def _flag(text: str, column: str) -> bool:
    """Returns 0, 1, 0.0 or 1.0 as a bool. Raises ValueError, naming the column, for any other text."""
    number = table_reader.class_number(text)
    if number not in (0, 1):
        raise ValueError(f"{column} is {text!r}: expected 0 or 1")
    return bool(number)


def _malignant(text: str) -> bool:
    if text in ("benign", "malignant"):
        return text == "malignant"
    return _flag(text, "the label")


def _diagnosed(category: str) -> dict:
    return {"category": category, "diagnosis": _DIAGNOSES[category]}


def _metadata(cells: Cells) -> dict:
    """Returns patient, lesion, age, sex and site, whose columns have other names in other years."""
    columns = {
        "patient_id": ("patient_id", "patient"),
        "lesion_id": ("lesion_id",),
        "age": ("age_approx", "age_approximate", "age"),
        "sex": ("sex",),
        "site": ("anatom_site_general", "anatom_site_general_challenge", "localization", "site"),
    }
    found = {key: next((cells[name] for name in names if cells.get(name)), "") for key, names in columns.items()}
    return {key: "" if value.lower() in ("unknown", "na", "nan") else value for key, value in found.items()}


def _2016(cells: Cells) -> dict:
    malignant = _malignant(cells["label"])
    category = {"category": "MEL"} if malignant else {}
    return {"malignant": malignant, "diagnosis": "melanoma" if malignant else "benign"} | category


def _2017(cells: Cells) -> dict:
    melanoma = _flag(cells["melanoma"], "melanoma")
    keratosis = _flag(cells["seborrheic_keratosis"], "seborrheic_keratosis")
    if melanoma and keratosis:
        raise ValueError("melanoma and seborrheic_keratosis are both 1")
    if keratosis:
        return {"category": "BKL", "diagnosis": "seborrheic keratosis"}
    return _diagnosed("MEL" if melanoma else "NV")


def _one_hot(columns: tuple[str, ...]) -> Callable[[Cells], dict]:
    def read_row(cells: Cells) -> dict:
        marked = [column.upper() for column in columns if _flag(cells[column], column.upper())]
        if len(marked) != 1:
            raise ValueError(f"expected one category, found {' and '.join(marked) or 'none'}")
        return _diagnosed(_category(marked[0])) | _metadata(cells)

    return read_row


def _category(name: str) -> str:
    """Returns 2019's name of a category of 2018 or 2019. Raises ValueError if there is none."""
    category = {"AKIEC": "AK"}.get(name.upper(), name.upper())
    if category not in CATEGORIES:
        raise ValueError(f"{name!r} is none of the categories {', '.join(CATEGORIES)}")
    return category


def _ham10000(cells: Cells) -> dict:
    return _diagnosed(_category(cells["dx"])) | _metadata(cells)


def _2020(cells: Cells) -> dict:
    malignant = _malignant(cells["benign_malignant"])
    if malignant != _flag(cells["target"], "target"):
        raise ValueError(f"benign_malignant is {cells['benign_malignant']} and target is {cells['target']}")
    diagnosis = cells.get("diagnosis") or "unknown"
    category = _CATEGORY_OF.get(diagnosis.lower(), "UNK")
    return {"malignant": malignant, "diagnosis": diagnosis, "category": category} | _metadata(cells)


def _levels(cells: Cells) -> list[str]:
    """Returns the levels of the diagnosis that are filled, the most general one first."""
    levels = cells["iddx_full"].split("::") if "iddx_full" in cells else map(cells.get, _LEVELS)
    return [level for level in levels if level]


def _category_of_levels(levels: Iterable[str]) -> str:
    """Returns 2019's category of the most specific level that is in one; 'UNK' if none is."""
    for level in reversed([level.lower() for level in levels]):
        known = next((words for words in _DIVIDED if level.startswith(words)), level)
        if known in _CATEGORY_OF:
            return _CATEGORY_OF[known]
    return "UNK"


def _2024(cells: Cells) -> dict:
    malignant = _flag(cells["malignant"], "malignant") if "malignant" in cells else _flag(cells["target"], "target")
    levels = _levels(cells)
    about = {"diagnosis": levels[-1] if levels else "unknown", "category": _category_of_levels(levels)}
    return {"malignant": malignant} | about | _metadata(cells)


def _archive(cells: Cells) -> dict:
    """Reads a row of the archive's metadata, which has a label only if it says benign or malignant."""
    verdict = (cells.get("diagnosis_1") or cells.get("benign_malignant", "")).lower()
    if verdict not in ("benign", "malignant"):
        return _metadata(cells)
    levels = _levels(cells) or [cells.get("diagnosis") or verdict]
    about = {"diagnosis": levels[-1], "category": _category_of_levels(levels)}
    return {"malignant": verdict == "malignant"} | about | _metadata(cells)


def _with_target(cells: Cells) -> dict:
    target = table_reader.class_number(cells["target"])
    if target is None:
        raise ValueError(f"target is {cells['target']!r}: expected a class 0, 1, ...")
    diagnosis = cells.get("diagnosis", "")
    category = cells.get("category") or _CATEGORY_OF.get(diagnosis.lower(), "")
    about = {"diagnosis": diagnosis, "category": category, "year": cells.get("year", "")}
    return {"target": target} | about | _metadata(cells)


_LABELS = (
    _Format("2024", "2024", ("isic_id", "target", "iddx_full"), _2024),
    _Format("2024", "2024", ("isic_id", "malignant"), _2024),
    _Format("isic_id,target", "", ("isic_id", "target"), _with_target),
    _Format("ISIC archive", "", ("isic_id", "diagnosis_1"), _archive),
    _Format("ISIC archive", "", ("isic_id", "benign_malignant"), _archive),
    _Format("2020", "2020", ("image_name", "benign_malignant", "target"), _2020),
    _Format("2019", "2019", ("image", *_ONE_HOT_2019), _one_hot(_ONE_HOT_2019)),
    _Format("2018", "2018", ("image", *_ONE_HOT_2018), _one_hot(_ONE_HOT_2018)),
    _Format("2018 HAM10000", "2018", ("image_id", "lesion_id", "dx"), _ham10000),
    _Format("2017", "2017", ("image_id", "melanoma", "seborrheic_keratosis"), _2017),
    _Format("2016", "2016", ("image_id", "label"), _2016),
    _Format("2016", "2016", ("img_id", "label"), _2016),
    _Format("image,target", "", ("image", "target"), _with_target),
)
_METADATA = (
    _Format("2020 metadata", "2020", ("image_name", "patient_id"), _metadata),
    _Format("2020 metadata", "2020", ("image", "patient"), _metadata),
    _Format("2018 metadata", "2018", ("image", "lesion_id", "diagnosis_confirm_type"), _metadata),
    _Format("2017 metadata", "2017", ("image_id", "age_approximate", "sex"), _metadata),
    _Format("2024 metadata", "2024", ("isic_id", "attribution", "tbp_tile_type"), _metadata),
    _Format("ISIC archive metadata", "", ("isic_id", "attribution", "copyright_license"), _metadata),
    _Format("2019 metadata", "2019", ("image", "age_approx", "anatom_site_general", "sex"), _metadata),
)
_CLASS_COLUMNS = frozenset({"target", "benign_malignant", "label", "melanoma", "mel", "dx"})


def _format_of(path: pathlib.Path, header: list[str], as_written: str, other: _Format | None) -> _Format:
    """Returns the first format whose columns are all in the header, else `other`.

    Label formats go before metadata formats, so that no labels are overlooked. Raises ValueError if there is no format,
    or if a metadata file has a column that would be a label in another file.
    """
    form = next((form for form in (*_LABELS, *_METADATA) if set(form.columns) <= set(header)), other)
    if form is None:
        raise ValueError(
            f"{path}: no known label file has the header {as_written!r}; columns image,target of your own can be "
            "named by `image_column` and `target_column`"
        )
    if form in _METADATA and (unread := [name for name in header if name in _CLASS_COLUMNS]):
        raise ValueError(
            f"{path}: the header {as_written!r} is that of {form.name}, but for {', '.join(unread)}, which would not "
            "be read; for classes of your own name the columns image,target, else take these columns out"
        )
    return form
