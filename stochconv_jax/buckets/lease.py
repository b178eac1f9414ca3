"""A lease on an address: the lock of a bucket, which has no locks that end with their process.

The holder writes an object again every `RENEW_SECONDS`. A holder whose object has not changed for `DEAD_SECONDS` was
killed. The objects are numbered, and the one with the highest number counts, whether held or released. A process takes
the lease by creating the next number, which the store lets one process do. A holder that finds a higher number has
been taken for dead.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable

from stochconv_jax.buckets.store import Store

logger = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
DEAD_SECONDS = 60.0
POLL_SECONDS = 2.0
ENDING = ".lease"  # of the folders of these objects


class Lost(RuntimeError):
    """Another process has taken the lease."""


class Lease:
    """The lease on the objects of `store` for processes that do `purpose`, a word. It is held from `take` to `release`.

    `now` and `sleep` are those of the module time.
    """

    def __init__(
        self,
        store: Store,
        purpose: str,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._store, self._folder = store, f".{purpose}{ENDING}"
        self._now, self._sleep = now, sleep
        self._me = f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}"
        self._number = 0

    def take(self) -> None:
        """Takes the lease, after a wait of `DEAD_SECONDS` if its holder was killed.

        Raises RuntimeError, naming the holder, if another process has it.
        """
        while True:
            number, content = self._newest()
            if _holder(content):
                self._watch(number, content)
            if self._store.create(self._name(number + 1), self._content(self._me)):
                if max(self._numbers()) == number + 1:
                    break
                self._store.remove([self._name(number + 1)])  # a later lease has been taken and this number removed
        self._number = number + 1
        self._store.remove(self._name(old) for old in self._numbers() if old < self._number)
        # A store that does not know such conditions replaces the object.
        if self._store.create(self._name(self._number), self._content("another")):
            self._store.write(self._name(self._number), self._content(self._me))
            where = self._store.path
            logger.warning("%s is in a store without locks: make sure that no other process works in it", where)

    def renew(self) -> None:
        """Shows other processes that this one is alive. Raises `Lost` if one has taken the lease."""
        self.check()
        self._store.write(self._name(self._number), self._content(self._me))

    def check(self) -> None:
        """Raises `Lost`, naming the holder, if another process has taken the lease."""
        newest = max(self._numbers(), default=0)
        if newest > self._number:
            raise Lost(
                f"{self._store.path}: this process gave no sign for {DEAD_SECONDS:g} s, and another has taken over "
                f"({_holder(self._store.read(self._name(newest)))})"
            )

    def release(self) -> None:
        """Gives the lease back, so that the next process need not wait for it. A failure is logged."""
        try:
            self._store.write(self._name(self._number), self._content(""))
        except OSError as error:
            logger.warning("%s; the next process waits %g s", error, DEAD_SECONDS)

    def _watch(self, number: int, content: bytes) -> None:
        """Waits until a holder that gives no sign counts as dead. Raises RuntimeError if it gives one."""
        end = self._now() + DEAD_SECONDS
        holder = _holder(content)
        logger.info("%s: waiting up to %g s for a sign of %s", self._store.path, DEAD_SECONDS, holder)
        while self._now() < end:
            self._sleep(POLL_SECONDS)
            newest, now = self._newest()
            if not _holder(now):
                return
            if (newest, now) != (number, content):
                holder = _holder(now)
                raise RuntimeError(f"another process works in {self._store.path} ({holder}): wait for it or end it")

    def _newest(self) -> tuple[int, bytes]:
        """Returns the highest number and the content of its object; 0 and that of a released lease if there is none."""
        while True:
            number = max(self._numbers(), default=0)
            try:
                return number, self._store.read(self._name(number)) if number else self._content("")
            except FileNotFoundError:
                continue  # a newer one has replaced it

    def _numbers(self) -> list[int]:
        return [int(name.rpartition("/")[2]) for name in Store(f"{self._store.path}/{self._folder}").names()]

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number}"

    def _content(self, holder: str) -> bytes:
        """Returns the content of an object, which differs from every other."""
        return json.dumps({"holder": holder, "sign": uuid.uuid4().hex}).encode()


def _holder(content: bytes) -> str:
    """Returns the holder that an object names; '' for a lease that was released."""
    try:
        return json.loads(content)["holder"]
    except ValueError:  # a file system, unlike an object store, can be left with half of an object
        return "a process that was killed while it wrote its name"
