"""Tells which files in a folder are pictures that can be read, and describes the others."""

import collections
import pathlib
from collections.abc import Iterable

from stochconv_jax.data import image_formats, image_io, paths


def is_ending(ending: str) -> bool:
    """Returns whether a file ending, such as '.jpg', is that of pictures, even of a format that cannot be read here."""
    return ending.lower() in image_formats.endings() or bool(image_formats.missing_package(ending))


def images_of(files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the pictures among `files` that can be read, sorted; see `sort_out`."""
    return sort_out(files)[0]


def sort_out(files: Iterable[pathlib.Path]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns the pictures that can be read and the other files, each sorted.

    Knows a picture by its ending, or by its content if it has no ending. Hidden files are not pictures, such as the
    ._ISIC_1.jpg that macOS writes beside each file.
    """
    sorted_files = sorted(files)
    images = [file for file in sorted_files if not file.name.startswith(".") and _is_image(file)]
    return images, sorted(set(sorted_files) - set(images))


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in image_formats.endings() if file.suffix else is_picture(file)


def is_picture(file: pathlib.Path) -> bool:
    """Returns whether the file's header is that of a picture that can be read, whatever its ending."""
    try:
        return bool(image_io.read_size(file))
    except paths.Unreachable:  # without the file this would be another data set
        raise
    except (OSError, ValueError):
        return False


def why_unread(file: pathlib.Path) -> str:
    """Returns the reason why an existing file is not read, for messages."""
    supported = f"its format is not supported; supported are {image_formats.supported()}"
    return image_formats.missing_package(file.suffix) or supported


def describe_no_image(others: Iterable[pathlib.Path]) -> str:
    """Returns the message that there is no picture, only the files `others`."""
    found = f", only {description}" if (description := describe_others(others)) else ""
    return f"there is no image in a supported format{found}; supported are {image_formats.supported()}"


def describe_others(files: Iterable[pathlib.Path], max_names: int = 3) -> str:
    """Returns files counted by kind: '3 .txt (a.txt, b.txt, c.txt), 1 folder (masks)'; '' for no files."""
    kinds = collections.defaultdict(list)
    for file in sorted(files):
        kinds[_kind(file)].append(file.name)
    texts = []
    for kind, names in sorted(kinds.items()):
        why = f": {missing}" if (missing := image_formats.missing_package(kind)) else ""
        texts.append(f"{len(names)} {kind} ({', '.join(names[:max_names])}{', ...' * (len(names) > max_names)}{why})")
    return ", ".join(texts)


def _kind(file: pathlib.Path) -> str:
    if file.name.startswith("."):
        return "hidden"
    return file.suffix.lower() or ("folder" if file.is_dir() else "without an ending")
