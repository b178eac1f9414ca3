"""--mode=sweep: all runs of an ablation, one after the other, each in a process and a folder of its own.

A config file with `sweep()` beside its `get_config()` describes an ablation, see configs/ablations/. Every variant is
trained with every seed in WORKDIR/VARIANT/seed_SEED, where --mode=report finds it; then its last checkpoint is
evaluated. Which runs are finished is read from their folders, so the same command goes on where it was stopped.
"""
import contextlib
import errno
import logging
import os
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from stochconv_jax import ending
from stochconv_jax.modes import evaluate, sweep_runs
from stochconv_jax.modes.sweep_runs import Run
from stochconv_jax.run_folder import RunFolder, locked, write_csv
from stochconv_jax.training import trial
from stochconv_jax.training.progress import duration

logger = logging.getLogger(__name__)

PACKAGE = pathlib.Path(__file__).parents[1]
LOG = "output.log"  # in a run's folder: what its processes printed
COLUMNS = ("run", "state", "reason", "log")
WAITING, RUNNING, FINISHED, FAILED, STOPPED = "waiting", "running", "finished", "failed", "stopped"
POLL = 0.5  # seconds
SAID = "stochconv_jax: "  # before an error that the program has raised itself, see modes.run


def run(config, overrides, workdir, config_file) -> int:
    """Makes the runs of this share that are not finished. Returns 0 if all are in the end, 1 if any has failed.

    The state of each is in sweep.csv. SIGTERM and Ctrl-C are handed to the run under way, which saves, and end the
    sweep with ending.STOPPED; a second one ends that run at once. OSError where another process makes the same share in
    `workdir`.
    """
    root = RunFolder(workdir)
    trial.check_name(root.path)
    root.create()
    number, count = sweep_runs.parse_shard(config.sweep.shard)
    runs = sweep_runs.share(sweep_runs.plan(config, overrides, config_file, root.path), number, count)
    table = "sweep" if count == 1 else f"sweep_{number}_of_{count}"
    with locked(root.path, f".{table}.lock"):
        return _make_all(runs, States(root.path / f"{table}.csv", runs), config.log_every_seconds)


def _make_all(runs: Sequence[Run], states: "States", every: float) -> int:
    """Makes those of `runs` that wait, and returns the exit code."""
    to_do = states.those(WAITING)
    logger.info("%d runs, of which %d are finished; see %s", len(runs), len(runs) - len(to_do), states.file)
    progress = Progress(to_do, every=every)
    with _signals() as received:
        for current in to_do:
            states.set(current, RUNNING)
            state, reason = _make(current, received, progress)
            states.set(current, state, reason)
            if received:
                logger.warning("stopped in %s, which is %s; the same command goes on", current.name, state)
                return ending.STOPPED
            progress.end(current, state)
    failed = states.those(FAILED)
    logger.info("%d runs finished, %d failed", len(states.those(FINISHED)), len(failed))
    return 1 if failed else 0


class States:
    """What has become of each run, in a CSV file that is rewritten with every change."""

    def __init__(self, file, runs: Sequence[Run]):
        self.file, self._runs = file, runs
        self._rows = {r.name: self._row(r, FINISHED if r.finished() else WAITING) for r in runs}
        write_csv(file, COLUMNS, self._rows.values())

    def set(self, run: Run, state: str, reason: str = "") -> None:
        """Notes that `run` is in `state`; of one that failed the log says why."""
        self._rows[run.name] = self._row(run, state, reason)
        write_csv(self.file, COLUMNS, self._rows.values())
        if state == FAILED:
            logger.error("%s failed: %s; see %s", run.name, reason, run.folder.path / LOG)

    def those(self, state: str) -> list[Run]:
        """The runs that are in `state`."""
        return [run for run in self._runs if self._rows[run.name]["state"] == state]

    @staticmethod
    def _row(run: Run, state: str, reason: str = "") -> dict[str, str]:
        return {"run": run.name, "state": state, "reason": reason, "log": f"{run.name}/{LOG}"}


