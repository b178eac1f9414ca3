"""environment.sh: which Python it takes, what it says where there is none, and how it mends an environment."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TOOLS = ("bash", "cat", "cmp", "cp", "cut", "grep", "head", "mkdir", "rm", "sed", "sh", "sort", "tail", "touch")
BASE = pathlib.Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = ".".join(map(str, sys.version_info[:3]))
NOTHING = "no_such_package==1.0\n"


class Machine:
    """A machine with few programs, whose home folder is `home` and where programs lie in `programs`."""

    def __init__(self, folder):
        self.home, self.programs, self.checkout = folder / "home", folder / "bin", folder / "checkout"
        for path in (self.home, self.programs, self.checkout):
            path.mkdir()
        for tool in TOOLS:
            (self.programs / tool).symlink_to(shutil.which(tool))
        self.lock = self.checkout / "requirements.txt"
        self.lock.write_text("")

    def python(self, path, answer):
        """A program at `path` that answers whatever it is asked; the real Python where `answer` is None."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if answer is None:
            path.symlink_to(BASE)
        else:
            path.write_text(f"#!/bin/sh\n{answer}\n")
            path.chmod(0o755)

    def run(self, code=0, **environ):
        """What environment.sh prints; it must end with `code`."""
        done = subprocess.run(
            ["bash", str(ROOT / "environment.sh"), ".venv", "requirements.txt"],
            cwd=self.checkout,
            env={"PATH": str(self.programs), "HOME": str(self.home), "PIP_NO_INDEX": "1"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def works(self):
        """Whether the environment can run pip and is the lock's."""
        python = self.checkout / ".venv" / "bin" / "python"
        assert not (self.checkout / ".venv" / ".installing").exists()
        assert (self.checkout / ".venv" / "requirements.txt").read_text() == self.lock.read_text()
        return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_without_a_python_a_line_says_what_was_found_and_how_to_get_one(machine):
    machine.python(machine.programs / "python3", "echo '3.11.7 '")
    machine.python(machine.programs / "python3.13", "echo 'python3.13: command not found' >&2; exit 127")  # a shim
    machine.python(machine.programs / "python3.12", "echo '3.12.3 venv, ensurepip'")  # Debian's
    machine.python(machine.home / ".pyenv" / "versions" / "3.15.0a1" / "bin" / "python", "echo '3.15.0a1 '")
    output = machine.run(code=1)
    assert len(output.splitlines()) == 1 and "uv python install 3.13" in output
    assert "found: python3.12 (3.12.3, lacks venv, ensurepip), python3 (3.11.7), " in output and "(3.15.0a1)" in output
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize("choose, expected", [("newest", "3.14.2"), ("oldest", "3.12.9")])
def test_the_newest_or_the_oldest_that_runs_is_taken(machine, choose, expected):
    for path, version in {
        machine.programs / "python3": "3.13.5",
        machine.home / ".pyenv" / "versions" / "3.12.9" / "bin" / "python": "3.12.9",
        machine.home / "uv" / "cpython-3.14.2" / "bin" / "python3": "3.14.2",
    }.items():
        machine.python(path, f'[ "$1" = - ] && echo "{version} " || {{ echo "this is {version}"; exit 1; }}')
    machine.python(machine.programs / "uv", f"echo {machine.home / 'uv'}")
    assert machine.run(code=1, CHOOSE=choose).endswith(f"cannot make an environment: this is {expected}\n")


def test_an_interpreter_that_is_named_must_do(machine):
    machine.python(machine.programs / "python3.11", "echo '3.11.7 '")
    assert machine.run(code=1, PYTHON="python3.11") == (
        "stochconv_jax: PYTHON=python3.11 is 3.11.7; Python 3.12 or newer is needed\n"
    )
    assert machine.run(code=1, PYTHON="python3.99").startswith("stochconv_jax: PYTHON=python3.99 does not run;")


def test_what_was_left_of_an_environment_is_mended_by_the_next_call(machine):
    machine.python(machine.home / ".pyenv" / "versions" / VERSION / "bin" / "python", None)
    environment = machine.checkout / ".venv"
    # No network: a line; the environment is kept, and the next call goes on.
    machine.lock.write_text(NOTHING)
    output = machine.run(code=1)
    assert len(output.splitlines()) == 2 and "ERROR: No matching distribution found for no_such_package==1.0" in output
    machine.lock.write_text("")
    marked = environment / "kept"
    marked.touch()
    assert len(machine.run().splitlines()) == 1 and machine.works() and marked.exists()
    # Nothing to do: nothing is said.
    assert machine.run() == "" and marked.exists()
    # Killed while it installed; of another version; without pip: made anew.
    (environment / ".installing").write_text("999999999")
    assert "made anew: its last installation did not end" in machine.run() and machine.works() and not marked.exists()
    shutil.rmtree(next(environment.glob("lib/python*/site-packages/pip")))
    assert "made anew: it has no pip" in machine.run() and machine.works()
    (environment / "bin" / "python").unlink()
    machine.python(environment / "bin" / "python", "echo 3.11.7")
    assert "made anew: its Python is 3.11.7, and 3.12 or newer is needed" in machine.run() and machine.works()


def test_an_installation_under_way_is_left_alone(machine):
    machine.python(machine.home / ".pyenv" / "versions" / VERSION / "bin" / "python", None)
    (machine.checkout / ".venv").mkdir()
    (machine.checkout / ".venv" / ".installing").write_text(str(os.getpid()))
    assert f"process {os.getpid()} is installing into .venv" in machine.run(code=1)
