"""Pictures of one name in several folders: told apart by the folders that label files name, else compared."""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence

from stochconv_jax.data.isic import image_encoding, merge
from stochconv_jax.data.isic.labels import Contents
from stochconv_jax.data.isic.raw_images import SAME, Chosen, RawImage, content_of
from stochconv_jax.data.isic.records import Row
from stochconv_jax.data.isic.workers import Workers

BYTES, LOOKS = SAME
OTHER = "another picture"


def by_folder(contents: Sequence[Contents]) -> list[Contents]:
    """The contents, where images of one name in several folders, a/1 and b/1, are called a_1 and b_1.

    ValueError naming a row that does not say which of them it means, or where an image is called so already.
    """
    folders: dict[str, set[str]] = collections.defaultdict(set)
    for content in contents:
        for row in content.rows:
            folders[row.image].add(row.folder)
    called = {name: short for name, found in folders.items() if (short := _called(name, found - {""}))}
    new = collections.Counter([name for short in called.values() for name in set(short.values())])
    if taken := next((name for name, count in new.items() if count > 1 or name in folders), None):
        raise ValueError(f"{taken} would be the name of two pictures, by its folder or as it is: rename one of them")

    def renamed(row: Row) -> Row:
        if row.image not in called:
            return row
        if not row.folder:
            there = " or ".join(f"{folder}/{row.image}" for folder in sorted(called[row.image]))
            raise ValueError(f"{row.where}: {row.image!r} may be {there}, as other rows have it; give the folder")
        return dataclasses.replace(row, image=called[row.image][row.folder], file_name=row.image)

    return [dataclasses.replace(content, rows=tuple(map(renamed, content.rows))) for content in contents]


def _called(name: str, folders: Collection[str]) -> dict[str, str]:
    """Names the image by folder: with as many of its last parts as tell it apart; {} where there is one only.

    A folder that another one ends with is that one.
    """
    whole = {folder: max((f for f in folders if f"/{f}".endswith(f"/{folder}")), key=len) for folder in folders}
    parts = {folder: folder.strip("/").split("/") for folder in set(whole.values())}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        short = {folder: "_".join([*names[-depth:], name]) for folder, names in parts.items()}
        if len(set(short.values())) == len(short) > 1:
            return {folder: short[whole[folder]] for folder in folders}
    return {}


def files_of(entries: merge.Entries, by_name: Mapping[str, list[pathlib.Path]]) -> dict[str, list[pathlib.Path]]:
    """The files by image; those that no image means stand under their path.

    `by_name`: see `scan.find`. Where rows name a folder, of the files in folders that are called most like it.
    """
    files, meant = {}, set()
    folders = {file.parent.name for found in by_name.values() for file in found}
    of_one_name = collections.Counter(entry.row.file_name or name for name, entry in entries.items())
    for name, entry in entries.items():
        file_name = entry.row.file_name or name
        shared = {file: _shared(file, entry.folder) for file in by_name.get(file_name, ())}
        most = max(shared.values(), default=0)
        # Without such a folder it may be that of another machine; with one it just has no such file.
        elsewhere = of_one_name[file_name] == 1 and entry.folder.rpartition("/")[2] not in folders
        if shared and (most or elsewhere):
            files[name] = [file for file, count in shared.items() if count == most]
            meant.update(files[name])
    left = [file for found in by_name.values() for file in found if file not in meant]
    return files | {file.as_posix(): [file] for file in left}


def _shared(file: pathlib.Path, folder: str) -> int:
    """How many of its last folders a file shares with those that a table names."""
    own, named = file.parent.parts[::-1], folder.split("/")[::-1]
    return next((count for count, (a, b) in enumerate(zip(own, named)) if a != b), min(len(own), len(named)))


def refuse_others(chosen: Chosen, workers: Workers) -> dict[pathlib.Path, str]:
    """How each file shows the same picture as the first of its image, BYTES or LOOKS, or why it cannot be decoded.

    ValueError naming the files of an image that show different ones: which of them its row means is not known.
    """
    several = {name: found for name, found in chosen.items() if len(found) > 1}
    how = dict(zip(several, workers.map(_relations, list(several.values()))))
    others = {
        name: (found, found[how[name].index(OTHER)].file) for name, found in several.items() if OTHER in how[name]
    }
    for name, (found, other) in others.items():
        first = found[how[name].index("")].file
        more = f"; so it is with {len(others) - 1} more names" if len(others) > 1 else ""
        raise ValueError(
            f"{first} and {other} are different pictures, and the labels name {name} alone{more}: take away the one "
            f"that is not meant, or name each with its folder in the label file, as in {other.parent.name}/{name}"
        )
    return {one.file: words for name, found in several.items() for one, words in zip(found, how[name]) if words}


def _relations(found: Sequence[RawImage]) -> list[str]:
    """Of each file to the first that can be decoded, or why it cannot be; '' for that one."""
    first, relations = None, []
    for one in found:
        content = content_of(one.file)
        if first and content == first[0]:
            relations.append(BYTES)
            continue
        try:
            small = image_encoding.reduced(content, one.height, one.width)
        except ValueError as error:
            relations.append(f"{one.file.name}: {error}")
            continue
        relations.append("" if not first else LOOKS if image_encoding.same_looks(first[1], small) else OTHER)
        first = first or (content, small)
    return relations
