"""Which image file a name in a table means."""

import collections
import functools
import os
import pathlib
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from stochconv_jax.csv_cells import as_text
from stochconv_jax.data import image_files

ByName = dict[str, list[pathlib.Path]]


class Files:
    """The image files in `folder` and below it, by what a table may call them.

    A name has its ending or not, / or \\ between folders, and Unicode's composed or decomposed letters. It begins at
    the folder, or at one below or above it: in images/, a/1.png is meant by a/1, by 1.png and by images/a/1.png.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._listed: dict[pathlib.Path, ByName] = {}

    def one(self, name: str) -> pathlib.Path:
        """The file that `name` means. ValueError, which says why, if there is none or may be several."""
        if not name:
            raise ValueError("no image is named")
        found = self.find(name)
        if not found:
            raise ValueError(f"there is no image {name!r} in {self.folder}{self._of_no_use(name)}")
        if len(found) > 1:
            names = ", ".join(map(self.name, found[:5])) + (", ..." if len(found) > 5 else "")
            advice = "give the ending" if len({file.parent for file in found}) == 1 else "give the folder too"
            raise ValueError(f"{name!r} may be any of {names} in {self.folder}; {advice}")
        (file,) = found
        if not image_files.images_of([file]) and not image_files.is_picture(file):
            raise ValueError(f"{file} is there, but {image_files.why_unread(file)}")
        return file

    def find(self, name: str) -> list[pathlib.Path]:
        """The files that `name` may mean, by the first way to read it that gives any; [] if there is none."""
        for path in dict.fromkeys(map(posixpath.normpath, (name, name.replace("\\", "/")))):
            key = _key(path)
            if path.startswith(("/", "../")):
                found = self._as_it_is(path)
            else:  # who names no folder most likely has none: those below are not searched without need
                found = self._here.get(key) or self._whole.get(key)
            if found := found or self._ends.get(key) or self._from_above(path) or self._as_it_is(path):
                return _nearest(found, posixpath.basename(path))
        return []

    def name(self, file: pathlib.Path) -> str:
        """The file's path from the folder, with /; its whole path if it lies elsewhere."""
        return str(file).removeprefix(os.path.join(self.folder, ""))  # pathlib's takes a second for ten thousand

    @functools.cached_property
    def _of_any_kind(self) -> dict[str, pathlib.Path]:
        """The files in the folder itself, images or not, by their names with and without ending."""
        files = sorted(self.folder.iterdir(), reverse=True)
        return {file.stem: file for file in files} | {file.name: file for file in files}

    @functools.cached_property
    def here(self) -> list[pathlib.Path]:
        """The image files in the folder itself, sorted."""
        return image_files.images_of(self.folder.iterdir())

    @functools.cached_property
    def below(self) -> list[pathlib.Path]:
        """The image files in the folder and below it, sorted; folders that cannot be read are passed over."""
        return image_files.images_of(files_below(self.folder, lambda error: None))

    @functools.cached_property
    def _here(self) -> ByName:
        return self._by_name(self.here, lambda path: [path])

    @functools.cached_property
    def _whole(self) -> ByName:
        return self._by_name(self.below, lambda path: [path])

    @functools.cached_property
    def _ends(self) -> ByName:
        return self._by_name(self.below, _shortened)

    def _by_name(self, files: Iterable[pathlib.Path], names: Callable[[str], Iterable[str]]) -> ByName:
        found: ByName = collections.defaultdict(list)
        for file in files:
            path = self.name(file)
            for known in {path, path.removesuffix(file.suffix)}:
                for name in names(known):
                    found[_key(name)].append(file)
        return found

    def _as_it_is(self, path: str) -> list[pathlib.Path]:
        """A file outside the folder, or of another ending: the decoder shall say whether it is an image."""
        file = self.folder / path
        return [file] if os.path.isfile(file) else self._by_stem(file.parent).get(file.name, [])

    def _by_stem(self, folder: pathlib.Path) -> ByName:
        """The image files in a folder by their names without endings; each folder is listed once."""
        if folder not in self._listed:
            self._listed[folder] = collections.defaultdict(list)
            for other in image_files.images_of(folder.iterdir()) if os.path.isdir(folder) else []:
                self._listed[folder][other.stem].append(other)
        return self._listed[folder]

    def _from_above(self, path: str) -> list[pathlib.Path]:
        """Where the name begins above the folder; not if it begins with one in it, which just has no such file."""
        for short in _shortened(path):
            first = path.partition("/")[0]
            if first not in ("", "..") and (self.folder / first).is_dir():
                return []
            if found := self._whole.get(_key(short)):
                return found
            path = short
        return []

    def _of_no_use(self, name: str) -> str:
        file = self._of_any_kind.get(name)
        return f": {file} is there, but {image_files.why_unread(file)}" if file else ""


def _key(name: str) -> str:
    """Equal for names of the same letters, however they are composed, and for bytes that are no letters as written."""
    return unicodedata.normalize("NFC", as_text(name)).strip()


def _shortened(path: str) -> Iterator[str]:
    """'a/b/c' -> 'b/c', 'c'."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _nearest(files: list[pathlib.Path], name: str) -> list[pathlib.Path]:
    """Those that are called so to the letter: with the ending, else without; all where none is."""
    exact = [file for file in files if file.name == name] or [file for file in files if file.stem == name]
    return exact or files


def files_below(folder: pathlib.Path, on_error: Callable[[OSError], None]) -> Iterator[pathlib.Path]:
    """The files in the folder and below, in folders that links lead to too; each folder once, for links may loop.

    `on_error` is told of a folder that cannot be read.
    """
    seen = set()
    for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # so that of two ways to a folder every machine takes the same
        yield from (pathlib.Path(place, name) for name in names)
