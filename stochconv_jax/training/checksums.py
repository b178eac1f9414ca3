"""Checksums of the files of a checkpoint, kept with it, by which damage on the disk is found before the checkpoint is
used.

Files are checked rather than arrays, so that a check depends neither on the devices that save or restore nor on the
version of the code, and comes before anything is restored.
"""

import json
import pathlib
import zlib

from stochconv_jax.atomic_files import write_text

FILE = "checksums.json"
_CHUNK = 1 << 20  # bytes


def write(checkpoint: pathlib.Path) -> None:
    """Writes the size in bytes and the CRC-32 of every file in the subfolders of `checkpoint` into its checksums.json.

    Files directly in `checkpoint` are left out: they contain no arrays, and Orbax writes them last.
    """
    files = sorted(file for file in checkpoint.glob("*/**/*") if file.is_file())
    sums = {file.relative_to(checkpoint).as_posix(): [file.stat().st_size, _crc32(file)] for file in files}
    write_text(checkpoint / FILE, json.dumps(sums) + "\n")


def exist(checkpoint: pathlib.Path) -> bool:
    """Returns whether `checkpoint` has checksums; checkpoints of older versions have none."""
    return (checkpoint / FILE).exists()


def fault(checkpoint: pathlib.Path) -> str | None:
    """Returns what is wrong with the first damaged file, or None if no file is damaged or there are no checksums."""
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
    """Returns what is wrong with `file`, which had `size` bytes and the checksum `crc` when it was saved."""
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
