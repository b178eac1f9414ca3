"""Finds the image file that a name in a table means."""

import collections
import functools
import os
import pathlib
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from stochconv_jax.csv_cells import escape_surrogates
from stochconv_jax.data import image_files, paths

ByName = dict[str, list[pathlib.Path]]


class FileIndex:
    """The image files in `folder` and below it, by every name that a table may have for them.

    A name may lack its ending, have / or \\ between folders, and have Unicode's composed or decomposed letters. It may
    begin at the folder, below it or above it: a/1, 1.png and images/a/1.png all mean a/1.png in the folder images.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._stems_by_folder: dict[pathlib.Path, ByName] = {}

    def find_one(self, name: str) -> pathlib.Path:
        """Returns the file that `name` means. Raises ValueError, with the reason, if there is none or several match."""
        if not name:
            raise ValueError("no image is named")
        found = self.find_all(name)
        if not found:
            raise ValueError(f"there is no image {name!r} in {self.folder}{self._unread(name)}")
        if len(found) > 1:
            names = ", ".join(map(self.name, found[:5])) + (", ..." if len(found) > 5 else "")
            advice = "give the ending" if len({file.parent for file in found}) == 1 else "give the folder too"
            raise ValueError(f"{name!r} may be any of {names} in {self.folder}; {advice}")
        (file,) = found
        if not image_files.images_of([file]) and not image_files.is_picture(file):
            raise ValueError(f"{file} is there, but {image_files.why_unread(file)}")
        return file

    def find_all(self, name: str) -> list[pathlib.Path]:
        """Returns the files that `name` may mean, by the first way of reading it that gives any; else []."""
        for path in dict.fromkeys(map(posixpath.normpath, (name, name.replace("\\", "/")))):
            key = _key(path)
            if path.startswith(("/", "../")):
                found = self._outside(path)
            else:  # the folder itself first: a data set without subfolders is not searched any deeper
                found = self._by_name_directly_inside.get(key) or self._by_path.get(key)
            if found := found or self._by_end_of_path.get(key) or self._from_above(path) or self._outside(path):
                return _prefer_exact(found, posixpath.basename(path))
        return []

    def name(self, file: pathlib.Path) -> str:
        """Returns the file's path from the folder, with /; its whole path if it is elsewhere."""
        return str(file).removeprefix(os.path.join(self.folder, ""))  # relative_to takes a second for 10,000 files

    @functools.cached_property
    def directly_inside(self) -> list[pathlib.Path]:
        """The image files in the folder itself, sorted."""
        return image_files.images_of(self.folder.iterdir())

    @property
    def inside(self) -> list[pathlib.Path]:
        """The image files in the folder and below it, sorted, without those in folders that cannot be read."""
        return self._inside[0]

    @property
    def others_inside(self) -> list[pathlib.Path]:
        """The other files in the folder and below it, sorted."""
        return self._inside[1]

    @functools.cached_property
    def _inside(self) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
        return image_files.sort_out(files_below(self.folder, lambda error: None))

    @functools.cached_property
    def _by_name_directly_inside(self) -> ByName:
        return self._index(self.directly_inside, lambda path: [path])

    @functools.cached_property
    def _by_path(self) -> ByName:
        return self._index(self.inside, lambda path: [path])

    @functools.cached_property
    def _by_end_of_path(self) -> ByName:
        return self._index(self.inside, _path_ends)

    def _index(self, files: Iterable[pathlib.Path], names: Callable[[str], Iterable[str]]) -> ByName:
        """Returns the files by the `names` of their paths, with and without ending."""
        found: ByName = collections.defaultdict(list)
        for file in files:
            path = self.name(file)
            for known in {path, path.removesuffix(file.suffix)}:
                for name in names(known):
                    found[_key(name)].append(file)
        return found

    def _outside(self, path: str) -> list[pathlib.Path]:
        """Returns the file at `path`, outside the folder or of an unknown ending; else images of that stem there."""
        file = self.folder / path
        return [file] if file.is_file() else self._images_by_stem(file.parent).get(file.name, [])

    def _images_by_stem(self, folder: pathlib.Path) -> ByName:
        """Returns the image files in `folder` by their names without endings; lists each folder once."""
        if folder not in self._stems_by_folder:
            self._stems_by_folder[folder] = collections.defaultdict(list)
            for file in image_files.images_of(folder.iterdir()) if folder.is_dir() else []:
                self._stems_by_folder[folder][file.stem].append(file)
        return self._stems_by_folder[folder]

    def _from_above(self, path: str) -> list[pathlib.Path]:
        """Returns the files that `path` means if its first folders are above the folder.

        Returns none if one of them is in the folder: then that folder just has no such file.
        """
        for end in _path_ends(path):
            first = path.partition("/")[0]
            if first not in ("", "..") and (self.folder / first).is_dir():
                return []
            if found := self._by_path.get(_key(end)):
                return found
            path = end
        return []

    @functools.cached_property
    def _any_file(self) -> dict[str, pathlib.Path]:
        """The files in the folder itself, images or not, by their names with and without ending."""
        files = sorted(self.folder.iterdir(), reverse=True)
        return {file.stem: file for file in files} | {file.name: file for file in files}

    def _unread(self, name: str) -> str:
        """Returns why the file of that name is not read, or '' if there is none."""
        file = self._any_file.get(name)
        return f": {file} is there, but {image_files.why_unread(file)}" if file else ""


def _key(name: str) -> str:
    """Returns a text that is equal for names that differ only in how their letters are composed."""
    return unicodedata.normalize("NFC", escape_surrogates(name)).strip()


def _path_ends(path: str) -> Iterator[str]:
    """Yields the shorter ends of a path: 'a/b/c' gives 'b/c' and 'c'."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _prefer_exact(files: list[pathlib.Path], name: str) -> list[pathlib.Path]:
    """Returns the files whose name, or else whose name without ending, is exactly `name`; all if there are none."""
    exact = [file for file in files if file.name == name] or [file for file in files if file.stem == name]
    return exact or files


def files_below(folder: pathlib.Path, on_error: Callable[[OSError], None]) -> Iterator[pathlib.Path]:
    """Yields the files in `folder` and below it, following links to folders; enters each folder once, even in loops.

    Calls `on_error` with the error of a local folder that cannot be read.
    """
    if isinstance(folder, paths.VirtualPath):
        yield from folder.files_below()
        return
    seen = set()
    for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # so that every machine takes the same of two ways to a folder
        yield from (pathlib.Path(place, name) for name in names)
