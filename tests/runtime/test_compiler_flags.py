"""The flags that the program adds for the compiler; flags that are set are left alone."""

import subprocess
import sys

import jax
import pytest

from stochconv_jax.runtime import compiler_flags
from stochconv_jax.runtime.compiler_flags import DETERMINISTIC, PARALLEL_LOOPS
from tests.conftest import ROOT

OFF, STRONGER = "--xla_gpu_exclude_nondeterministic_ops=false", "--xla_gpu_deterministic_ops=true"


@pytest.mark.parametrize(
    "platforms, plugins, flags, added",
    [
        ("", ["xla_cuda13"], "", [PARALLEL_LOOPS, DETERMINISTIC]),
        ("cuda,cpu", ["xla_cuda12"], "--a=b", [PARALLEL_LOOPS, DETERMINISTIC]),
        ("", [], "", [PARALLEL_LOOPS]),
        ("cpu", ["xla_cuda13"], "", [PARALLEL_LOOPS]),
        ("", ["tpu"], "", [PARALLEL_LOOPS]),
        ("", ["rocm"], OFF, [PARALLEL_LOOPS]),
        ("gpu", ["xla_cuda13"], STRONGER, [PARALLEL_LOOPS]),
        ("", ["xla_cuda13"], "--xla_backend_extra_options=x=1", [DETERMINISTIC]),
        ("", ["xla_cuda13"], "/a/file/of/flags", []),
    ],
)
def test_flags_are_added_where_they_may_matter_and_none_is_changed(platforms, plugins, flags, added):
    environment = {"JAX_PLATFORMS": platforms, "XLA_FLAGS": flags}
    compiler_flags.add(environment, plugins)
    assert environment == {"JAX_PLATFORMS": platforms, "XLA_FLAGS": " ".join([*flags.split(), *added])}


def test_xla_knows_the_flags_and_runs_loops_of_the_window_convolution_on_all_cores():
    program = """
import os, sys
from stochconv_jax.runtime import compiler_flags
if sys.argv[1] == "added":
    compiler_flags.add(os.environ, ["cuda"])
import jax, jax.numpy as jnp
from stochconv_jax.ops import window_conv
shapes = [((2, 300, 300, 3), jnp.uint8), ((2, 32, 2), jnp.int32), ((3, 3, 3, 32), jnp.float32)]
conv = lambda *arrays: window_conv(*arrays, strides=(2, 2), window_size=(225, 225))
text = jax.jit(conv).lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile().as_text()
print("while(" in text, "xla_cpu_small_call" in text)
"""

    def compiled(how):
        environ = {"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
        words = [sys.executable, "-c", program, how]
        return subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout

    assert compiled("added") == "True False\n"
    if jax.__version_info__ >= (0, 12):  # when this fails with a newer JAX, the flag is no longer needed
        assert compiled("as it is") == "True True\n"
