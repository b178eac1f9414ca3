"""Reads files in folders, in archives (zip and HDF5 files), and at addresses such as gs://bucket/images.

An archive is used as a folder: images.zip/cat/1.jpg is a file in images.zip. `parse` returns an ordinary path for a
local file, and otherwise a `VirtualPath`, which has the reading methods of a path.
"""

import abc
import contextlib
import errno
import functools
import glob
import io
import lzma
import os
import pathlib
import posixpath
import re
import time
import urllib.parse
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
from fsspec.implementations.zip import ZipFileSystem

from stochconv_jax.data.hdf5 import Hdf5FileSystem
from stochconv_jax.data.parts import Parts

WAITS = (1.0, 4.0)  # seconds before the second and the third try to read from an address
_ARCHIVES = {".zip": ZipFileSystem, ".hdf5": Hdf5FileSystem, ".h5": Hdf5FileSystem}
_ENDING = re.compile(r"\.(zip|hdf5|h5)(?=/|$)", re.IGNORECASE)
_KEPT = ("name", "size", "type")  # the entries of a file's description that are used
_FileSystem = Any  # an fsspec.AbstractFileSystem, whose methods return unions of types
_BUFFER = 2**18  # bytes of an archive at an address that are read at once
_URL_CHARACTERS = ":/?=&+%@~,"  # characters that are not quoted in a web address
# The packages that read addresses, and the extras that install them, by the scheme of the address.
_PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3"), "http": ("aiohttp", "http"), "https": ("aiohttp", "http")}
# Errors by which a store answers a request, which is then not repeated, and their numbers.
_ANSWERS = {
    FileNotFoundError: errno.ENOENT,
    KeyError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
}


class Unreachable(OSError):
    """Raised if a file at an address cannot be used because of its store or the network, not because of its content."""


