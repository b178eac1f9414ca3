"""Log lines with the progress of a long piece of work: share done, rate and time left."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """Returns a duration as text, '1:02:03' or '2:03'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Logs progress at most every `every` seconds, and when all `total` units are done.

    The rate in a line is that since the line before. The time left follows from a running average of these rates, so
    that compilation, which comes before the first unit, slows down only the first of them.

    Args:
      total: number of units in all.
      unit: plural name of the units.
      every: seconds between lines.
      done: units done before the start.
      clock: returns seconds.
      emit: takes the lines.
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
        """Takes the number of units done so far, and logs a line, beginning with `note`, if it is time."""
        now = self.clock()
        elapsed = now - self._last_time
        if elapsed < self.every and done < self.total:
            return
        rate = (done - self._last_done) / max(elapsed, 1e-9)
        # An average of old and new is steady and still follows changes.
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        left = duration((self.total - done) / self._rate) if self._rate > 0 else "unknown"
        share = 100 * done // max(self.total, 1)
        self.emit(f"{note}{done}/{self.total} {self.unit} ({share} %), {rate:.1f} {self.unit}/s, {left} left")
        self._last_done, self._last_time = done, now
