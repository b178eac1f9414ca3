"""Checks XLA's results for this package's steps, and for programs that one version of XLA computed wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import compiled_errors
from tests.conftest import ROOT

# jax#39103: the sum of a last row, of 32,769, was 1065369600. jax#40412: the process crashed. Both in jaxlib 0.10.2.
KNOWN = {
    "sum of products over rows": """
import jax, jax.numpy as jnp
rows = jnp.zeros((32769, 3)).at[:, 0].set(jnp.arange(32769.0))
print(jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)[-1] == 32768.0**2)
""",
    "sum of products of seven axes": """
import jax, jax.numpy as jnp
ones = jnp.ones((3, 1, 2, 2, 8, 8, 8))
print((jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(ones, ones) == 2).all())
""",
}
# Largest error of an element, relative to the root mean square of its array. Seen on jax 0.12.0.1, 2 cores of an AMD
# EPYC: 2e-6, 6e-6, 2e-4, 2e-5, 3e-6. A sum of jax#39103 was wrong by 8e-3.
TOLERANCES = {
    "loss": 1e-5,
    "training logits": 5e-5,
    "gradients": 1e-3,
    "batch statistics": 1e-4,
    "evaluation logits": 2e-5,
}
ZEROS = 2e-4  # seen: 4e-5


def as_users_compile(*words):
    """Returns the output of Python in a new process, without the compiler options of the tests."""
    environ = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.mark.smoke
@pytest.mark.parametrize("name", KNOWN)
def test_what_was_once_computed_wrong_is_right(name):
    assert as_users_compile("-c", KNOWN[name]) == "True\n"


def test_the_errors_see_what_is_no_number_and_one_sum_that_is_wrong():
    random = np.random.default_rng(0)
    expected = {name: random.normal(size=(50, 40)) * size for name, size in {"a": 1.0, "b": 0.01, "zero": 1e-9}.items()}

    def error(name, change):
        got = {key: array.copy() for key, array in expected.items()}
        got[name][-1, -1] = change(got[name][-1, -1])
        return compiled_errors.error_of("config", "kind", got, expected)

    assert (error("a", lambda x: x).error, error("a", lambda x: x).zeros) == (0, 0)
    for name in ("a", "b"):
        found = error(name, lambda x: 1.008 * x)
        assert found.worst == name and found.error > 1e-3
        assert error(name, lambda x: np.nan).error == np.inf
    assert error("zero", lambda x: np.nan).zeros == error("zero", lambda x: np.inf).zeros == np.inf
    assert error("zero", lambda x: 0.01).zeros > 1e-3


@pytest.mark.parametrize(
    "configs, arrays",
    [
        pytest.param(("quickstart",), [1, 1, 112, 52, 1], marks=[pytest.mark.smoke, pytest.mark.slow]),
        pytest.param(("b0_full_split",), [1, 1, 424, 196, 1], marks=pytest.mark.slow),  # has all layers of b0
    ],
)
def test_compiled_steps_are_those_computed_one_operation_at_a_time(configs, arrays, tmp_path, capsys):
    file = tmp_path / "errors.json"
    printed = as_users_compile("-m", "tests.compiled_errors", *configs, f"--json={file}")
    with capsys.disabled():
        print(f"\n{printed}")
    errors = json.loads(file.read_text())
    assert [(e["config"], e["kind"]) for e in errors] == [(config, kind) for config in configs for kind in TOLERANCES]
    assert [error["arrays"] for error in errors] == arrays
    for error in errors:
        assert error["error"] < TOLERANCES[error["kind"]] and error["zeros"] < ZEROS, error