class Progress:
    """One line for the whole sweep. Time left is that of the work left, in epochs, at the pace since the start."""

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        every: float,
        clock: Callable[[], float] = time.monotonic,
        emit: Callable[[str], None] = logger.info,
    ):
        self._every, self._clock, self._emit = every, clock, emit
        self._left = {run.name: run.work_left() for run in runs}
        self._total, self._gone = sum(self._left.values()), 0  # what failed runs leave undone is gone
        self._runs, self._ended = len(runs), 0
        self._start = self._last = clock()

    def tick(self, run: Run) -> None:
        """To be called often while `run` is under way: says at times how far it is."""
        left = run.work_left()
        if left != self._left[run.name] and self._clock() - self._last >= self._every:
            self._left[run.name] = left
            self._say(f"{run.name} at epoch {run.epochs()} of {run.config.num_epochs}")

    def end(self, run: Run, state: str) -> None:
        """`run` is over, in `state`: nothing more will come of it."""
        del self._left[run.name]
        self._gone += run.work_left()
        self._ended += 1
        self._say(f"{run.name} {state}")

    def _say(self, what: str) -> None:
        self._last = self._clock()
        left = sum(self._left.values())
        done = self._total - self._gone - left
        time_left = duration((self._last - self._start) * left / max(done, 1)) if done or not left else "unknown time"
        self._emit(f"{self._ended} of {self._runs} runs over; {what}; {time_left} left")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list to which SIGTERM and SIGINT, which end nothing meanwhile, are appended as they come."""
    received = []

    def receive(number, frame):
        del frame
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make(run: Run, received: list[int], progress: Progress) -> tuple[str, str]:
    """Trains and evaluates `run`, as far as that is not done. Returns its state and the reason of a failure."""
    try:
        run.folder.create()
        with (run.folder.path / LOG).open("a+b") as log:
            evaluate = [(run.evaluate, run.evaluated)] if run.config.sweep.passes else []
            for command, done in [(run.train, run.trained), *evaluate]:
                _wait_for_others(run, received)
                while not (done() or received):
                    start = log.seek(0, 2)
                    code = _process(command(), log, received, lambda: progress.tick(run))
                    log.seek(start)
                    output = log.read().decode(errors="replace")
                    # In use: another sweep, whose share holds this run too, was quicker.
                    if not (done() or received or _in_use(run)):
                        return FAILED, _reason(code, output)
                    _wait_for_others(run, received)
    except OSError as error:
        return FAILED, str(error)
    return (FINISHED if run.finished() else STOPPED), ""


def _wait_for_others(run: Run, received: list[int]) -> None:
    """Until no other process, such as that of a sweep that was killed, works in the run's folder."""
    said = False
    while not received and _in_use(run):
        if not said:
            logger.warning("%s: waiting for the process that works there", run.folder.path)
        said = True
        time.sleep(POLL)


def _in_use(run: Run) -> bool:
    try:
        with locked(run.folder.path), locked(run.folder.path, evaluate.LOCK):
            return False
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return True


def _process(command: Sequence[str], log: IO[bytes], received: list[int], tick: Callable[[], None]) -> int:
    """Runs `command`, hands each signal received on as SIGTERM, and returns the exit code.

    It is no part of the terminal's foreground, so that Ctrl-C, which would end it unsaved, comes here alone.
    """
    log.write(f"$ {shlex.join(command)}\n".encode())
    log.flush()
    # This very package, installed or not, whatever is in the current folder (which -P keeps off the path).
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
    handed_on = 0
    while True:
        for _ in received[handed_on:]:
            child.send_signal(signal.SIGTERM)
            handed_on += 1
        try:
            return child.wait(timeout=POLL)
        except subprocess.TimeoutExpired:
            tick()


def _reason(code: int, output: str) -> str:
    """Why a process failed: its exception, or what it said last."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + ("; out of memory?" if code == -signal.SIGKILL else "")
    if code == ending.STOPPED:
        return "ended before its last epoch, as on SIGTERM"
    if said := [line for line in output.splitlines() if line.startswith(SAID)]:
        return said[-1].removeprefix(SAID)
    _, traceback, after = output.rpartition("Traceback (most recent call last):")
    lines = [line for line in after.splitlines() if line.strip() and not line.startswith((" ", "$"))]
    if not lines:
        return f"exit code {code}"
    return lines[0] if traceback else lines[-1]
