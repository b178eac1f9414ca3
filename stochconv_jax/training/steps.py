"""The training step and the evaluation step: pure functions of a state and a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stochconv_jax.models.classifier import Classifier, sown_windows
from stochconv_jax.models.views import turn_inputs
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import losses, optimizers, parts, rngs
from stochconv_jax.training.state import TrainState
from stochconv_jax.training.step_metrics import EvalMetrics, TrainMetrics

Batch = Mapping[str, jax.Array]
ShardingOf = Callable[[Sequence[int]], jax.sharding.Sharding]  # from the shape of an array


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Classifier,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array,
    label_smoothing: float,
    focal_gamma: float,
    class_weights: Sequence[float],
    ema_decay: float | None,
    accumulate_steps: int,
    compute_sharding: ShardingOf,
    state_sharding: ShardingOf,
) -> tuple[TrainState, TrainMetrics]:
    """Makes one training step.

    All randomness is a function of the seed and the step. Gradients and batch norm are over the global batch. With
    `accumulate_steps` above 1, the batch is processed in so many parts, one after the other: batch norm is then over
    each part, and the running statistics that the parts lead to are averaged. Part j has the rows j, j +
    accumulate_steps, ..., so that no row changes its device.

    Args:
      state: the state before the step.
      batch: the global batch, see data/pipeline.py.
      model: the classifier.
      optimizer: the optimiser.
      seed: the seed of windows, dropout and stochastic depth.
      label_smoothing, focal_gamma, class_weights: see `losses.mean_loss`.
      ema_decay: decay of the moving average of the variables; None for no average.
      accumulate_steps: number of parts.
      compute_sharding: returns the sharding of an array during computation from its shape.
      state_sharding: returns the sharding of an array of the state between steps from its shape.

    Returns:
      The state after the step, and the metrics of the step.
    """
    params = meshes.constrain(state.params, compute_sharding)
    batch_stats = meshes.constrain(state.batch_stats, compute_sharding)

    def part_of_step(rows: Batch, number: jax.Array | int):
        """Returns what `rows` add to (gradients, batch statistics, loss) of the batch, and their logits."""
        keys = {stream: rngs.key(seed, stream, state.step) for stream in ("windows", "dropout", "stochastic_depth")}
        if accumulate_steps > 1:  # windows are drawn by the image's identity, dropout by the row's place in its part
            by_row = ("dropout", "stochastic_depth")
            keys |= {stream: jax.random.fold_in(keys[stream], number) for stream in by_row}
        share = losses.loss_share(rows, batch, class_weights)

        def loss_of(params):
            # No gradient of frozen parts is computed.
            params = parts.keep(model.frozen, jax.lax.stop_gradient(params), params)
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = model.apply(variables, rows, train=True, rngs=keys, mutable=["batch_stats"])
            settings = {"label_smoothing": label_smoothing, "focal_gamma": focal_gamma}
            loss = losses.mean_loss(logits, rows, class_weights=class_weights, **settings) * share
            return loss, (logits, updated.get("batch_stats", {}))

        (loss, (logits, updated)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updated = jax.tree.map(lambda x: x / accumulate_steps, updated)
        return (meshes.constrain(gradients, state_sharding), updated, loss), logits

    (gradients, batch_stats, loss), logits = _sum_over_parts(part_of_step, batch, accumulate_steps)
    batch_stats = parts.keep(model.frozen, state.batch_stats, batch_stats)  # the mean over parts of a batch is rounded
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its integer step count
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay is not None:
        variables = {"params": params, "batch_stats": batch_stats}
        averaged: Any = optax.incremental_update(variables, ema, 1.0 - ema_decay)
        ema = {kind: parts.keep(model.frozen, variables[kind], averaged[kind]) for kind in variables}
    elif (average := optimizers.averaged(opt_state, params)) is not None:
        ema = {"params": average, "batch_stats": batch_stats}
    norm = _norm({"params": params, "batch_stats": batch_stats})
    columns = {name: batch[name] for name in ("label", "index", "skipped")}
    metrics = TrainMetrics.single_from_model_output(loss=loss, norm=norm, logits=logits, **columns)
    return meshes.constrain(TrainState(state.step + 1, params, batch_stats, opt_state, ema), state_sharding), metrics


def _norm(variables: Any) -> jax.Array:
    """Returns the Euclidean norm of all arrays, which must be of one dtype.

    Arrays too small to be sharded are concatenated first, because hundreds of sums take seconds to compile.
    """
    arrays = jax.tree.leaves(variables)
    small = [x.ravel() for x in arrays if x.size < meshes.SMALLEST_SPLIT]
    large = [x for x in arrays if x.size >= meshes.SMALLEST_SPLIT]
    return optax.tree.norm([jnp.concatenate(small), *large])


def _sum_over_parts(
    function: Callable[[Batch, Any], tuple[Any, jax.Array]], batch: Batch, parts: int
) -> tuple[Any, jax.Array]:
    """Calls `function` for each part of the batch, one after the other.

    Returns the sum of its first results over the parts, and its second results, [rows of a part, K], as one array for
    all rows of the batch, [B, K].
    """
    if parts == 1:
        return function(batch, 0)

    def add(sums, number):
        columns = {name: x.reshape(-1, parts, *x.shape[1:]) for name, x in batch.items()}
        rows = {name: jax.lax.dynamic_index_in_dim(x, number, axis=1, keepdims=False) for name, x in columns.items()}
        terms, logits = function(rows, number)
        return jax.tree.map(jnp.add, sums, terms), logits

    first = {name: x[: len(x) // parts] for name, x in batch.items()}
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first, 0)[0])
    sums, logits = jax.lax.scan(add, zeros, jnp.arange(parts))
    return sums, jnp.moveaxis(logits, 0, 1).reshape(-1, logits.shape[-1])


def eval_step(
    variables: Mapping[str, Any],
    batch: Batch,
    *,
    model: Classifier,
    seed: int | jax.Array,
    passes: int,
    views: int = 1,
    compute_sharding: ShardingOf,
) -> EvalMetrics:
    """Predicts a batch and returns its metrics.

    Args:
      variables: 'params' and 'batch_stats' of the model.
      batch: the global batch, see data/pipeline.py.
      model: the classifier.
      seed: the seed of the windows.
      passes, views: number of passes and of views, see `predict_views`.
      compute_sharding: returns the sharding of an array during computation from its shape.
    """
    variables = meshes.constrain(variables, compute_sharding)
    logits = predict_views(variables, batch, model=model, seed=seed, passes=passes, views=views)
    # The TPU's compiler packs booleans into words, a shape by which `planning.hlo.purpose` could not recognise the
    # mask.
    columns = {name: jnp.int32(batch[name]) for name in ("label", "index", "mask", "skipped")}
    return EvalMetrics.single_from_model_output(logits=jnp.moveaxis(logits, 0, 1), **columns)


def predict_views(
    variables: Mapping[str, Any],
    inputs: Batch,
    *,
    model: Classifier,
    seed: int | jax.Array,
    passes: int,
    views: int = 1,
) -> jax.Array:
    """Predicts a batch in several passes over each of several views, which `models.views` describes.

    The thumbnail of a view is encoded only once for all its passes. Windows are drawn anew for each view: pass p of
    view v has the number v * `passes` + p. View 0 has the windows that there are without further views.

    Args:
      variables, inputs, model, seed: as in `predict_passes`.
      passes: number of passes over each view.
      views: number of views, one of `VIEWS`; with 8, images must be square.

    Returns:
      float32 logits [views * passes, B, K], in the order of the numbers of the passes.
    """
    if views == 1:
        return predict_passes(variables, inputs, jnp.arange(passes), model=model, seed=seed)[0]

    def one_view(view):
        numbers = view * passes + jnp.arange(passes)
        return predict_passes(variables, turn_inputs(inputs, view, views), numbers, model=model, seed=seed)[0]

    logits = jax.lax.map(one_view, jnp.arange(views))
    return logits.reshape(-1, *logits.shape[2:])


def predict_passes(
    variables: Mapping[str, Any], inputs: Batch, numbers: jax.Array, *, model: Classifier, seed: int | jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Predicts a batch in several passes, which differ in their windows. The thumbnail is encoded only once.

    Args:
      variables: 'params' and 'batch_stats' of the model.
      inputs: the inputs of the model, [B, ...].
      numbers: integers [P], the numbers of the passes. The windows of a pass are drawn from the seed, the pass's number
        and the example's identity.
      model: the classifier.
      seed: the seed of the windows.

    Returns:
      float32 logits [P, B, K], and the windows, int32 (top, left) in pixels, [P, B or 1, F or 1, 2]; None for a model
      without a window branch.
    """
    unchanged = [name for name in model.encoders if name != "windows"]
    features = {name: model.apply(variables, name, inputs, method="encode") for name in unchanged}

    def one_pass(number):
        all_features, windows = dict(features), None
        if "windows" in model.branches:
            settings = {"model": model, "seed": seed, "method": "encode"}
            all_features["windows"], windows = apply_window_branch(variables, inputs, number, **settings)
        return model.apply(variables, all_features, method="join"), windows

    return jax.lax.map(one_pass, numbers)


def apply_window_branch(
    variables: Mapping[str, Any],
    inputs: Batch,
    number: jax.Array | int,
    *,
    model: Classifier,
    seed: int | jax.Array,
    method: str,
) -> tuple[jax.Array, jax.Array]:
    """Returns the result of `method` ('encode' or 'stem') for the window branch in pass `number`, and the windows.

    The windows are int32 (top, left) in pixels, [B or 1, F or 1, 2]; see `predict_passes` for the arguments.
    """
    keys = {"windows": rngs.key(seed, "windows", number)}
    output, sown = model.apply(variables, "windows", inputs, method=method, rngs=keys, mutable=["intermediates"])
    return output, sown_windows(sown["intermediates"])
