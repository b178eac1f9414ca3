"""Files that are whole or not there."""

import contextlib
import errno
import io
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stochconv_jax import csv_cells

TEMPORARY = ".part"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replace(file: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `file` when the block ends without an error and is removed otherwise.

    A file that would not change is left as it was.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        if file.exists() and same(file, temporary):
            temporary.unlink()
        else:
            os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _NO_ROOM:  # Python names no file here
            reason = f"{error.strerror}; make room and run again"
            raise OSError(error.errno, f"{file} cannot be written: {reason}") from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(file: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all; see `run_folder.atomic` for what is no letter of UTF-8."""
    with replace(file) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_csv(file: pathlib.Path, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Writes a CSV file, whole or not at all."""
    text = io.StringIO(newline="")
    csv_cells.write(text, columns, rows)
    write_text(file, text.getvalue())


def same(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Whether two files have the same content."""
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while chunk := one.read(1 << 20):
            if chunk != other.read(1 << 20):
                return False
    return True


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes what killed runs left behind."""
    for path in sorted(folder.rglob(f".*{TEMPORARY}")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
