"""Starts the processes in which a sweep trains and evaluates a run."""

import errno
import logging
import os
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from stochconv_jax.experiment.runs import EVALUATE_LOCK
from stochconv_jax.experiment.sweep_progress import FAILED, FINISHED, STOPPED, SweepProgress
from stochconv_jax.experiment.sweep_runs import LOG, SweepRun
from stochconv_jax.run_folder import locked
from stochconv_jax.runtime import watchdog

logger = logging.getLogger(__name__)

PACKAGE = pathlib.Path(__file__).parents[1]
POLL_SECONDS = 0.5
ERROR_PREFIX = "stochconv_jax: "  # beginning of the line with an error that the program itself raises, see modes.run


def make(run: SweepRun, received: list[int], progress: SweepProgress) -> tuple[str, str]:
    """Trains and evaluates `run`, unless that is done already. Returns its state and the reason for a failure.

    `received` is a list to which a handler appends signals meanwhile; the run ends when there is one.
    """
    try:
        run.folder.create()
        with (run.folder.path / LOG).open("a+b") as log:
            evaluate = [(run.evaluate_command, run.evaluated)] if run.config.sweep.passes else []
            for command, done in [(run.train_command, run.trained), *evaluate]:
                _wait_for_others(run, received)
                while not (done() or received):
                    start = log.seek(0, 2)
                    code = _run_process(command(), log, received, lambda: progress.tick(run))
                    log.seek(start)
                    output = log.read().decode(errors="replace")
                    # Another sweep, whose share contains this run too, is working on it.
                    if not (done() or received or _in_use(run)):
                        return FAILED, _reason(code, output)
                    _wait_for_others(run, received)
    except OSError as error:
        return FAILED, str(error)
    return (FINISHED if run.finished() else STOPPED), ""


def _wait_for_others(run: SweepRun, received: list[int]) -> None:
    """Waits until no other process works in the run's folder, such as one left over from a killed sweep."""
    logged = False
    while not received and _in_use(run):
        if not logged:
            logger.warning("%s: waiting for the process that works there", run.folder.path)
        logged = True
        time.sleep(POLL_SECONDS)


def _in_use(run: SweepRun) -> bool:
    try:
        with locked(run.folder.path), locked(run.folder.path, EVALUATE_LOCK):
            return False
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return True


def _run_process(command: Sequence[str], log: IO[bytes], received: list[int], tick: Callable[[], None]) -> int:
    """Runs `command`, sends it SIGTERM for each signal received, and returns its exit code.

    The command does not run in the terminal's foreground, so Ctrl-C, which would end it unsaved, reaches only this
    process.
    """
    log.write(f"$ {shlex.join(command)}\n".encode())
    log.flush()
    # The command imports this very package, installed or not; -P keeps the current folder off its path.
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
    sent = 0
    while True:
        for _ in received[sent:]:
            child.send_signal(signal.SIGTERM)
            sent += 1
        try:
            return child.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            tick()


def _reason(code: int, output: str) -> str:
    """Returns why a process failed: the program's error, or the exception, or the last line of its output."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + ("; out of memory?" if code == -signal.SIGKILL else "")
    if code == watchdog.STOPPED:
        return "ended before its last epoch, as on SIGTERM"
    if errors := [line for line in output.splitlines() if line.startswith(ERROR_PREFIX)]:
        return errors[-1].removeprefix(ERROR_PREFIX)
    _, traceback, after = output.rpartition("Traceback (most recent call last):")
    lines = [line for line in after.splitlines() if line.strip() and not line.startswith((" ", "$"))]
    if not lines:
        return f"exit code {code}"
    return lines[0] if traceback else lines[-1]
