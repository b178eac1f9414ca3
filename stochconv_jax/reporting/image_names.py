"""Matches the image names in the prediction tables of different runs."""

from collections.abc import Mapping, Sequence

from stochconv_jax.data import image_files


def sort_by_image(rows: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], list[Mapping[str, str]]]:
    """Returns the normalized image names of a table, sorted, and its rows in that order."""
    names = normalize([row["image"] for row in rows])
    order = sorted(range(len(rows)), key=names.__getitem__)
    return tuple(names[index] for index in order), [rows[index] for index in order]


def normalize(texts: Sequence[str]) -> list[str]:
    """Returns image names without endings and without folders, in which tables of the same images may differ.

    Folders are kept if names would be equal without them, and so are endings.
    """
    names = [_without_ending(text.replace("\\", "/")) for text in texts]
    if len(set(names)) < len(set(texts)):
        return list(texts)
    base_names = [name.rpartition("/")[2] for name in names]
    return base_names if len(set(base_names)) == len(base_names) else names


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and image_files.is_ending(f".{ending}") else name
