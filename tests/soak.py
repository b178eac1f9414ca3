"""Kills runs at random moments for as long as it is told, lets them go on, and compares the bits.

    make soak MINUTES=60

Every run is of one or of two processes, each with a worker process, and is started again until it is finished. How a
start ends is drawn: by SIGKILL of all its processes or of one, or by SIGTERM of one, after a share of the time that a
whole run takes. Ends with code 1, and leaves the folder, at the first run that differs from one that nothing
interrupted.
"""

import argparse
import collections
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from stochconv_jax.runtime.watchdog import STOPPED
from tests.conftest import free_port
from tests.modes.conftest import Main
from tests.modes.runs import assert_same_run
from tests.runtime.processes import TRAINED, outputs_of

BOUND = 20  # seconds after which a process that gives no sign of life counts as dead
TOO_LONG = 900  # seconds for a start, on a machine that has other work
SETTINGS = TRAINED | {"data__num_workers": 1, "distributed__timeout_seconds": BOUND}
KILL_ALL, KILL_ONE, TERM = "SIGKILL of all", "SIGKILL of one", "SIGTERM of one"


def start(folder: pathlib.Path, count: int) -> list[subprocess.Popen]:
    """A run as `count` processes with two devices in all."""
    settings = SETTINGS | {"distributed__num_processes": count}
    if count > 1:
        settings |= {"distributed__coordinator": f"localhost:{free_port()}"}
    return [
        Main().start(folder, devices=2 // count, distributed__process_id=number, **settings) for number in range(count)
    ]


def ended(processes: list[subprocess.Popen]) -> list[str]:
    """What each has printed by its end. TimeoutExpired, and none is left, where one takes too long."""
    try:
        return outputs_of(processes, timeout=TOO_LONG)
    finally:
        for process in processes:
            process.kill()


def interrupt(processes: list[subprocess.Popen], how: str, draws: random.Random) -> None:
    """Ends some of the processes that still run."""
    chosen = processes if how == KILL_ALL else [draws.choice(processes)]
    for process in chosen:
        process.send_signal(signal.SIGTERM if how == TERM else signal.SIGKILL)


def run(folder: pathlib.Path, count: int, draws: random.Random, seconds: float) -> collections.Counter:
    """Starts a run again and again until it is finished; `seconds`: of a whole one. Returns what ended its starts."""
    interruptions = collections.Counter()
    while True:
        how, processes = draws.choice((KILL_ALL, KILL_ONE, TERM)), start(folder, count)
        deadline = time.monotonic() + draws.uniform(0.0, 1.1 * seconds)
        while time.monotonic() < deadline and any(process.poll() is None for process in processes):
            time.sleep(0.005)
        interrupted = all(process.poll() is None for process in processes)
        if interrupted:
            interrupt(processes, how, draws)
        outputs = ended(processes)
        codes = [process.returncode for process in processes]
        if codes == [0] * count:
            return interruptions
        allowed = {STOPPED, -signal.SIGTERM, 0} if how == TERM and count == 1 else None
        if not interrupted or (allowed and not allowed.issuperset(codes)):
            raise AssertionError(f"ended with {codes}\n" + "\n".join(outputs))
        interruptions[how] += 1


def soak(minutes: float, seed: int, folder: pathlib.Path) -> collections.Counter:
    """Makes runs in `folder` until the time is over, the last one to its end. AssertionError if one differs."""
    draws, total, whole, seconds = random.Random(seed), collections.Counter(), {}, {}
    for count in (1, 2):
        for attempt in ("compiling", "timed"):
            whole[count], began = folder / f"{attempt}_{count}", time.monotonic()
            outputs = ended(start(whole[count], count))
            assert "finished at step" in outputs[0], outputs
            seconds[count] = time.monotonic() - began
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        number, count = number + 1, draws.choice((1, 2))
        interruptions = run(folder / "run", count, draws, seconds[count])
        assert_same_run(folder / "run", whole[count])
        assert not list(folder.glob("run/checkpoints/*damaged*"))
        shutil.rmtree(folder / "run")
        total += interruptions
        told = ", ".join(f"{times} x {how}" for how, times in interruptions.items()) or "not interrupted"
        print(f"run {number}, processes: {count}; {told}; the same bits; {total.total()} in all", flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn; a new one if not given")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak_"))
    print(f"seed {seed}, in {folder}", flush=True)
    total = soak(arguments.minutes, seed, folder)
    print(f"{total.total()} interruptions, all runs the same bits: {dict(total)}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
