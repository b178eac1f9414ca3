"""The training and evaluation steps of configs, compiled and called on batches of random pixels."""

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.planning import hlo
from stochconv_jax.training import rngs, state


@dataclasses.dataclass(frozen=True)
class Case:
    """The compiled steps of a config.

    Attributes:
      batch_size: images of the batch, over all devices.
      train, evaluate: run a step and return its outputs.
      seconds: time of compilation, by step.
      memory: bytes on a device, by step, see `planning.hlo.memory`.
    """

    batch_size: int
    train: Callable[[], Any]
    evaluate: Callable[[], Any]
    seconds: dict[str, float]
    memory: dict[str, dict[str, int]]


def config_named(name: str, batch_size: int) -> ConfigDict:
    """Returns the config of configs/NAME.py, given as NAME or NAME:ARGUMENT, with batches of `batch_size`."""
    module, *argument = name.split(":")
    config = importlib.import_module(f"configs.{module}").get_config(*argument)
    config.batch_size = config.eval.batch_size = batch_size
    return config


def case(config: ConfigDict, only: tuple[str, ...] = ("train", "evaluate")) -> Case:
    """Compiles the steps in `only` as training does, for all devices, without a compilation cache."""
    experiment = Experiment(config, steps_per_epoch=100.0)
    with jax.set_mesh(experiment.mesh):
        now = state.create(experiment.initializer, state.shardings(experiment.state_shapes))
        batch = _random(experiment.batch_shapes(config.batch_size))
        evaluated = jax.tree.map(jnp.copy, now.to_evaluate())  # training uses its state up
        steps = {
            "train": (experiment.train_step, now),
            "evaluate": (experiment.eval_step, evaluated),
        }
        compiled, seconds, memory = {}, {}, {}
        for name in only:
            step, arguments = steps[name]
            begun = time.perf_counter()
            program = step.lower(arguments, batch).compile()
            seconds[name], memory[name] = time.perf_counter() - begun, hlo.memory(program)
            compiled[name] = rngs.Seeded(program, step.seed)

    def train():
        nonlocal now
        now, outputs = compiled["train"](now, batch)
        return now, outputs

    def evaluate():
        return compiled["evaluate"](evaluated, batch)

    return Case(config.batch_size, train, evaluate, seconds, memory)


def _random(shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Returns a batch with random pixels and identities and labels 0 and 1, in which every row counts."""

    def column(name, shape):
        if name in ("image", "thumbnail", "example"):
            return jax.random.bits(jax.random.key(len(name)), shape.shape, shape.dtype)
        rows = jnp.arange(shape.shape[0])
        return {"label": rows % 2, "index": rows, "skipped": rows * 0 - 1, "mask": rows >= 0}[name]

    return {name: jax.device_put(column(name, shape), shape.sharding) for name, shape in shapes.items()}
