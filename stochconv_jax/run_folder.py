"""The files of a run, in the folder that `--workdir` names, and the lock that keeps other processes out of it."""

import contextlib
import csv
import errno
import fcntl
import json
import logging
import os
import pathlib
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stochconv_jax import csv_cells
from stochconv_jax.atomic_files import explain_os_errors, make_writable, write_csv, write_text

logger = logging.getLogger(__name__)

# In config.json of a run of a fold: a CRC-32 of the names and classes of the images of all folds together.
ALL_FOLDS = "all_folds_crc32"
WORKDIR_ADVICE = "make room, or choose another --workdir"

METRICS = (  # columns of metrics.csv
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

# Config keys, or prefixes of keys, that do not affect the results of a training run: a run may continue with other
# values of them. The keys that say where the data is are among them, because names and labels of the images are
# compared instead.
FREE_KEYS = (
    "data.path",
    "data.labels",
    "data.validation_labels",
    "data.image_column",
    "data.target_column",
    "data.classes",
    "data.num_workers",
    "data.timeout_seconds",
    "data.check",
    "data.hash_distance",
    "checkpoint.every_steps",
    "checkpoint.grace_seconds",
    "eval.batch_size",
    "eval.checkpoint",
    "eval.coverage",
    "eval.labels",
    "eval.output",
    "eval.path",
    "eval.sensitivity",
    "eval.views",
    "distributed.",
    "export.",
    "plan.",
    "predict.",
    "prepare.",
    "report.",
    "sharding.",
    "show.",
    "sweep.",
    "log.",
    "log_every_seconds",
    "compilation_cache",
)


class RunFolder:
    """The paths and files of the run in the folder `path`, which `create` creates."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser().absolute()

    def create(self) -> "RunFolder":
        """Creates the folder. Raises OSError naming it if nothing can be written there."""
        make_writable(self.path, WORKDIR_ADVICE)
        return self

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    def has_checkpoint(self, step: int | None = None) -> bool:
        """Returns whether there is a complete checkpoint, of `step` if that is given."""
        if step is not None:
            return (self.checkpoints / f"step_{step}").exists()
        return any(path.name.removeprefix("step_").isdigit() for path in self.checkpoints.glob("step_*"))

    @property
    def events(self) -> pathlib.Path:
        return self.path / "events"

    def write_json(self, name: str, content: Mapping) -> pathlib.Path:
        """Writes `content` as the JSON file `name`, atomically, and returns its path."""
        return write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    def read_config(self) -> dict | None:
        """Returns the content of config.json, or None if no run has started. Raises ValueError if it is not valid."""
        return self.read_json("config.json")

    def read_json(self, name: str) -> dict | None:
        """Returns the content of the JSON file `name`, or None if there is no such file.

        Raises ValueError, naming the file, if it is not valid JSON or holds no table of names and values.
        """
        file = self.path / name
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text())
            if not isinstance(content, dict):
                raise ValueError("expected a table of names and values")
        except ValueError as error:
            raise ValueError(f"{file} is not valid JSON ({error}); mend it, or choose another --workdir") from error
        return content

    def read_metrics(self) -> list[dict[str, str]]:
        """Returns the rows of metrics.csv as text, or [] if there is no such file."""
        return self.read_table("metrics.csv")

    def epochs(self) -> dict[int, int]:
        """Returns {last step of an epoch: number of the epoch} for every row of metrics.csv.

        Raises ValueError, naming the line, for a row without these numbers.
        """
        found = {}
        for line, row in enumerate(self.read_metrics(), start=2):
            try:
                found[int(row["step"])] = int(row["epoch"])
            except (KeyError, TypeError, ValueError) as error:
                where = f"{self.path / 'metrics.csv'}, line {line}"
                message = f"{where}: expected numbers in the columns epoch and step; mend them, or remove the file"
                raise ValueError(message) from error
        return found

    def read_table(self, name: str) -> list[dict[str, str]]:
        """Returns the rows of the CSV file `name` as text by column, or [] if there is no such file.

        Raises ValueError, naming the file, if it is not a CSV file in UTF-8.
        """
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
        """Replaces metrics.csv atomically. Floats are written with all their digits."""
        write_csv(self.path / "metrics.csv", METRICS, rows)


def split_workdirs(workdir: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the paths of the folders in `workdir`, which are separated by commas.

    Several are absolute and without '..', as `common_folder` needs them. A path that exists is one folder even if it
    has a comma.
    """
    whole, parts = pathlib.Path(workdir).expanduser(), os.fspath(workdir).split(",")
    if len(parts) == 1 or whole.exists():
        return [whole]
    found = [RunFolder(part.strip()).path for part in parts if part.strip()]
    return [path.resolve() if ".." in path.parts else path for path in found] or [whole]


def common_folder(paths: Sequence[pathlib.Path]) -> pathlib.Path:
    """Returns the deepest folder that each of `paths` is or lies in; several are absolute and without '..'."""
    return paths[0] if len(paths) == 1 else pathlib.Path(os.path.commonpath(paths))


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = ".lock") -> Iterator[None]:
    """Holds a lock on `folder`, which is created if missing, for this process while the block runs.

    `name`: the file that is locked; processes that work in one folder on different things lock different files. The
    lock ends with the process, however that ends, and holds across hosts as far as the file system's `flock` does.
    Raises OSError, naming the folder and the holder, if another process has the lock or nothing can be written there.

    The package filelock is not used: its FileLock, which uses `flock` too, does not record who holds the lock, and its
    SoftFileLock, which does, cannot tell that a process killed on another host is gone.
    """
    with explain_os_errors("write into", folder, WORKDIR_ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _lock(handle, folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # an empty lock file, so that equal runs leave equal folders
                os.truncate(handle, 0)
    finally:
        os.close(handle)


def _lock(handle: int, folder: pathlib.Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 1000, 0).decode(errors="replace").strip() or "not recorded which"
        message = f"another process works in {folder} ({holder}): wait for it or end it"
        raise OSError(errno.EAGAIN, message) from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        logger.warning("%s is on a file system without locks: make sure that no other process works in it", folder)
    with explain_os_errors("write into", folder, WORKDIR_ADVICE):
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n".encode(), 0)
