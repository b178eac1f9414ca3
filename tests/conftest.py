"""Every test sees eight CPU devices, strict dtype promotion, and warnings as errors (pyproject.toml)."""

import ctypes
import os
import pathlib
import platform
import resource
import signal
import socket

# Each worker of pytest-xdist and each process that it starts has one core: more threads of BLAS only wait for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.two_blocks import sitecustomize

ROOT = pathlib.Path(__file__).parents[1]
TWO_BLOCKS = pathlib.Path(sitecustomize.__file__).parent
CACHE = ROOT / ".cache" / "xla"
MEMORY = 2**30  # bytes of a worker
PATIENCE = 1200.0  # seconds after which a test calls what it waits for hanging; a slow machine needs fewer
SHARED_DATA = pathlib.Path(os.environ.get("STOCHCONV_SHARED_DATA", ROOT.parent / "shared" / "data" / "isic"))

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile more than they compute, a fifth of it LLVM. `XLA_FLAGS= make test` tests what users compile.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# Of processes that train: they find most programs in the cache, and run them in a third of the time at level 1.
PROCESS = {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(TWO_BLOCKS), str(ROOT), os.environ.get("PYTHONPATH")])),
    "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("optimization_level=0", "optimization_level=1"),
}
jax.devices()  # XLA reads its flags once: here, so that no test that sets some changes what others compile
# A shell lets tests that run in its background ignore SIGINT, and the processes that they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port():
    """Of this machine, for processes that a test starts."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture
def no_compilation_cache():
    """Compiles anew: a program for a machine that is not here is written into the cache, but cannot be read from it."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


def pytest_collection_modifyitems(items):
    """Begins with the files of long tests, so that none is left for one worker at the end (--no-loadscope-reorder).

    The first makes the run `finished` of tests/modes, for which another worker would wait.
    """
    long = ("modes", "docs", "runtime", "training", "planning", "experiment", "benchmarks", "models", "ops")
    places = {folder: place for place, folder in enumerate(long)} | {"modes/test_main.py": -1}

    def place(item):
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        return places.get(file, places.get(file.partition("/")[0], len(long)))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets a worker of pytest-xdist send what a test has logged of files whose names are not UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Forgets compiled programs, a few megabytes each, when they take a gigabyte, and returns freed memory."""
    yield
    if platform.libc_ver()[0] == "glibc":
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        if pages * resource.getpagesize() > MEMORY:
            jax.clear_caches()
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real images beside the checkout; tests that want it are skipped, and say so, without it."""
    if not (SHARED_DATA / "labels.csv").exists():
        pytest.skip(f"no real images at {SHARED_DATA}: set STOCHCONV_SHARED_DATA to a folder of them")
    return SHARED_DATA
