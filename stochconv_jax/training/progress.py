"""One line that says where a long piece of work is, how fast it goes and how long it still takes."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """'1:02:03' or '2:03'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Logs progress at most every `every` seconds, and when all `total` units are done.

    `unit` names what is counted. Rate and time left are those of the work since the line before and since the start, so
    compilation, which comes before the first unit, counts once only. `clock` returns seconds.
    """

    def __init__(
        self,
        total: int,
        *,
        unit: str = "images",
        every: float = 10.0,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
        emit: Callable[[str], None] = logger.info,
    ):
        self.total, self.unit, self.every, self.clock, self.emit = total, unit, every, clock, emit
        self._last_done, self._last_time = done, clock()
        self._rate = None

    def update(self, done: int, note: str = "") -> None:
        """`done` units of `total` are done; `note` is put in front."""
        now = self.clock()
        elapsed = now - self._last_time
        if elapsed < self.every and done < self.total:
            return
        rate = (done - self._last_done) / max(elapsed, 1e-9)
        # Half old, half new: steady, and still follows a change.
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        left = duration((self.total - done) / self._rate) if self._rate > 0 else "unknown"
        share = 100 * done // max(self.total, 1)
        self.emit(f"{note}{done}/{self.total} {self.unit} ({share} %), {rate:.1f} {self.unit}/s, {left} left")
        self._last_done, self._last_time = done, now
