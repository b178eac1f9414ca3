"""Checksums of the files of a checkpoint, kept in it, so that what a disk has changed since is found before it is used.

They are of files and not of arrays: what is checked does not depend on the devices that saved or that restore, nor on
the version of the code, and is known before anything is restored.
"""

import json
import pathlib
import zlib

from stochconv_jax.atomic_files import write_text

FILE = "checksums.json"
_CHUNK = 1 << 20  # bytes


def write(checkpoint: pathlib.Path) -> None:
    """Writes the size in bytes and the CRC-32 of every file in the folders of `checkpoint` into its checksums.json.

    Files beside the folders are left out: they hold no number of the run, and Orbax writes them last.
    """
    files = sorted(file for file in checkpoint.glob("*/**/*") if file.is_file())
    sums = {file.relative_to(checkpoint).as_posix(): [file.stat().st_size, _crc32(file)] for file in files}
    write_text(checkpoint / FILE, json.dumps(sums) + "\n")


def exist(checkpoint: pathlib.Path) -> bool:
    """Whether `checkpoint` has checksums; those of older versions have none."""
    return (checkpoint / FILE).exists()


def fault(checkpoint: pathlib.Path) -> str | None:
    """What is wrong with the first file that is not as it was saved; None if all are, or nothing is known of them."""
    if not exist(checkpoint):
        return None
    try:
        text = (checkpoint / FILE).read_text(encoding="utf-8")
        sums = {name: (int(size), int(crc)) for name, (size, crc) in json.loads(text).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{FILE} cannot be read ({error})"
    faults = (_fault(checkpoint / name, name, *expected) for name, expected in sums.items())
    return next(filter(None, faults), None)


def _fault(file: pathlib.Path, name: str, size: int, crc: int) -> str | None:
    try:
        found = file.stat().st_size
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
        return None if _crc32(file) == crc else f"{name} is not what was written: its checksum differs"
    except FileNotFoundError:
        return f"{name} is gone"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _crc32(file: pathlib.Path) -> int:
    crc = 0
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