def parse(text: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path for a user's `text`, which may begin with ~ or file://."""
    if isinstance(text, VirtualPath):
        return text
    path = pathlib.Path(os.path.expanduser(text).removeprefix("file://"))
    if _archive_of(path):
        return ArchivePath(path)
    return AddressPath(path) if is_address(str(path)) else path


def is_address(text: str) -> bool:
    """Returns whether `text` begins with the scheme of an address, such as gs:// or, as pathlib writes it, gs:/."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", text) is not None


def state(file: pathlib.Path) -> tuple[int, int]:
    """Returns a file's length in bytes and a number that changes with its content.

    The number is the time of change in ns; for a file in an archive, the archive's; and for a file at an address, a
    CRC-32 of its description by the store. Raises OSError if there is no such file.
    """
    if isinstance(file, VirtualPath):
        return file.state()
    status = file.stat()
    return status.st_size, status.st_mtime_ns


class VirtualPath(pathlib.PosixPath, abc.ABC):
    """Reads a file or folder in an archive or at an address, which cannot be written.

    Holds only the text of the path, so that it can be pickled. Each process opens its own archives and connections. The
    methods that read raise OSError naming the path, and ValueError if the file or archive is damaged or encrypted, or a
    package is missing.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(":/", "://", 1) if is_address(text) else text  # pathlib leaves one slash

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Returns whether there is such a file or folder."""
        return bool(self._kind())

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Returns whether the path is a folder or an archive."""
        return self._kind() == "directory"

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Returns whether the path is a file and not an archive."""
        return self._kind() == "file"

    def iterdir(self) -> Iterator["VirtualPath"]:
        """Yields the files and folders in this folder, sorted."""
        yield from self._listed(lambda system, place: system.ls(place, detail=False))

    def files_below(self) -> Iterator["VirtualPath"]:
        """Yields the files in this folder and below it, sorted."""
        yield from self._listed(lambda system, place: system.find(place))

    def matches(self, pattern: str) -> list[pathlib.Path]:
        """Returns the files and folders below this folder that match a glob pattern, sorted."""
        return list(self._listed(lambda system, place: system.glob(os.path.join(glob.escape(place), pattern))))

    def read_bytes(self) -> bytes:
        """Returns the content of the file."""
        return self._ask(lambda system, place: system.cat_file(place))

    def open(self, mode: str = "rb", buffering: int = -1, **_: Any) -> io.BufferedReader:
        """Returns the file opened for reading; `buffering` is the number of bytes that are read at once."""
        content = Parts(self.read_part, lambda: self.state()[0])
        return io.BufferedReader(content, buffering if buffering > 0 else io.DEFAULT_BUFFER_SIZE)

    def read_part(self, start: int, end: int) -> bytes:
        """Returns the bytes from `start` up to, not including, `end`; the file must have that many."""
        content = self._ask(lambda system, place: system.cat_file(place, start=start, end=end))
        return content if len(content) <= end - start else content[start:end]  # some web servers send the whole file

    def state(self) -> tuple[int, int]:
        """Implements the function `state`."""
        about = self._ask(lambda system, place: system.info(place))
        size = about.get("size")
        return len(self.read_bytes()) if size is None else size, self._change(about)

    @abc.abstractmethod
    def _ask[Made](self, action: Callable[[_FileSystem, str], Made]) -> Made:
        """Returns what `action` returns for a file system and the place of this path in it."""

    @abc.abstractmethod
    def _change(self, about: dict[str, Any]) -> int:
        """Returns the number that changes with the file's content; `about` is the file system's description of it."""

    def _kind(self) -> str:
        """Returns 'directory', 'file' or, if there is nothing, ''."""

        def ask(system: _FileSystem, place: str) -> str:
            # The top is a folder even if it is empty, and a web server has pages with links in place of folders.
            is_folder = not place or ("http" in system.protocol and system.isdir(place))
            return "directory" if is_folder else system.info(place)["type"]

        try:
            return self._ask(ask)
        except FileNotFoundError:
            return ""

    def _listed(self, names: Callable[[_FileSystem, str], list[str]]) -> Iterator["VirtualPath"]:
        """Yields the paths below this one that `names` lists."""
        place, found = self._ask(lambda system, place: (place, names(system, place)))
        below = [name.removeprefix(place).strip("/") for name in found]
        yield from (self / name for name in sorted(map(self._unquote, below)))

    def _unquote(self, name: str) -> str:
        """Returns a name as it is in a local folder."""
        return name


class ArchivePath(VirtualPath):
    """Reads a file or folder in an archive, which is local or at an address."""

    def _ask[Made](self, action: Callable[[_FileSystem, str], Made]) -> Made:
        archive = _archive_of(self)
        with _naming(self):
            system = _open_archive(archive, _time_of_change(archive), os.getpid())
            try:
                return action(system, str(self).removeprefix(archive).lstrip("/"))
            except (zipfile.BadZipFile, RuntimeError, zlib.error, lzma.LZMAError, EOFError) as error:
                raise ValueError(f"it cannot be read from its archive ({error}); create the archive again") from error

    def _change(self, about: dict[str, Any]) -> int:
        del about
        return _time_of_change(_archive_of(self))


class AddressPath(VirtualPath):
    """Reads a file or folder at an address."""

    def _ask[Made](self, action: Callable[[_FileSystem, str], Made]) -> Made:
        return request(self, action)

    def _change(self, about: dict[str, Any]) -> int:
        return zlib.crc32(repr(sorted((key, str(value)) for key, value in about.items())).encode())

    def _unquote(self, name: str) -> str:
        return urllib.parse.unquote(name) if _is_url(str(self)) else name


def request[Made](path: VirtualPath, action: Callable[[_FileSystem, str], Made]) -> Made:
    """Returns what `action` returns for fsspec's file system of an address and the place of `path` in it.

    A request that fails is made again, after each of the `WAITS`. Raises OSError naming the path, and ValueError if a
    package is missing.
    """
    address = urllib.parse.quote(str(path), _URL_CHARACTERS) if _is_url(str(path)) else str(path)
    waits = iter(WAITS)
    while True:
        try:
            with _naming(path):
                return action(*fsspec.core.url_to_fs(address))
        except (*_ANSWERS, ValueError):
            raise
        except Exception as error:  # each store has its own classes of errors
            if (wait := next(waits, None)) is None:
                reason = f"no answer in {len(WAITS) + 1} tries ({type(error).__name__}: {_one_line(error)})"
                raise Unreachable(errno.EIO, reason, str(path)) from error
        time.sleep(wait)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


@contextlib.contextmanager
def _naming(path: VirtualPath) -> Iterator[None]:
    """Names the path in the errors of a file system, and the package to install in the error for a missing package."""
    try:
        yield
    except tuple(_ANSWERS) as error:
        code = next(code for kind, code in _ANSWERS.items() if isinstance(error, kind))
        raise OSError(code, os.strerror(code), str(path)) from error
    except ImportError as error:
        scheme = str(path).partition("://")[0]
        package, extra = _PACKAGES.get(scheme, ("", ""))
        advice = f"pip install {package} (the extra `{extra}`)" if package else _one_line(error)
        raise ValueError(f"{path}: {scheme}:// cannot be read: {advice}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _archive_of(path: pathlib.Path) -> str:
    """Returns the archive that the path is or is in; '' if there is none."""
    text = str(path)
    candidates = (text[: match.end()] for match in _ENDING.finditer(text))
    return next((place for place in candidates if is_address(place) or os.path.isfile(place)), "")


def _time_of_change(archive: str) -> int:
    """Returns the archive's time of change in ns; at an address, the number of `state`, requested once per process."""
    return _state_at_address(archive)[1] if is_address(archive) else os.stat(archive).st_mtime_ns


@functools.lru_cache(maxsize=8)
def _state_at_address(archive: str) -> tuple[int, int]:
    return AddressPath(archive).state()


@functools.lru_cache(maxsize=8)
def _open_archive(archive: str, changed: int, process: int) -> _FileSystem:
    """Returns the file system in an archive. Each process opens it once, and again when it has changed.

    `process`: the number of this process. A fork must not read the file that its parent has opened, because they would
    share the position in it.
    """
    del changed, process
    file = AddressPath(archive) if is_address(archive) else pathlib.Path(archive)
    opened = file.open("rb", buffering=_BUFFER)
    try:
        system = _ARCHIVES[pathlib.PurePath(archive).suffix.lower()](opened)
        weakref.finalize(system, opened.close)
        if isinstance(system, ZipFileSystem):
            _simplify_names(system.zip)
        system.ls("")  # fsspec lists an archive at its first use, and other threads would then see a part of the list
        # For each file fsspec keeps the whole entry of the zip, which is half of the memory that an open zip takes.
        files: dict[str, Any] = system.dir_cache or {}
        system.dir_cache = {name: {key: about[key] for key in _KEPT} for name, about in files.items()}
        return system
    except Exception as error:  # the class depends on the damage
        opened.close()
        for cause in (error, error.__context__):  # zipfile takes a failed read for damage
            if isinstance(cause, OSError) and cause.errno:
                raise cause from None
        raise ValueError(f"{archive}: not a zip or HDF5 file, or damaged ({error})") from error


def _simplify_names(archive: zipfile.ZipFile) -> None:
    """Names each file by its path from the top, as a folder does: x/1.jpg for /x/1.jpg and for ./x//1.jpg."""
    for member in archive.infolist():
        end = "/" if member.is_dir() else ""
        member.filename = posixpath.normpath(f"/{member.filename}").lstrip("/") + end
        archive.NameToInfo[member.filename] = member
    archive.filelist[:] = [member for member in archive.filelist if member.filename != "/"]
