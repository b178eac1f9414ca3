"""Writes files so that a reader, or the next run, finds each of them complete or not at all."""

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from stochconv_jax import csv_cells

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # names of files that are being written


@contextlib.contextmanager
def replace(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the path of a new, empty file beside `path`; it becomes `path` if the block ends without an error.

    A `path` that has the same content already is left as it is, with its time of change. Otherwise the mode is that of
    any new file, by the umask or the folder's default, without the permissions that the replaced file did not have.
    After an error the new file is removed.

    Raises OSError naming `path` if it cannot be created or replaced. The block names its own errors.
    """
    with _explain_write_errors(path):
        handle, temporary = _open_temporary(path)
    try:
        with _explain_write_errors(path):
            if path.exists():
                os.fchmod(handle, os.fstat(handle).st_mode & path.stat().st_mode & 0o777)
        yield temporary
        with _explain_write_errors(path):
            if path.exists() and same_content(path, temporary):
                temporary.unlink()
            else:
                os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def open_text(path: pathlib.Path) -> Iterator[TextIO]:
    """Yields a text file to write, which becomes `path` as in `replace`, once it is on the disk.

    The encoding is UTF-8. A byte of a file's name that is not UTF-8, which Python holds as a surrogate, is written as
    \\udcXX. Raises OSError naming `path` if it cannot be written.
    """
    with (
        replace(path) as temporary,
        _explain_write_errors(path),
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a text file atomically, see `open_text`, and returns its path."""
    with open_text(path) as file:
        file.write(text)
    return path


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Mapping]) -> pathlib.Path:
    """Writes a CSV file atomically, see `open_text` and `csv_cells`, and returns its path."""
    with open_text(path) as file:
        csv_cells.write(file, columns, rows)
    return path


def write_bytes(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Writes a binary file atomically, see `replace`, and returns its path. Does not wait for the disk."""
    with replace(path) as temporary, _explain_write_errors(path):
        temporary.write_bytes(content)
    return path


def same_content(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Returns whether two files hold the same bytes."""
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while chunk := one.read(1 << 20):
            if chunk != other.read(1 << 20):
                return False
    return True


def _open_temporary(path: pathlib.Path) -> tuple[int, pathlib.Path]:
    """Creates a file beside `path` and locks it, so that `remove_unfinished` leaves it alone while it is written."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # another process removed the file before it was locked


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes the files that killed processes were writing in `folder`; none on a file system without locks."""
    for file in folder.iterdir():
        if TEMPORARY.fullmatch(file.name):
            with contextlib.suppress(OSError), file.open("r+") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()


def make_writable(folder: pathlib.Path, advice: str) -> pathlib.Path:
    """Creates `folder` where it is missing, removes unfinished files in it, and returns it.

    Called before the work whose results go there. Raises OSError, with `advice`, if nothing can be written there.
    """
    with explain_os_errors("write into", folder, advice):
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        tempfile.TemporaryFile(dir=folder).close()
    return folder


@contextlib.contextmanager
def explain_os_errors(action: str, path: pathlib.Path, advice: str) -> Iterator[None]:
    """Reraises an OSError of the block as 'cannot ACTION PATH: REASON; ADVICE', with its errno."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot {action} {path}: {error.strerror or error}; {advice}") from error


def _explain_write_errors(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    return explain_os_errors("write", path, "make room or mend it")
