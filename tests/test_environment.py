"""environment.sh: which Python it chooses, its message if there is none, and how it repairs an environment."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

TOOLS = ("bash", "cat", "cmp", "cp", "cut", "grep", "head", "ls", "ps", "rm", "sed", "sh", "sort", "tail")
BASE = pathlib.Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = ".".join(map(str, sys.version_info[:3]))


class Machine:
    """A machine with few programs, which are in `programs`, and with the home folder `home`."""

    def __init__(self, folder):
        self.home, self.programs, self.checkout = folder / "home", folder / "bin", folder / "check out"
        for path in (self.home, self.programs, self.checkout):
            path.mkdir()
        for tool in TOOLS:
            (self.programs / tool).symlink_to(shutil.which(tool))
        self.lock, self.environment = self.checkout / "requirements.txt", self.checkout / ".venv"
        self.marker = self.checkout / ".venv.installing"
        self.lock.write_text("")

    def python(self, path, version=None, lacks="", otherwise="exit 1"):
        """Installs a program at `path` that claims to be this version of Python; without one, the real Python."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if version is None:
            path.symlink_to(BASE)
            return
        describes = rf"printf '%s\t%s\t%s\n' '{version}' '{path}' '{lacks}'"
        path.write_text(f'#!/bin/sh\nif [ "$1" = - ]; then {describes}; else {otherwise}; fi\n')
        path.chmod(0o755)

    def with_real_python(self):
        self.python(self.home / ".pyenv" / "versions" / VERSION / "bin" / "python")
        return self

    def start(self, *words, **environ):
        """Starts environment.sh as a process in a group of its own."""
        return subprocess.Popen(
            ["bash", str(ROOT / "environment.sh"), *(words or (".venv", "requirements.txt"))],
            cwd=self.checkout,
            env={"PATH": str(self.programs), "HOME": str(self.home), "PIP_NO_INDEX": "1"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words, code=0, **environ):
        """Runs environment.sh, which must end with `code`, and returns its output."""
        process = self.start(*words, **environ)
        output, _ = process.communicate()
        assert process.returncode == code, output
        return output

    def works(self):
        """Returns whether the environment runs pip, matches the lock, and is not marked as incomplete."""
        asked = subprocess.run([self.environment / "bin" / "python", "-m", "pip", "--version"], capture_output=True)
        same = (self.environment / "requirements.txt").read_text() == self.lock.read_text()
        return asked.returncode == 0 and same and not self.marker.exists()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_without_a_python_a_line_says_what_was_found_and_how_to_get_one(machine):
    machine.python(machine.programs / "python3", "3.11.7")
    machine.python(machine.programs / "python3.12", "3.12.3", lacks="venv, ensurepip")  # Debian's
    machine.python(machine.home / ".pyenv" / "versions" / "3.15.0a1" / "bin" / "python", "3.15.0a1")
    shim = machine.programs / "python3.13"
    shim.write_text("#!/bin/sh\necho 'python3.13: command not found' >&2; exit 127\n")
    shim.chmod(0o755)
    output = machine.run(code=1)
    assert len(output.splitlines()) == 1 and "uv python install 3.13" in output
    assert "found: python3.12 (3.12.3, lacks venv, ensurepip), python3 (3.11.7), " in output and "(3.15.0a1)" in output
    assert not machine.environment.exists() and not machine.marker.exists()


@pytest.mark.parametrize("choose, expected", [("newest", "3.14.2"), ("oldest", "3.12.9")])
def test_the_newest_or_the_oldest_that_runs_is_taken(machine, choose, expected):
    for path, version in {
        machine.programs / "python3": "3.13.5",
        machine.home / ".pyenv" / "versions" / "3.12.9" / "bin" / "python": "3.12.9",
        machine.home / "uv" / "cpython-3.14.2" / "bin" / "python3": "3.14.2",
    }.items():
        machine.python(path, version, otherwise=f"echo 'this is {version}'; exit 1")
    uv = machine.programs / "uv"
    uv.write_text(f"#!/bin/sh\necho {machine.home / 'uv'}\n")
    uv.chmod(0o755)
    assert f"cannot make an environment: this is {expected};" in machine.run(code=1, CHOOSE=choose)


def test_an_interpreter_that_is_named_must_do(machine):
    machine.python(machine.programs / "python3.11", "3.11.7")
    machine.with_real_python().run()
    assert machine.run(code=1, PYTHON="python3.11") == (
        "stochconv_jax: PYTHON=python3.11 is 3.11.7; Python 3.12 or newer is needed\n"
    )
    assert machine.run(code=1, PYTHON="python3.99").startswith("stochconv_jax: PYTHON=python3.99 does not run;")
    assert machine.works()


@pytest.mark.slow
def test_what_was_left_of_an_environment_is_mended_by_the_next_call(machine):
    machine.with_real_python()
    # No network: a line; the environment is kept, and the next call goes on.
    machine.lock.write_text("no_such_package==1.0\n")
    output = machine.run(code=1)
    assert len(output.splitlines()) == 2 and "ERROR: No matching distribution found for no_such_package==1.0" in output
    machine.lock.write_text("")
    kept = machine.environment / "kept"
    kept.touch()
    assert len(machine.run().splitlines()) == 1 and machine.works() and kept.exists()
    # Nothing to do: nothing is said.
    assert machine.run() == "" and kept.exists()
    # Without pip, or of another version: made anew, also from inside the environment itself.
    shutil.rmtree(next(machine.environment.glob("lib/python*/site-packages/pip")))
    inside = f"{machine.environment / 'bin'}:{machine.programs}"
    assert "made anew: it has no pip" in machine.run(PATH=inside) and machine.works() and not kept.exists()
    (machine.environment / "bin" / "python").unlink()
    old = machine.environment / "bin" / "python"
    machine.python(old, "3.11.7", otherwise="echo 3.11.7")
    assert "made anew: its Python is 3.11.7, and 3.12 or newer is needed" in machine.run() and machine.works()


SLOW_TO_BUILD = """
import pathlib, time, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("begun").touch()
    while not pathlib.Path("may_end").exists():
        time.sleep(0.01)
    with zipfile.ZipFile(pathlib.Path(folder, "slow-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("slow-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n")
        wheel.writestr("slow-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("slow-1.0.dist-info/RECORD", "")
        wheel.writestr("slow.py", "")
    return "slow-1.0-py3-none-any.whl"
"""


@pytest.mark.slow
def test_after_an_installation_was_interrupted_the_environment_is_made_anew(machine):
    machine.with_real_python()
    package = machine.checkout / "package"
    package.mkdir()
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (package / "pyproject.toml").write_text(build + '[project]\nname = "slow"\nversion = "1.0"\n')
    (package / "backend.py").write_text(SLOW_TO_BUILD)
    machine.lock.write_text("./package\n")
    process = machine.start()
    while not (package / "begun").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    kept = machine.environment / "kept"
    kept.touch()
    assert f"process {process.pid} is installing into .venv" in machine.run(code=1)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
    output, _ = process.communicate()
    assert process.returncode == 130 and machine.marker.exists(), output
    (package / "may_end").touch()
    assert "made anew: its last installation did not end" in machine.run() and machine.works() and not kept.exists()
    assert len(list(machine.environment.glob("lib/python*/site-packages/slow.py"))) == 1


def test_a_folder_of_something_else_is_left_alone(machine):
    (machine.checkout / "runs").mkdir()
    (machine.checkout / "runs" / "mine").touch()
    assert "runs is no environment, and is left as it is" in machine.run("runs", "requirements.txt", code=1)
    assert (machine.checkout / "runs" / "mine").exists()
    assert machine.run(".venv", "requirements-none.txt", code=1) == (
        "stochconv_jax: there is no requirements-none.txt here\n"
    )


@pytest.mark.slow
def test_another_lock_in_the_same_folder_is_installed(machine):
    machine.with_real_python().run()
    (machine.checkout / "requirements-dev.txt").write_text("# more\n")
    assert "installing requirements-dev.txt" in machine.run(".venv", "requirements-dev.txt", "requirements.txt")
    assert machine.run() == ""  # held by the other
    (machine.checkout / "requirements-oldest.txt").write_text("# other\n")
    assert "installing requirements-oldest.txt" in machine.run(".venv", "requirements-oldest.txt")
    assert "installing requirements.txt" in machine.run()
