"""Compares the compiled steps of whole networks with the same steps computed one operation at a time.

    python -m tests.compiled_errors b0 b0_full_split

A compiler that computes a fusion wrong computes its operations right where each is a program of its own, as without
jax.jit. For the reference, convolutions are the library's and windows are crops (tests/ops/references.py). Both are
float32: they differ by rounding. Prints a table of errors; --json also writes it to a file.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Mapping
from unittest import mock

import jax
import numpy as np
import optax
from clu import parameter_overview

from stochconv_jax import ops
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.runtime import compiler_flags
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import state
from tests.ops import references

SEED = 0
# Arrays this much smaller than their kind are nothing but rounding, such as the gradient of a bias before batch norm.
ZERO = 1e-4


@dataclasses.dataclass(frozen=True)
class Error:
    """The worst array of a kind: the largest error of an element, relative to the root mean square of the array.

    `zeros`: the same of the arrays that are zero but for rounding, relative to the root mean square of all of the kind.
    """

    config: str
    kind: str
    arrays: int
    error: float
    worst: str
    zeros: float


def batch_of(config) -> dict[str, np.ndarray]:
    """Returns a batch of images of coloured squares of 8x8 pixels, with random identities."""
    random, size = np.random.default_rng(SEED), config.batch_size

    def squares(sides):
        small = random.integers(0, 256, (size, *(side // 8 for side in sides), 3), np.uint8)
        return small.repeat(8, axis=1).repeat(8, axis=2)

    rows = {"image": squares(config.data.image_size)} if "windows" in config.model.branches else {}
    return rows | {
        "thumbnail": squares(config.data.thumbnail_size),
        "label": np.arange(size, dtype=np.int32) % 2,
        "example": random.integers(0, 2**32, size, np.uint32),
        "index": np.arange(size, dtype=np.int32),
        "skipped": np.full(size, -1, np.int32),
        "mask": np.ones(size, bool),
    }


def results(config, *, compiled: bool) -> dict[str, dict[str, np.ndarray]]:
    """Returns the results of a training and an evaluation step from one initial state: float64 by kind and name."""
    mesh = meshes.create(jax.devices()[:1])
    gradients_kept = optax.trace(decay=0.0)  # as its state
    experiment = Experiment(config, mesh=mesh, optimizer=gradients_kept)
    (rows,) = meshes.to_devices([batch_of(config)], mesh)
    first = state.create(experiment.initializer, meshes.replicated(mesh))
    with jax.set_mesh(mesh) if compiled else _one_operation_at_a_time():
        before = jax.device_get(first.batch_stats)
        evaluated = experiment.eval_step(first.trained(), rows)
        stepped, metrics = experiment.train_step(first, rows)
    kept = config.model.batch_norm_momentum
    found = {
        "loss": metrics.steps.values["loss"],
        "training logits": metrics.rows.values["logits"],
        "gradients": stepped.opt_state.trace,
        # Those of the batch alone, or an error would hide behind the running statistics.
        "batch statistics": jax.tree.map(lambda new, old: (new - kept * old) / (1 - kept), stepped.batch_stats, before),
        "evaluation logits": evaluated.rows.values["logits"],
    }
    return {kind: _by_name(tree) for kind, tree in found.items()}


@contextlib.contextmanager
def _one_operation_at_a_time():
    """Replaces our convolutions by the library's, and runs without jit."""
    # `ops` has a function of the same name as the module in which the stochastic convolution finds window_conv.
    stochastic_conv = importlib.import_module("stochconv_jax.ops.stochastic_conv")
    places = {"window_conv": stochastic_conv, "depthwise_conv": ops, "pointwise_conv": ops}
    with contextlib.ExitStack() as stack:
        for name, place in places.items():
            stack.enter_context(mock.patch.object(place, name, getattr(references, name)))
        stack.enter_context(jax.disable_jit())
        yield


def _by_name(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.float64(leaf) for path, leaf in leaves}


def error_of(config: str, kind: str, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Error:
    """Returns the error of the arrays of a kind; a NaN counts as an infinite error."""
    size = {name: _rms(array) for name, array in expected.items()}
    largest = {
        name: float(np.nan_to_num(np.abs(got[name] - array), nan=np.inf, posinf=np.inf).max())
        for name, array in expected.items()
    }
    whole = _rms(np.concatenate([array.ravel() for array in expected.values()]))
    relative = {name: largest[name] / size[name] for name in expected if size[name] > ZERO * whole}
    zeros = max((largest[name] / whole for name in expected if name not in relative), default=0.0)
    worst = max(relative, key=relative.get)
    return Error(config, kind, len(expected), relative[worst], worst, zeros)


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(array**2)))


def errors(name: str, batch_size: int) -> list[Error]:
    """Returns the errors of configs/NAME.py by kind."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.batch_size = config.eval.batch_size = batch_size
    got, expected = (results(config, compiled=compiled) for compiled in (True, False))
    return [error_of(name, kind, got[kind], expected[kind]) for kind in expected]


def _cell(value: str | int | float) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def main() -> None:
    """Compares the configs, prints the errors and writes them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.compiled_errors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", nargs="+", help="names of files in configs/")
    # 4 * 112 * 112 places are more than the 32,768 above which jaxlib 0.10.2 summed wrong.
    parser.add_argument("--batch_size", type=int, default=4, help="images in a step")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the errors")
    options = parser.parse_args()
    compiler_flags.add(os.environ)
    found = [error for name in options.configs for error in errors(name, options.batch_size)]
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, batch of {options.batch_size}, seed {SEED}")
    print(parameter_overview.make_table(found, value_formatter=_cell))
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(error) for error in found]))


if __name__ == "__main__":
    main()
