"""Files in a folder: which are pictures that are read, and what is said of the others."""

import collections
import pathlib
from collections.abc import Iterable

from stochconv_jax.data import image_io

_HEIF_ENDINGS = (".heic", ".heics", ".heif", ".heifs", ".hif")


def is_ending(ending: str) -> bool:
    """Whether a file's ending, '.jpg', is that of a picture, also where its format cannot be read here."""
    return ending.lower() in image_io.endings() or ending.lower() in _HEIF_ENDINGS


def images_of(files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """The pictures among `files` that are read, sorted; see `sort_out`."""
    return sort_out(files)[0]


def sort_out(files: Iterable[pathlib.Path]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The pictures that are read and the other files, each sorted.

    A picture is known by its ending; what has none, by its content. Hidden files are none, such as the ._ISIC_1.jpg
    that macOS writes beside each file.
    """
    sorted_files = sorted(files)
    images = [file for file in sorted_files if not file.name.startswith(".") and _is_image(file)]
    return images, sorted(set(sorted_files) - set(images))


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in image_io.endings() if file.suffix else is_picture(file)


def is_picture(file: pathlib.Path) -> bool:
    """Whether the file's header is that of a picture that is read, whatever its ending."""
    try:
        return bool(image_io.read_size(file))
    except (OSError, ValueError):
        return False


def why_unread(file: pathlib.Path) -> str:
    """Why a file that is there is not read."""
    if file.suffix.lower() in _HEIF_ENDINGS:
        return image_io.HEIF
    return f"its format is not read; read are {', '.join(image_io.formats())}"


def no_image(others: Iterable[pathlib.Path]) -> str:
    """Says that there is no image, where `sort_out` has left nothing but `others`."""
    there = f", only {over}" if (over := passed_over(others)) else ""
    return f"no image is there that is read{there}; read are {', '.join(image_io.formats())}"


def passed_over(files: Iterable[pathlib.Path], named: int = 3) -> str:
    """'3 .txt (a.txt, b.txt, c.txt), 1 folder (masks)': what `sort_out` has left, by kind; '' for nothing."""
    kinds = collections.defaultdict(list)
    for file in sorted(files):
        kinds[_kind(file)].append(file.name)
    texts = []
    for kind, names in sorted(kinds.items()):
        why = f": {image_io.HEIF}" if kind in _HEIF_ENDINGS else ""
        texts.append(f"{len(names)} {kind} ({', '.join(names[:named])}{', ...' * (len(names) > named)}{why})")
    return ", ".join(texts)


def _kind(file: pathlib.Path) -> str:
    if file.name.startswith("."):
        return "hidden"
    return file.suffix.lower() or ("folder" if file.is_dir() else "without an ending")
