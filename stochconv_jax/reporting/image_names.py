"""Images by the names that runs' tables have for them."""

from collections.abc import Mapping, Sequence

from stochconv_jax.data import image_files


def in_order(rows: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], list[Mapping[str, str]]]:
    """The images of a table's rows by their bare names, sorted, and the rows in that order."""
    names = bare([row["image"] for row in rows])
    order = sorted(range(len(rows)), key=names.__getitem__)
    return tuple(names[place] for place in order), [rows[place] for place in order]


def bare(texts: Sequence[str]) -> list[str]:
    """Without endings and, if they are told apart without, folders: tables of the same images differ in these."""
    names = [_without_ending(text.replace("\\", "/")) for text in texts]
    if len(set(names)) < len(set(texts)):
        return list(texts)
    last = [name.rpartition("/")[2] for name in names]
    return last if len(set(last)) == len(last) else names


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and image_files.is_ending(f".{ending}") else name
