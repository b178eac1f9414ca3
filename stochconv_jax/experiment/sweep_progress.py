"""The states of a sweep's runs in a CSV file, and a progress line for all of them."""

import logging
import pathlib
import time
from collections.abc import Callable, Sequence

from stochconv_jax.atomic_files import write_csv
from stochconv_jax.experiment.sweep_runs import LOG, SweepRun
from stochconv_jax.training.progress import duration

logger = logging.getLogger(__name__)

COLUMNS = ("run", "state", "reason", "log")
WAITING, RUNNING, FINISHED, FAILED, STOPPED = "waiting", "running", "finished", "failed", "stopped"


class SweepStates:
    """The state of each run, in a CSV file that is rewritten with every change."""

    def __init__(self, file: pathlib.Path, runs: Sequence[SweepRun]):
        self.file, self._runs = file, runs
        self._rows = {run.name: self._row(run, FINISHED if run.finished() else WAITING) for run in runs}
        write_csv(file, COLUMNS, self._rows.values())

    def set(self, run: SweepRun, state: str, reason: str = "") -> None:
        """Records that `run` is in `state`; logs the reason for a failure."""
        self._rows[run.name] = self._row(run, state, reason)
        write_csv(self.file, COLUMNS, self._rows.values())
        if state == FAILED:
            logger.error("%s failed: %s; see %s", run.name, reason, run.folder.path / LOG)

    def those(self, state: str) -> list[SweepRun]:
        """Returns the runs that are in `state`."""
        return [run for run in self._runs if self._rows[run.name]["state"] == state]

    @staticmethod
    def _row(run: SweepRun, state: str, reason: str = "") -> dict[str, str]:
        return {"run": run.name, "state": state, "reason": reason, "log": f"{run.name}/{LOG}"}


class SweepProgress:
    """Logs one line for the whole sweep.

    The time left is estimated from the remaining epochs and evaluations, at the pace since the start. `every` is the
    least number of seconds between two lines during a run.
    """

    def __init__(
        self,
        runs: Sequence[SweepRun],
        *,
        every: float,
        clock: Callable[[], float] = time.monotonic,
        emit: Callable[[str], None] = logger.info,
    ):
        self._every, self._clock, self._emit = every, clock, emit
        self._left = {run.name: run.work_left() for run in runs}
        # The remaining work of failed runs is dropped: it counts neither as done nor as left.
        self._total, self._given_up = sum(self._left.values()), 0
        self._runs, self._ended = len(runs), 0
        self._start = self._last = clock()

    def tick(self, run: SweepRun) -> None:
        """Logs the progress of `run` every `every` seconds. Call it often during the run."""
        left = run.work_left()
        if left != self._left[run.name] and self._clock() - self._last >= self._every:
            self._left[run.name] = left
            self._log(f"{run.name} at epoch {run.epochs()} of {run.config.num_epochs}")

    def end(self, run: SweepRun, state: str) -> None:
        """Logs that `run` has ended in `state`."""
        del self._left[run.name]
        self._given_up += run.work_left()
        self._ended += 1
        self._log(f"{run.name} {state}")

    def _log(self, event: str) -> None:
        self._last = self._clock()
        left = sum(self._left.values())
        done = self._total - self._given_up - left
        time_left = duration((self._last - self._start) * left / max(done, 1)) if done or not left else "unknown time"
        self._emit(f"{self._ended} of {self._runs} runs over; {event}; {time_left} left")
