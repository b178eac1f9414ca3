"""Lets a mode work in a bucket: its --workdir becomes a local copy, which is uploaded while the mode runs."""

import contextlib
import fcntl
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

from stochconv_jax.buckets.lease import RENEW_SECONDS, Lease, Lost
from stochconv_jax.buckets.mirror import Mirror
from stochconv_jax.buckets.store import Store
from stochconv_jax.runtime import watchdog

logger = logging.getLogger(__name__)

UPLOAD_SECONDS = 10.0  # between two uploads of what has changed
PREFIX = "stochconv_jax_"  # of temporary folders
_LOCK = ".lock"


@contextlib.contextmanager
def local_copy(address: str, mode: str) -> Iterator[str]:
    """Yields a temporary local copy of the files below `address`, in which `mode` works.

    What changes there is uploaded every `UPLOAD_SECONDS` and at the end. Messages and errors name the address in place
    of the copy. Two processes with the same mode and address exclude each other. The process ends with code 1 if
    another has taken it for dead.

    Raises RuntimeError if another process is at work, and OSError if the store fails. If that is at the end, the copy
    remains, and the error names it.
    """
    store = Store(address)
    with _temporary_folder() as base, contextlib.ExitStack() as stack:
        folder = base / store.path.name
        stack.enter_context(_named(folder, str(store.path)))
        lease = Lease(store, mode)
        lease.take()
        stack.callback(lease.release)
        stack.enter_context(_every(RENEW_SECONDS, lease.renew))
        mirror = Mirror(store, folder, base / ".upload", removes=mode in ("train", "sweep"))
        mirror.download(checkpoints=mode != "report")

        def upload() -> None:
            lease.check()
            mirror.upload()

        with _last(upload, base, folder), _every(UPLOAD_SECONDS, upload):
            yield str(folder)


@contextlib.contextmanager
def downloaded(folder: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
    """Yields `folder`, or a temporary copy of the files below it if it is an address; errors name the address."""
    if "://" not in os.fspath(folder):
        yield folder
        return
    store = Store(os.fspath(folder))
    with _temporary_folder() as base, _named(copy := base / store.path.name, str(store.path)):
        Mirror(store, copy, base / ".upload", removes=False).download()
        yield copy


@contextlib.contextmanager
def _last(upload: Callable[[], None], base: pathlib.Path, folder: pathlib.Path) -> Iterator[None]:
    """Uploads at the end of the block, whether or not it raises an error. If that fails, `base` is kept."""
    try:
        yield
    finally:
        under_way = sys.exception()
        try:
            upload()
        except BaseException as error:  # also Ctrl-C: the copy may be the only one
            (base / _LOCK).unlink()
            folder.rename(kept := base / f"kept_{folder.name}")  # `_named` does not replace this path
            message = f"{error or type(error).__name__}. The last changes are in {kept} alone: copy it into the bucket"
            if under_way is None and isinstance(error, Exception):
                raise OSError(message) from error
            logger.error("%s", message)
            if not isinstance(error, Exception):
                raise


@contextlib.contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` every so many `seconds` in a thread while the block runs. Ends this process if it raises `Lost`.

    Other errors are logged, because the next call may succeed.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                action()
            except Lost as error:
                print(f"stochconv_jax: {error}", file=sys.stderr)
                watchdog.end_process(1)
            except Exception as error:
                logger.warning("%s; the next try is in %g s", error, seconds)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _named(folder: pathlib.Path, address: str) -> Iterator[None]:
    """Replaces the path of `folder` by `address` in the messages that are logged in the block and in its errors."""

    def named(text: str) -> str:
        return text.replace(str(folder), address)

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = named(record.getMessage()), ()
        return True

    handlers = logging.getLogger("stochconv_jax").handlers
    for handler in handlers:
        handler.addFilter(rename)
    try:
        yield
    except Exception as error:
        error.args = tuple(named(word) if isinstance(word, str) else word for word in error.args)
        if isinstance(error, OSError) and error.strerror:
            error.strerror = named(error.strerror)
            error.filename = named(str(error.filename)) if error.filename else error.filename
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(rename)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[pathlib.Path]:
    """Yields a new folder, which is removed at the end unless its lock file is gone.

    Folders of processes that were killed are removed first.
    """
    for lock in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+") as left:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
    base = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
    with (base / f"{_LOCK}.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (base / f"{_LOCK}.new").rename(base / _LOCK)  # nobody finds it before it is locked
        try:
            yield base
        finally:
            if (base / _LOCK).exists():
                shutil.rmtree(base)
