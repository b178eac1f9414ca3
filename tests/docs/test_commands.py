"""Every command and every Python example of the documentation runs, in a copy of the checkout with drawn images."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import pytest

from stochconv_jax.data.synthetic import SyntheticSource
from tests.conftest import ROOT
from tests.docs.pages import PAGES, blocks, commands, name

pytestmark = pytest.mark.docs
# What is not run here: how such a command begins, and why.
NOT_RUN = {
    r"(PYTHON=\S+ )?bash environment\.sh": "installs packages from a network; tests/test_environment.py",
    r"pip install": "installs packages from a network; tests/test_package.py",
    r"make ": "makes environments from a network; CI runs these",
    r"\.venv-(tpu|gpu-plan)/": "needs the compiler for TPUs or GPUs; tests/planning",
    r"(JAX_\w+=\S+ )?python -m benchmarks\.plans": "needs the compiler for TPUs; tests/benchmarks/test_plans.py",
    r"python -m benchmarks\.train_step .*--torch": "needs PyTorch; tests/benchmarks/test_train_step.py",
    r"python -m benchmarks\.input_parts": "needs other image libraries; tests/benchmarks/test_input_parts.py",
    r"python -m benchmarks\.growth": "compiles B0 twenty times; tests/benchmarks/test_growth.py",
    r"python main\.py .*--config\.init\.weights": "needs a file of weights; tests/models/test_keras_weights.py",
    r"sbatch": "needs SLURM; tests/clusters",
    r"HOSTS=": "needs MPI and two hosts; tests/clusters",
    r"python main\.py .*HOST_0": "needs two hosts; tests/clusters/test_networks.py",
    r"kubectl": "needs Kubernetes",
    r"NAME=": "needs a TPU slice",
    r"CLUSTER=": "needs Google Kubernetes Engine",
    r"python main\.py .*ablations/integration\.py": "116 hours; tests/test_ablations.py",
    r"python main\.py --mode=report --workdir=runs/integration": "the report on it",
}
ENVIRON = {"JAX_PLATFORMS": "cpu", "HOME": str(ROOT / ".cache" / "docs"), "PYTHONDONTWRITEBYTECODE": "1"}
COPIED = ("main.py", "README.md", "pyproject.toml", "environment.sh", "stochconv_jax", "configs", "benchmarks", "docs")


def not_run(command: str) -> str | None:
    """Returns the key of `NOT_RUN` for a command that is not run."""
    flat = " ".join(command.replace("\\\n", " ").split())
    return next((begin for begin in NOT_RUN if re.match(begin, flat)), None)


def draw(folder, count, side, first=0):
    """Draws images and returns their names."""
    source = SyntheticSource(size=first + count, image_size=(side, side), seed=1)
    folder.mkdir()
    names = [f"ISIC_{number:07d}" for number in range(first, first + count)]
    for number, image_name in enumerate(names, first):
        cv2.imwrite(str(folder / f"{image_name}.jpg"), source.read(number)[..., ::-1])
    return names


def write_table(file, head, rows):
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([head, *rows])


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout with the images that the pages name, and a trained run, as README's first command trains."""
    folder = tmp_path_factory.mktemp("docs") / "checkout"
    folder.mkdir()
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    names = draw(folder / "IMAGES", 40, 256)
    write_table(
        folder / "LABELS.csv", ("image", "target", "origin"), [(n, i % 2, i % 4 // 2) for i, n in enumerate(names)]
    )
    patients = [(n, i % 2, f"patient {i // 2}") for i, n in enumerate(names)]
    write_table(folder / "PATIENTS.csv", ("photo", "malignant", "patient_id"), patients)
    tests = draw(folder / "TEST_IMAGES", 8, 256, first=50)
    write_table(folder / "TEST.csv", ("image", "target"), [(n, i % 2) for i, n in enumerate(tests)])
    for other, source in {"OTHER_IMAGES": 2, "FIVE_IMAGES": 5, "RAW_IMAGES": 3}.items():
        draw(folder / other, source, 256, first=60)
    shutil.copytree(folder / "IMAGES", folder / "IMAGES_1024")
    archives = draw(folder / "ARCHIVES", 40, 140)
    head = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target".split(
        ","
    )
    words = ("benign", "malignant")
    rows = [(n, f"IP_{i}", "male", 45, "torso", "unknown", words[i % 2], i % 2) for i, n in enumerate(archives)]
    write_table(folder / "ARCHIVES" / "ISIC_2020_Training_GroundTruth.csv", head, rows)
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests" / "docs" / "python_of_the_docs.py"} "$@"\n')
    python.chmod(0o755)
    run_shell(folder, blocks(ROOT / "README.md"), "runs/mine")
    return folder


def run_shell(folder, of_page, only=""):
    """Runs the commands of the blocks; `only`: stops after the first that has this text."""
    environ = (
        os.environ
        | ENVIRON
        | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHON": str(folder / "bin" / "python")}
    )
    for block in of_page:
        if block.title:
            (folder / block.title).write_text(block.text)
        if block.language != "sh":
            continue
        script = [":" if not_run(command) else command for command in commands(block.text)]
        if only:
            script = [command for command in script if only in command][:1]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{shlex.join(script)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        if only and script:
            return


def pages_with(language):
    return [page for page in PAGES if any(block.language == language and not block.title for block in blocks(page))]


@pytest.mark.parametrize("page", pages_with("sh"), ids=name)
def test_the_commands_of_a_page_run(page, checkout, tmp_path):
    if all(not_run(command) for block in blocks(page) if block.language == "sh" for command in commands(block.text)):
        pytest.skip(
            "; ".join({NOT_RUN[not_run(c)] for b in blocks(page) if b.language == "sh" for c in commands(b.text)})
        )
    folder = shutil.copytree(checkout, tmp_path / "checkout", symlinks=True)
    run_shell(folder, blocks(page))


@pytest.mark.parametrize("page", pages_with("python"), ids=name)
def test_the_python_of_a_page_runs(page, checkout, tmp_path):
    folder = shutil.copytree(checkout, tmp_path / "checkout", symlinks=True)
    script = "\n".join(block.text for block in blocks(page) if block.language == "python" and not block.title)
    if "isic_1024" in script:
        run_shell(folder, blocks(page), "--mode=prepare")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=os.environ | ENVIRON, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_command_that_is_not_run_is_on_a_page():
    all_commands = [c for page in PAGES for b in blocks(page) if b.language == "sh" for c in commands(b.text)]
    assert {not_run(command) for command in all_commands} - {None} == set(NOT_RUN)
