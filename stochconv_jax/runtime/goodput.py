"""Measures goodput: how the wall time of all starts of a run was spent. No JAX here.

Each moment of a start belongs to exactly one of `PARTS`, so their seconds add up to the start's wall time:

    start        imports, joining the other processes, checking images, restoring a checkpoint
    compilation  the first call of each compiled step, which traces it and compiles it or reads it from the cache
    input        waiting for a batch
    steps        training steps, and everything that is not named here
    evaluation   evaluation at the end of an epoch
    saves        waiting for a checkpoint to be written
    repeated     input, steps, evaluation and saves of steps that an earlier start had done but not saved
"""

import contextlib
import datetime
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import watchdog

logger = logging.getLogger(__name__)

FILE = "goodput.json"
START, COMPILATION, INPUT, STEPS, EVALUATION, SAVES, REPEATED = PARTS = (
    "start", "compilation", "input", "steps", "evaluation", "saves", "repeated",
)  # fmt: skip
RUNNING, FAILED = "running", "failed"
WRITE_SECONDS = 10.0  # between two records of this start; a kill loses the time after the last record
WAITING_SHARE = 0.2  # a warning is logged if input takes more than this share of the time of input and steps
ENOUGH_SECONDS = 60.0  # of input and steps before the warning; earlier, the slow first batch would dominate
Item = TypeVar("Item")


class Goodput:
    """A context manager that measures this start and appends it to the earlier starts in goodput.json.

    Set `state` to how the start ended, which is recorded. An exception sets it to 'failed'.

    Args:
      folder: the folder of the run.
      writes: whether this process writes the file; exactly one process should.
      timeout_seconds: the longest wait for the last record. After it the watchdog ends the process.
      advice: the end of the warning about long waits for input: what to do about them.
      began: the time on `clock` when this start began, in seconds.
      clock: returns seconds and never goes back.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        writes: bool,
        timeout_seconds: float,
        advice: str,
        began: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.state = RUNNING
        self._folder, self._writes, self._timeout = folder, writes, timeout_seconds
        self._advice, self._clock = advice, clock
        self._seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._parts: list[str] = [START]  # nested parts, the innermost last
        self._since = began
        self._written = -math.inf
        self._time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._earlier: list[Mapping[str, Any]] = []
        self._first = self._step = self._reached = 0
        self._writer = threading.Thread()
        self._warned = False

    def __enter__(self) -> "Goodput":
        if self._writes:
            self._read()
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:
            self.state = FAILED
        content = self._content()
        logger.info("%s", in_words(content))
        self._warn()
        if self._writes:
            with watchdog.within(self._timeout, since=f"the last record in {FILE}"):
                if self._writer.is_alive():
                    self._writer.join()
                self._write(content)

    def go_on_at(self, step: int) -> None:
        """Sets the step from which this start continues. Later steps of earlier starts count as repeated."""
        self._first = self._step = step

    def begin(self, part: str) -> None:
        """Counts the time from now on as `part`, except for parts that are nested in it."""
        self._count()
        self._parts[0] = part

    @contextlib.contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Counts the time inside the context as `part` only."""
        self._count()
        self._parts.append(part)
        try:
            yield
        finally:
            self._count()
            self._parts.pop()

    def timed(self, part: str, function: Callable[..., Item]) -> Callable[..., Item]:
        """Returns `function`, with the time of its calls counted as `part`."""

        def call(*arguments):
            with self.during(part):
                return function(*arguments)

        return call

    def compiled(self, step: Callable[..., Item]) -> Callable[..., Item]:
        """Returns `step`, with the time of its first call counted as compilation."""
        first = iter([self.timed(COMPILATION, step)])
        return lambda *arguments: next(first, step)(*arguments)

    def batches(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Returns the training batches. Each of them begins a step, and the time to wait for it counts as input."""

        def following() -> Item:
            self._count()
            self._step += 1
            with self.during(INPUT):
                return next(batches)

        return _Calls(following)

    def recording(self, function: Callable[..., Item]) -> Callable[..., Item]:
        """Returns `function`, whose calls also record the start every WRITE_SECONDS seconds. Call it often."""

        def call(*arguments):
            if self._clock() - self._written >= WRITE_SECONDS and not self._writer.is_alive():
                self._written = self._clock()
                self._warn()
                if self._writes:
                    # In a thread, so that training does not wait for the file.
                    self._writer = threading.Thread(target=self._write, args=(self._content(),), daemon=True)
                    self._writer.start()
            return function(*arguments)

        return call

    def _count(self) -> None:
        now, part = self._clock(), self._parts[-1]
        again = self._first < self._step <= self._reached
        if again and part in (INPUT, STEPS, EVALUATION, SAVES):
            part = REPEATED
        self._seconds[part] += now - self._since
        self._since = now

    def _content(self) -> dict[str, Any]:
        self._count()
        this = {"time": self._time, "state": self.state, "first_step": self._first, "step": self._step}
        starts = [*self._earlier, this | {"seconds": dict(self._seconds)}]
        total = {part: sum(start["seconds"].get(part, 0.0) for start in starts) for part in PARTS}
        return {"wall_seconds": sum(total.values()), "seconds": total, "starts": starts}

    def _read(self) -> None:
        """Reads the records of earlier starts. A file that cannot be used is logged, and the record begins anew."""
        try:
            self._earlier = (self._folder.read_json(FILE) or {}).get("starts", [])
            self._reached = max((int(start["step"]) for start in self._earlier), default=0)
            self._content()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            logger.warning("%s is not used, and begins anew: %r", self._folder.path / FILE, error)
            self._earlier, self._reached = [], 0

    def _write(self, content: Mapping[str, Any]) -> None:
        """Writes the file. A failure is only logged, because the next save fails too if the cause persists."""
        try:
            self._folder.write_json(FILE, content)
        except OSError as error:
            logger.warning("%s", error.strerror or error)

    def _warn(self) -> None:
        self._count()
        waits, training = self._seconds[INPUT], self._seconds[INPUT] + self._seconds[STEPS]
        if not self._warned and training >= ENOUGH_SECONDS and waits > WAITING_SHARE * training:
            self._warned = True
            logger.warning("%.0f %% of the training time waits for images: %s", 100 * waits / training, self._advice)


class _Calls(Iterator[Item]):
    """An iterator over the results of calls of a function. Unlike a generator, it keeps no reference to a batch."""

    def __init__(self, function: Callable[[], Item]):
        self._function = function

    def __next__(self) -> Item:
        return self._function()


def in_words(content: Mapping[str, Any]) -> str:
    """Returns the content of goodput.json as one line of text."""
    wall, count = content["wall_seconds"], len(content["starts"])
    spent = {part: seconds for part, seconds in content["seconds"].items() if seconds}
    shares = [f"{part} {seconds:.1f} s ({seconds / wall:.0%})" for part, seconds in spent.items()]
    return f"{wall:.1f} s in {count} start{'s' if count > 1 else ''}: {', '.join(shares)}"
