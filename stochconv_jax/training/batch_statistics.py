"""Estimates the statistics of batch norm anew from training images, with the weights that are to be evaluated.

Running statistics lag behind the weights, and in a run of few steps they jump from epoch to epoch. Source: precise
batch norm in "Rethinking 'Batch' in BatchNorm" (Wu and Johnson, 2021, arXiv:2105.07576), section 3.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import rngs
from stochconv_jax.training.state import TrainState
from stochconv_jax.training.steps import Batch, ShardingOf

Statistics = Mapping[str, Any]  # 'mean' and 'var' of each batch norm, by the path of names to it


def add_batch(
    statistics: Statistics,
    variables: Mapping[str, Any],
    batch: Batch,
    number: jax.Array,
    *,
    model: Classifier,
    seed: int | jax.Array,
    compute_sharding: ShardingOf,
    state_sharding: ShardingOf,
) -> Statistics:
    """Returns the statistics of all pixels of `number` batches of equal size and of one more.

    Each layer sees activations that the layers before it have normalised by the batch's own statistics, as in training,
    but nothing is dropped. Frozen parts keep their statistics.

    Args:
      statistics: those of the first `number` batches; ignored if there are none.
      variables: 'params' and 'batch_stats' of the model.
      batch: the next global batch, see data/pipeline.py.
      number: int32, from which and from the seed the batch's windows are drawn.
      model: the classifier, whose batch norms are each called once.
      seed: the seed of the run.
      compute_sharding, state_sharding: as in `steps.train_step`.
    """
    # Without momentum the updated statistics are those of the batch.
    layers = dataclasses.replace(model.layers, batch_norm_momentum=0.0)
    plain = model.clone(layers=layers, dropout=0.0, stochastic_depth=0.0)
    variables = meshes.constrain(variables, compute_sharding)
    windows, dropout = jax.random.split(rngs.key(seed, "statistics", number))  # the metadata's branch has dropout
    keys = {"windows": windows, "dropout": dropout}
    _, updated = plain.apply(variables, batch, train=True, rngs=keys, mutable=["batch_stats"])
    return meshes.constrain(_combine(statistics, updated["batch_stats"], number), state_sharding)


def _combine(before: Statistics, batch: Statistics, number: jax.Array) -> Statistics:
    """Returns the statistics of `number` batches, which are `before`, and of `batch` together.

    Those that are equal in both, as in frozen parts, stay as they are to the bit.
    """
    if batch.keys() != {"mean", "var"}:
        return {name: _combine(before[name], batch[name], number) for name in batch}
    number = number.astype(np.float32)
    step = (batch["mean"] - before["mean"]) / (number + 1)
    mean = jax.numpy.where(number > 0, before["mean"] + step, batch["mean"])
    var = before["var"] + (batch["var"] - before["var"]) / (number + 1) + number * step**2
    return {"mean": mean, "var": jax.numpy.where(number > 0, var, batch["var"])}


def compiled(model: Classifier, mesh: jax.sharding.Mesh, *, seed: int, split_state: bool = False) -> rngs.Seeded:
    """Returns the compiled `add_batch` of statistics, variables, a batch and its number."""
    step = functools.partial(
        add_batch,
        model=model,
        compute_sharding=meshes.placement(mesh, split=False),
        state_sharding=meshes.placement(mesh, split=split_state),
    )
    return rngs.Seeded(jax.jit(step), seed)


def refit(
    state: TrainState, batches: Iterator[Batch], count: int, add: Callable[[Statistics, Any, Batch, Any], Statistics]
) -> TrainState:
    """Returns `state` with statistics of the next `count` batches in place of those to evaluate with.

    `add`: the compiled `add_batch`.
    """
    variables = state.to_evaluate()
    statistics = variables["batch_stats"]
    for number in range(count):
        statistics = add(statistics, variables, next(batches), np.int32(number))
    return state.with_statistics(statistics)
