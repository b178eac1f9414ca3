"""Tells pictures of one name in several folders apart, by the folders that label files name or by comparing them."""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence

from stochconv_jax.data.isic import image_encoding, merge
from stochconv_jax.data.isic.labels import Contents
from stochconv_jax.data.isic.raw_images import SAME_BYTES, SAME_LOOKS, Chosen, RawImage, read_content
from stochconv_jax.data.isic.records import Record
from stochconv_jax.data.isic.workers import Workers

_FIRST, _OTHER_PICTURE = "", "another picture"  # relations of a file to the first file of its image


def by_folder(contents: Sequence[Contents]) -> list[Contents]:
    """Returns the contents with new names for images of one name in several folders: a_1 and b_1 for a/1 and b/1.

    Raises ValueError if another image has a new name already, or naming a row that does not say which image it means.
    """
    folders: dict[str, set[str]] = collections.defaultdict(set)
    for content in contents:
        for record in content.records:
            folders[record.image].add(record.folder)
    renamed = {name: new for name, found in folders.items() if (new := _names_by_folder(name, found - {""}))}
    uses = collections.Counter([new for names in renamed.values() for new in set(names.values())])
    if taken := next((name for name, count in uses.items() if count > 1 or name in folders), None):
        raise ValueError(f"{taken} would be the name of two pictures, by its folder or as it is: rename one of them")

    def rename(record: Record) -> Record:
        if record.image not in renamed:
            return record
        if not record.folder:
            known = " or ".join(f"{folder}/{record.image}" for folder in sorted(renamed[record.image]))
            raise ValueError(f"{record.where}: {record.image!r} may be {known}, as other rows have it; give the folder")
        return dataclasses.replace(record, image=renamed[record.image][record.folder], file_name=record.image)

    return [dataclasses.replace(content, records=tuple(map(rename, content.records))) for content in contents]


def _names_by_folder(name: str, folders: Collection[str]) -> dict[str, str]:
    """Returns a new name of the image for each folder, with as many of the folder's last parts as tell it apart.

    Returns {} if there is only one folder; a folder is the same as a longer one that ends with it.
    """
    longest = {folder: max((f for f in folders if f"/{f}".endswith(f"/{folder}")), key=len) for folder in folders}
    parts = {folder: folder.strip("/").split("/") for folder in set(longest.values())}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {folder: "_".join([*path[-depth:], name]) for folder, path in parts.items()}
        if len(set(names.values())) == len(names) > 1:
            return {folder: names[longest[folder]] for folder in folders}
    return {}


def files_by_image(entries: merge.Entries, by_name: Mapping[str, list[pathlib.Path]]) -> dict[str, list[pathlib.Path]]:
    """Returns the files of each image, and the files that belong to none under their paths.

    `by_name`: the image files, see `raw_images.find`. If records name an image's folder, its files are those whose
    folders share the most with it.
    """
    files, assigned = {}, set()
    folders = {file.parent.name for found in by_name.values() for file in found}
    images_of_name = collections.Counter(entry.record.file_name or name for name, entry in entries.items())
    for name, entry in entries.items():
        file_name = entry.record.file_name or name
        shared = {file: _shared_folders(file, entry.folder) for file in by_name.get(file_name, ())}
        most = max(shared.values(), default=0)
        # A folder that does not exist here may be of another machine. One that exists just has no such file.
        elsewhere = images_of_name[file_name] == 1 and entry.folder.rpartition("/")[2] not in folders
        if shared and (most or elsewhere):
            files[name] = [file for file, count in shared.items() if count == most]
            assigned.update(files[name])
    left = [file for found in by_name.values() for file in found if file not in assigned]
    return files | {file.as_posix(): [file] for file in left}


def _shared_folders(file: pathlib.Path, folder: str) -> int:
    """Returns how many of a file's last folders are those of the path `folder`."""
    own, wanted = file.parent.parts[::-1], folder.split("/")[::-1]
    return next((count for count, (a, b) in enumerate(zip(own, wanted)) if a != b), min(len(own), len(wanted)))


def compare_files(chosen: Chosen, workers: Workers) -> dict[pathlib.Path, str]:
    """Returns how each further file of an image shows the same picture as its first one, or why it cannot be decoded.

    The relations are SAME_BYTES and SAME_LOOKS. Raises ValueError naming two files of an image that show different
    pictures: the labels do not say which one they mean.
    """
    several = {name: raws for name, raws in chosen.items() if len(raws) > 1}
    relations = dict(zip(several, workers.map(_relations, list(several.values()))))
    ambiguous = [name for name in several if _OTHER_PICTURE in relations[name]]
    for name in ambiguous:
        first, other = (several[name][relations[name].index(kind)].file for kind in (_FIRST, _OTHER_PICTURE))
        more = f"; so it is with {len(ambiguous) - 1} more names" if len(ambiguous) > 1 else ""
        raise ValueError(
            f"{first} and {other} are different pictures, and the labels name {name} alone{more}: take away the one "
            f"that is not meant, or name each with its folder in the label file, as in {other.parent.name}/{name}"
        )
    return {raw.file: how for name, raws in several.items() for raw, how in zip(raws, relations[name]) if how}


def _relations(raws: Sequence[RawImage]) -> list[str]:
    """Returns the relation of each file to the first one that can be decoded, or why it cannot be decoded."""
    first, relations = None, []
    for raw in raws:
        content = read_content(raw.file)
        if first and content == first[0]:
            relations.append(SAME_BYTES)
            continue
        try:
            small = image_encoding.decode_reduced(content, raw.height, raw.width)
        except ValueError as error:
            relations.append(f"{raw.file.name}: {error}")
            continue
        if first:
            relations.append(SAME_LOOKS if image_encoding.same_picture(first[1], small) else _OTHER_PICTURE)
        else:
            first = content, small
            relations.append(_FIRST)
    return relations
