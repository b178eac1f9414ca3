"""The wheel contains the package only, works without the checkout, and is the same program as main.py."""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import stochconv_jax
from tests.conftest import ROOT

pytestmark = pytest.mark.smoke
LAYER = """
import jax, jax.numpy as jnp, stochconv_jax
layer = stochconv_jax.StochasticConv(features=8, output_size=(5, 7))
images = jnp.ones((2, 30, 40, 3), jnp.uint8)
keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
output, variables = layer.init_with_output(keys, images)
assert output.shape == (2, 5, 7, 8) and bool(jnp.isfinite(output).all())
print(stochconv_jax.__file__, stochconv_jax.__version__)
"""
EVERY_MODULE = """
import importlib, pkgutil, stochconv_jax
for module in pkgutil.walk_packages(stochconv_jax.__path__, "stochconv_jax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
try:
    import configs
except ImportError:
    print("no configs")
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy of the checkout's files, with the installed tools."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("stochconv_jax", "configs", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "main.py"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
    subprocess.run([*pip, str(built), str(source)], check=True, capture_output=True)
    (wheel,) = built.iterdir()
    return wheel


@pytest.fixture(scope="session")
def python(wheel, tmp_path_factory):
    """Returns a function that runs Python in an empty folder, with the wheel and its dependencies installed."""
    folder, empty = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, symlinks=True)
    executable = folder / "bin" / "python"
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "packages_of_the_tests.pth").write_text(str(pathlib.Path(pytest.__file__).parents[1]))
    # By its ranges: pip would miss what the tests' packages do not satisfy.
    install = [sys.executable, "-m", "pip", "--python", str(executable), "install", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    def run(*words, code=0, **environ):
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environ
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run([str(executable), *words], cwd=empty, env=variables, **output)
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


def test_the_wheel_holds_the_package_alone_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
    files = (ROOT / "stochconv_jax").rglob("*.py")
    assert names == {file.relative_to(ROOT).as_posix() for file in files}
    assert wheel.name.startswith(f"stochconv_jax-{stochconv_jax.__version__}-py3")


def test_it_works_without_the_checkout(python):
    file, version = python("-c", LAYER).splitlines()[-1].split()
    assert "site-packages" in file and str(ROOT) not in file and version == stochconv_jax.__version__
    assert python("-c", EVERY_MODULE).splitlines()[-1] == "no configs"


def test_the_installed_program_reads_a_run_and_configs_from_anywhere(python, tmp_path):
    run = shutil.copytree(ROOT / "tests" / "fixtures" / "jax_0_10_2" / "run", tmp_path / "run")
    python("-m", "stochconv_jax", "--mode=report", f"--workdir={tmp_path}")
    assert (tmp_path / "report.html").exists() and json.loads((run / "config.json").read_text())
    # An ablation's file imports its neighbours in the checkout.
    config = f"--config={ROOT / 'configs' / 'ablations' / 'quick_seeds.py'}"
    python("-m", "stochconv_jax", "--mode=plan", config, f"--workdir={tmp_path / 'plan'}")
    assert (tmp_path / "plan" / "plan.json").exists()
    output = python("-m", "stochconv_jax", "--mode=plan", "--config.sead=3", "--workdir=plan", code=1)
    assert output == 'stochconv_jax: unknown config key sead. Did you mean "seed"?\n'
    output = python("-m", "stochconv_jax", "--config=configs/b0.py", "--workdir=plan", code=1)
    assert re.fullmatch(r"stochconv_jax: --config=configs/b0.py: .* looked for /\S*/configs/b0.py\n", output)


def test_main_py_and_the_module_are_one_program():
    helps = [
        subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True).stdout
        for words in (["main.py"], ["-m", "stochconv_jax"])
    ]
    assert helps[0] == helps[1]
    assert all(text in helps[0] for text in ("--config", "--mode", "--workdir", "python main.py"))


def test_the_oldest_versions_allowed_are_those_tested():
    """Compares with the locks: `make smoke` tests the oldest versions, requirements.txt has the newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [
        {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, lines)}
        for lines in (
            [line.partition("#")[0] for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
            for name in ("requirements-oldest.txt", "requirements.txt")
        )
    ]
    for requirement in map(Requirement, project["dependencies"]):
        oldest, newest = (pin[canonicalize_name(requirement.name)] for pin in pins)
        (lower,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
        (tested,), (latest,) = oldest, newest
        assert Version(tested.version) == Version(lower), requirement
        assert latest.version in requirement.specifier, requirement


def test_what_is_imported_is_required_and_nothing_else():
    """Checks that what is imported is a dependency or in an extra for imports, and that each of them is imported."""
    imported = set()
    for file in [*(ROOT / "stochconv_jax").rglob("*.py"), *(ROOT / "configs").rglob("*.py"), ROOT / "main.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {"opencv_python_headless": "cv2", "orbax_checkpoint": "orbax", "absl_py": "absl", "pillow": "PIL"}
    named |= {"scikit_learn": "sklearn"}
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + extras["hub"] + extras["wandb"] + extras["mlflow"]
    required = {requirement.split(">")[0].replace("-", "_") for requirement in requirements}
    required = {named.get(name, name) for name in required}
    exporting = {"onnx", "onnxruntime"}  # JAX imports the third, flatbuffers
    assert exporting < {requirement.split(">")[0] for requirement in project["optional-dependencies"]["export"]}
    by_hand = {"tensorflow"}  # for one of the trackers; its error says how to install it
    assert imported - sys.stdlib_module_names - {"stochconv_jax", "configs"} == required | exporting | by_hand


@pytest.mark.parametrize("file", sorted((ROOT / "stochconv_jax").rglob("*.py")), ids=lambda file: file.stem)
def test_the_package_imports_no_experiment(file):
    names = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("configs" in (getattr(node, "module", None) or node.names[0].name).split(".")[:1] for node in names)
