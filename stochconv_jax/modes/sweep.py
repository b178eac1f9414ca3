"""--mode=sweep: all runs of an ablation, one after the other, each in a process and a folder of its own.

A config file with `sweep()` beside its `get_config()` describes an ablation, see configs/ablations/. Every variant is
trained with every seed in WORKDIR/VARIANT/seed_SEED, where --mode=report finds it; then its last checkpoint is
evaluated. Which runs are finished is read from their folders, so the same command goes on where it was stopped.
"""

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence

from stochconv_jax.experiment import sweep_processes, sweep_runs
from stochconv_jax.experiment.sweep_progress import FAILED, FINISHED, RUNNING, WAITING, SweepProgress, SweepStates
from stochconv_jax.run_folder import RunFolder, locked
from stochconv_jax.runtime import watchdog
from stochconv_jax.training import storage_check

logger = logging.getLogger(__name__)


def run(config, overrides, workdir, config_file) -> int:
    """Makes the runs of this share that are not finished. Returns 0 if all are in the end, 1 if any has failed.

    The state of each is in sweep.csv. SIGTERM and Ctrl-C are sent on to the run under way, which saves, and end the
    sweep with exit code watchdog.STOPPED; a second one ends that run at once. Raises OSError where another process
    makes the same share in `workdir`.
    """
    root = RunFolder(workdir)
    storage_check.check_name(root.path)
    root.create()
    number, count = sweep_runs.parse_shard(config.sweep.shard)
    runs = sweep_runs.share(sweep_runs.plan(config, overrides, config_file, root.path), number, count)
    table = "sweep" if count == 1 else f"sweep_{number}_of_{count}"
    with locked(root.path, f".{table}.lock"):
        return _make_all(runs, SweepStates(root.path / f"{table}.csv", runs), config.log_every_seconds)


def _make_all(runs: Sequence[sweep_runs.SweepRun], states: SweepStates, every: float) -> int:
    """Makes those of `runs` that wait, and returns the exit code."""
    to_do = states.those(WAITING)
    logger.info("%d runs, of which %d are finished; see %s", len(runs), len(runs) - len(to_do), states.file)
    progress = SweepProgress(to_do, every=every)
    with _signals() as received:
        for current in to_do:
            states.set(current, RUNNING)
            state, reason = sweep_processes.make(current, received, progress)
            states.set(current, state, reason)
            if received:
                logger.warning("stopped in %s, which is %s; the same command goes on", current.name, state)
                return watchdog.STOPPED
            progress.end(current, state)
    failed = states.those(FAILED)
    logger.info("%d runs finished, %d failed", len(states.those(FINISHED)), len(failed))
    return 1 if failed else 0


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields a list to which SIGTERM and SIGINT are appended as they come; meanwhile they do not end this process."""
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
