"""benchmarks/gpu.sh as a process, in its small form, without a GPU."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CACHE, ROOT

RESULTS = ("stem", "train_step", "eval_passes", "input", "any_order")


def run(folder, **environ):
    variables = {"SMALL": "1", "PYTHON": sys.executable, "JAX_COMPILATION_CACHE_DIR": str(CACHE), **environ}
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", folder]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=3000)


@pytest.mark.slow
def test_every_benchmark_leaves_its_results_and_its_table(tmp_path):
    ended = run(tmp_path, LIMIT="3000")
    assert ended.returncode == 0, ended.stderr
    tables = (tmp_path / "tables.md").read_text()
    assert tables.startswith("# cpu, jax ") and tables in ended.stdout
    for name in RESULTS:
        assert json.loads((tmp_path / f"{name}.json").read_text())["results"]
    for line in ("| ordinary stem |", "| quickstart:control, train |", "| 3 passes |", "| stochconv_jax |"):
        assert line in tables


def test_what_has_no_time_is_named(tmp_path):
    ended = run(tmp_path, LIMIT="0")
    assert ended.returncode == 1 and ended.stderr.count("failed, or not ended in time") == len(RESULTS)
    assert not list(tmp_path.glob("*.json"))
