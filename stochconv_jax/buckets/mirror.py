"""A local copy of the files below an address, and the upload of what changes in it.

The bucket is at every moment in a state in which a run can continue: a checkpoint counts once its file `MARKER` is
there, which comes last and goes first; new checkpoints come before the other files, and old ones go at the end.
"""

import contextlib
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator

from stochconv_jax.atomic_files import TEMPORARY
from stochconv_jax.buckets.lease import ENDING
from stochconv_jax.buckets.store import Store

logger = logging.getLogger(__name__)

MARKER = "_CHECKPOINT_METADATA"  # Orbax writes it into every complete checkpoint
CHECKSUMS = "checksums.json"
LAST = (CHECKSUMS, MARKER)  # of a checkpoint's files
DOWNLOADS = 3  # tries, if another process removes files meanwhile
_PARENT = "checkpoints"
_FOLDER = re.compile(r"step_\d+(\.damaged\d*)?")  # of a checkpoint; others in the parent are being written or removed
_State = tuple[int, int, int]  # a file's size in bytes, time of change in ns, and inode


class Mirror:
    """The files of `store` in the local `folder`. `scratch`: an empty folder of the same file system.

    Only what changes in `folder` is uploaded. Checkpoints that are removed there are removed from the store if
    `removes`; other files never are.
    """

    def __init__(self, store: Store, folder: pathlib.Path, scratch: pathlib.Path, *, removes: bool):
        self._store, self._folder, self._scratch, self._removes = store, folder, scratch, removes
        self._uploaded: dict[str, _State] = {}
        self._checkpoints: set[str] = set()  # names of objects of checkpoints that are here or are to be removed

    def download(self, *, checkpoints: bool = True) -> None:
        """Downloads all files, with or without those of `checkpoints`."""
        for attempt in range(DOWNLOADS):
            there = [name for name in self._store.names() if ENDING not in name]
            parts = {name: _checkpoint_of(name) for name in there}
            complete = {part for name, part in parts.items() if part and name == f"{part}/{MARKER}"}
            wanted = [name for name in there if not parts[name] or (checkpoints and parts[name] in complete)]
            try:
                self._store.download({name: self._folder / name for name in wanted})
                break
            except FileNotFoundError:
                shutil.rmtree(self._folder)
                if attempt == DOWNLOADS - 1:
                    raise
        self._folder.mkdir(parents=True, exist_ok=True)
        self._uploaded = {name: _state(self._folder / name) for name in wanted}
        if checkpoints:
            self._checkpoints = {name for name in there if parts[name]}
        if wanted:
            logger.info("%s: %d files downloaded", self._store.path, len(wanted))

    def upload(self) -> None:
        """Uploads the files that have changed, as they are at one moment, and removes old checkpoints."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        # Other files first: metrics.csv must not be newer than the list of checkpoints.
        others = self._link(name for name in self._names(self._folder) if not _checkpoint_of(name))
        parts = {}
        for marker in self._folder.glob(f"**/{_PARENT}/*/{MARKER}"):
            if _FOLDER.fullmatch(marker.parent.name):
                parts |= self._link_checkpoint(marker)
        self._checkpoints |= parts.keys()
        ends = [{name: parts.pop(name) for name in list(parts) if name.endswith(f"/{end}")} for end in LAST]
        for group in (parts, *ends, others):
            self._store.upload({name: self._scratch / name for name in group})
            self._uploaded |= group
        if self._removes:
            gone = {name for name in self._checkpoints if not (self._folder / name).exists()}
            self._store.remove(sorted(gone, key=lambda name: (not name.endswith(f"/{MARKER}"), name)))
            self._checkpoints -= gone
            self._uploaded = {name: state for name, state in self._uploaded.items() if name not in gone}
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _link_checkpoint(self, marker: pathlib.Path) -> dict[str, _State]:
        """Links the changed files of the checkpoint of `marker` as `_link` does; {} if it is removed meanwhile."""
        checkpoint = marker.parent
        # The checksums first: the files that they list are there.
        linked = self._link([(checkpoint / CHECKSUMS).relative_to(self._folder).as_posix()])
        linked |= self._link(name for name in self._names(checkpoint) if name not in linked)
        return linked if marker.exists() else {}

    def _link(self, names: Iterable[str]) -> dict[str, _State]:
        """Links the changed files of `names` into the scratch folder, and returns their states by name.

        There they stay as they are, because files are replaced and not changed.
        """
        linked = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if self._uploaded.get(name) != _state(self._folder / name):
                    (self._scratch / name).parent.mkdir(parents=True, exist_ok=True)
                    os.link(self._folder / name, self._scratch / name)
                    linked[name] = _state(self._scratch / name)
        return linked

    def _names(self, top: pathlib.Path) -> Iterator[str]:
        """Yields the names of the files in and below `top`, without links and files that are being written."""
        for place, folders, files in os.walk(top):
            folder = pathlib.Path(place)
            if folder.name == _PARENT:
                folders[:] = filter(_FOLDER.fullmatch, folders)
            for name in files:
                if not (TEMPORARY.fullmatch(name) or name.endswith(".lock") or (folder / name).is_symlink()):
                    yield (folder / name).relative_to(self._folder).as_posix()


def _checkpoint_of(name: str) -> str:
    """Returns the folder of the checkpoint that the file `name` is in, or '' if it is in none."""
    parts = name.split("/")
    ends = (end for end in range(2, len(parts)) if parts[end - 2] == _PARENT and _FOLDER.fullmatch(parts[end - 1]))
    return "/".join(parts[: next(ends, 0)])


def _state(file: pathlib.Path) -> _State:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
