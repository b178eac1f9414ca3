"""The files of a run: what is in `--workdir`, written so that a killed process leaves whole files only."""

import contextlib
import csv
import errno
import fcntl
import json
import logging
import os
import pathlib
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stochconv_jax import csv_cells

logger = logging.getLogger(__name__)

ELSEWHERE = "make room, or choose another --workdir"

METRICS = (
    "epoch",
    "step",
    "train_loss",
    "train_roc_auc",
    "val_loss",
    "val_roc_auc",
    "learning_rate",
    "images_per_second",
    "seconds",
)

# Config keys, or beginnings of keys, that change no number of a run. The data is compared by names and labels, not by
# place.
FREE_KEYS = (
    "data.path",
    "data.labels",
    "data.validation_labels",
    "data.image_column",
    "data.target_column",
    "data.num_workers",
    "data.timeout_seconds",
    "data.check",
    "data.hash_distance",
    "checkpoint.every_steps",
    "checkpoint.grace_seconds",
    "eval.batch_size",
    "eval.checkpoint",
    "eval.labels",
    "eval.output",
    "eval.path",
    "distributed.",
    "plan.",
    "predict.",
    "prepare.",
    "report.",
    "sharding.",
    "show.",
    "sweep.",
    "log_every_seconds",
    "compilation_cache",
)


class RunFolder:
    """Paths and files of the run in `path` (created by `create`)."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser().absolute()

    def create(self) -> "RunFolder":
        """Makes the folder; OSError naming it where nothing can be written there."""
        make_writable(self.path, ELSEWHERE)
        return self

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    def has_checkpoint(self, step: int | None = None) -> bool:
        """Whether a checkpoint, or that of `step`, is complete."""
        if step is not None:
            return (self.checkpoints / f"step_{step}").exists()
        return any(path.name.removeprefix("step_").isdigit() for path in self.checkpoints.glob("step_*"))

    @property
    def events(self) -> pathlib.Path:
        return self.path / "events"

    def write_json(self, name: str, content: Mapping) -> pathlib.Path:
        """Writes `content` as `name`, whole or not at all."""
        return write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    def read_config(self) -> dict | None:
        """The content of config.json, or None where no run has begun. ValueError if it is not readable."""
        return self.read_json("config.json")

    def read_json(self, name: str) -> dict | None:
        """The content of the JSON file `name`, or None where there is none. ValueError if it is not readable."""
        file = self.path / name
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text())
            if not isinstance(content, dict):
                raise ValueError("it holds no table of names and values")
        except ValueError as error:
            raise ValueError(f"{file} is not valid JSON ({error}); mend it, or choose another --workdir") from error
        return content

    def read_metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv as written; [] where there is none."""
        return self.read_table("metrics.csv")

    def epochs(self) -> dict[int, int]:
        """The number of each epoch in metrics.csv by the step that ended it. ValueError for a row without them."""
        found = {}
        for line, row in enumerate(self.read_metrics(), start=2):
            try:
                found[int(row["step"])] = int(row["epoch"])
            except (KeyError, TypeError, ValueError) as error:
                where = f"{self.path / 'metrics.csv'}, line {line}"
                raise ValueError(f"{where}: no number of an epoch and its step; mend it, or remove the file") from error
        return found

    def read_table(self, name: str) -> list[dict[str, str]]:
        """The rows of the CSV file `name` as written; [] where there is none. ValueError if it is not readable."""
        file = self.path / name
        if not file.exists():
            return []
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                rows = list(csv.DictReader(lines, restkey="", restval=""))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not a CSV file in UTF-8 ({error})") from error
        return [{name: csv_cells.unguard(text) for name, text in row.items() if name} for row in rows]

    def write_metrics(self, rows: Iterable[Mapping]) -> None:
        """Replaces metrics.csv. Floats are written with all their digits."""
        write_csv(self.path / "metrics.csv", METRICS, rows)


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Mapping]) -> pathlib.Path:
    """Writes a CSV file, whole or not at all."""
    with atomic(path) as file:
        csv_cells.write(file, columns, rows)
    return path


def write_text(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a text file, whole or not at all."""
    with atomic(path) as file:
        file.write(text)
    return path


@contextlib.contextmanager
def atomic(path: pathlib.Path):
    """A text file that takes its name when closed without an error, and otherwise is removed.

    Its mode is that of any new file, by the umask or the folder's default; a file that it replaces may narrow it. The
    text is UTF-8; a byte of a file's name that is in another encoding is written as \\udcXX.
    OSError naming it where it cannot be written.
    """
    with named("write", path, "make room or mend it"):
        handle, temporary = _open_temporary(path)
        try:
            with os.fdopen(handle, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                if path.exists():
                    os.fchmod(handle, os.fstat(handle).st_mode & path.stat().st_mode & 0o777)
                yield file
                file.flush()
                os.fsync(handle)
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _open_temporary(path: pathlib.Path) -> tuple[int, pathlib.Path]:
    """A new file beside `path`, open and locked: `remove_unfinished` leaves those alone that a process still writes."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # it was removed between the two calls


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes the files that killed processes were writing in `folder`; on a file system without locks, none."""
    for file in folder.iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", file.name):
            with contextlib.suppress(OSError), file.open("r+") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()


def make_writable(folder: pathlib.Path, advice: str) -> pathlib.Path:
    """Creates `folder`, and removes what killed processes left unfinished. OSError, with `advice`, if it is read-only.

    To be called before the work whose results go there.
    """
    with named("write into", folder, advice):
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        tempfile.TemporaryFile(dir=folder).close()
    return folder


@contextlib.contextmanager
def named(what: str, path: pathlib.Path, advice: str = ELSEWHERE) -> Iterator[None]:
    """OSErrors inside name `path`, whichever file or folder they were about, and say what to do: `advice`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot {what} {path}: {error.strerror or error}; {advice}") from error


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = ".lock") -> Iterator[None]:
    """Holds `folder` for this process, creating it. OSError naming it if another has it, or it cannot be written.

    `name`: of the file that is locked, where several may work in the folder on different things. The lock goes with the
    process, however that ends, and holds over hosts as far as the file system's `flock` does.
    """
    with named("write into", folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _lock(handle, folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # no holder any more: what is left of equal runs is equal
                os.truncate(handle, 0)
    finally:
        os.close(handle)


def _lock(handle: int, folder: pathlib.Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 1000, 0).decode(errors="replace").strip() or "it has not said which"
        message = f"another process works in {folder} ({holder}): wait for it or end it"
        raise OSError(errno.EAGAIN, message) from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        logger.warning("%s is on a file system without locks: see that no other process works in it", folder)
    with named("write into", folder):
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n".encode(), 0)
