"""The entry point as a real process, on pictures so small that a run takes seconds."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import CACHE, PATIENCE, PROCESS, ROOT
from tests.modes.class_images import class_images  # noqa: F401
from tests.modes.isic_archive import archive, prepared  # noqa: F401

TINY = {
    "model.variant": "two_blocks",
    "data.image_size": (80, 96),
    "data.thumbnail_size": (32, 48),
    "data.num_train": 52,
    "data.num_validation": 11,
    "data.num_workers": 0,
    "model.merge_after": 0,  # both stems and one trunk: half of what tracing and compiling the two branches takes
    "batch_size": 8,
    "eval.batch_size": 8,
    "num_epochs": 3,
    "optimizer.ema_decay": 0.9,
    "log_every_seconds": 1.0,
}
# A run that a test ends. Its learning rate does not depend on its length, so that all such runs share a program.
LONG = {"num_epochs": 2000, "optimizer__schedule": "constant"}
# A notebook gives its programs such a backend for drawing, which they may not have.
NOTEBOOK = {"MPLBACKEND": "module://no_such_notebook.backend_inline"}
CHANGED = """
import runpy, sys
sys.path.insert(0, {root!r})
{before}
runpy.run_path(sys.path[0] + "/main.py", run_name="__main__")
"""
CHANGE = """
import os, pkgutil, itertools, signal, time
def change():
    owner, calls = pkgutil.resolve_name("stochconv_jax.{owner}"), itertools.count(1)
    real = owner.{name}
    def changed(*arguments, **keys):
        if next(calls) == {call}:
            {action}
        return real(*arguments, **keys)
    owner.{name} = changed
change()
"""
SIGTERM, SIGKILL = (f"os.kill(os.getpid(), signal.{name})" for name in ("SIGTERM", "SIGKILL"))
HANG = "time.sleep(1e6)"


def when(function, action, call=1):
    """Returns `before` for a process that does `action` in the given call of a function of the package.

    `function`: such as 'training.steps.eval_step', which is called when it is compiled, for the first batch.
    """
    owner, _, name = function.rpartition(".")
    return CHANGE.format(owner=owner, name=name, call=call, action=action)


class Main:
    """Runs main.py."""

    def start(
        self, workdir, *flags, mode="train", devices=1, platform="cpu", environ=None, before="", **keys
    ) -> subprocess.Popen:
        """Starts a process; `keys` are config keys with '__' for dots, `environ` further variables.

        With mode None it gets no --mode and no config. `before`: Python that the process runs first, see `when`.
        """
        settings = {"compilation_cache": CACHE} | {name.replace("__", "."): value for name, value in keys.items()}
        if mode:
            flags = (f"--mode={mode}", *flags)
        if mode == "train":
            settings = TINY | settings
            flags = (f"--config={ROOT / 'configs' / 'quickstart.py'}", *flags)
        arguments = [f"--config.{name}={value}" for name, value in settings.items()]
        variables = PROCESS | {"JAX_PLATFORMS": platform, "JAX_NUM_CPU_DEVICES": str(devices)}
        program = ["-c", CHANGED.format(root=str(ROOT), before=before)] if before else [ROOT / "main.py"]
        return subprocess.Popen(
            [sys.executable, *program, f"--workdir={workdir}", *flags, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | variables | (environ or {}),
        )

    def __call__(self, workdir, *flags, code=0, **settings) -> str:
        """Returns the output of a process, which must end with `code`."""
        process = self.start(workdir, *flags, **settings)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, output
        return output


@pytest.fixture(scope="session")
def main() -> Main:
    """Runs main.py as a process."""
    return Main()


@pytest.fixture(scope="module")
def finished(main, tmp_path_factory) -> pathlib.Path:
    """A run that was never interrupted.

    One worker of pytest-xdist trains it. Each module has its own copy, because the modes write into it: what one module
    fits and predicts is not found by another.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            main(making := made.with_suffix(".making"))
            making.rename(made)
    return shutil.copytree(made, tmp_path_factory.mktemp("runs") / "finished")
