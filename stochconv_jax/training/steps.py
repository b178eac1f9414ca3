"""The training step and the evaluation step: pure functions of a state and a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.training import losses, rngs
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training.state import TrainState
from stochconv_jax.training.step_metrics import EvalMetrics, TrainMetrics

Batch = Mapping[str, jax.Array]
Place = Callable[[Sequence[int]], jax.sharding.Sharding]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Classifier,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array,
    label_smoothing: float,
    class_weights: Sequence[float],
    ema_decay: float | None,
    accumulate_steps: int,
    compute_sharding: Place,
    state_sharding: Place,
) -> tuple[TrainState, TrainMetrics]:
    """One step. Returns the next state, and the metrics of this step.

    Randomness is f(seed, step). Gradients are over the global batch, and so is batch norm, unless the batch is taken in
    `accumulate_steps` parts one after the other: then it is over each part, and the statistics that the parts leave are
    averaged. Parts are rows j, j + accumulate_steps, ..., so that each device keeps its own rows.

    `compute_sharding`: from the shape of an array to its sharding during computation.
    `state_sharding`: from the shape of an array of the state to its sharding between steps.
    """
    params = meshes.constrain(state.params, compute_sharding)
    batch_stats = meshes.constrain(state.batch_stats, compute_sharding)

    def part_of_step(rows: Batch, number: jax.Array | int):
        """What `rows` add to ((gradients, batch statistics, loss) of the whole batch), and their logits."""
        keys = {stream: rngs.key(seed, stream, state.step) for stream in ("windows", "dropout", "stochastic_depth")}
        if accumulate_steps > 1:  # windows are drawn for an image by its name, the others for a row by its place
            drawn = ("dropout", "stochastic_depth")
            keys |= {stream: jax.random.fold_in(keys[stream], number) for stream in drawn}
        share = losses.share(rows, batch, class_weights)

        def loss_of(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = model.apply(variables, rows, train=True, rngs=keys, mutable=["batch_stats"])
            weighing = {"label_smoothing": label_smoothing, "class_weights": class_weights}
            loss = losses.mean_loss(logits, rows, **weighing) * share
            return loss, (logits, updated["batch_stats"])

        (loss, (logits, updated)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updated = jax.tree.map(lambda x: x / accumulate_steps, updated)
        return (meshes.constrain(gradients, state_sharding), updated, loss), logits

    (gradients, batch_stats, loss), logits = _by_parts(part_of_step, batch, accumulate_steps)
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its integer step count
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay is not None:
        ema = optax.incremental_update({"params": params, "batch_stats": batch_stats}, ema, 1.0 - ema_decay)
    norm = _norm({"params": params, "batch_stats": batch_stats})
    handed_through = {name: batch[name] for name in ("label", "index", "skipped")}
    metrics = TrainMetrics.single_from_model_output(loss=loss, norm=norm, logits=logits, **handed_through)
    return meshes.constrain(TrainState(state.step + 1, params, batch_stats, opt_state, ema), state_sharding), metrics


def _norm(variables: Any) -> jax.Array:
    """The Euclidean norm of all arrays, which must be of one dtype.

    Arrays too small to be split over devices are joined first: hundreds of sums take seconds to compile.
    """
    arrays = jax.tree.leaves(variables)
    small = [x.ravel() for x in arrays if x.size < meshes.SMALLEST_SPLIT]
    large = [x for x in arrays if x.size >= meshes.SMALLEST_SPLIT]
    return optax.tree.norm([jnp.concatenate(small), *large])


def _by_parts(function: Callable[[Batch, Any], tuple[Any, jax.Array]], batch: Batch, parts: int):
    """The sum of what `function` first returns for each part of the batch, and its second, `[B, K]`, of all rows."""
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
    compute_sharding: Place,
) -> EvalMetrics:
    """Predicts a batch and returns its metrics.

    `compute_sharding`: where the variables are computed with, by shape. See `passes_over` for the passes.
    """
    variables = meshes.constrain(variables, compute_sharding)
    logits, _ = passes_over(variables, batch, jnp.arange(passes), model=model, seed=seed)
    # As int32, so that the TPU's compiler does not pack the mask into words, which plan could not tell the purpose of.
    handed_through = {name: jnp.int32(batch[name]) for name in ("label", "index", "mask", "skipped")}
    return EvalMetrics.single_from_model_output(logits=jnp.moveaxis(logits, 0, 1), **handed_through)


def passes_over(
    variables: Mapping[str, Any], inputs: Batch, numbers: jax.Array, *, model: Classifier, seed: int | jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Logits `[P, B, K]` of the passes `numbers` `[P]`, and the windows that they looked through.

    A pass draws its windows from (seed, number of the pass, identity of the example). The thumbnail is encoded once.
    Windows are int32 (top, left) in pixels, `[P, B, F, 2]` with 1 for the B or F that share them; None for a model
    without any.
    """
    still = [branch for branch in model.branches if branch != "windows"]
    features = {branch: model.apply(variables, branch, inputs, method="encode") for branch in still}

    def one_pass(number):
        drawn, windows = dict(features), None
        if "windows" in model.branches:
            about = {"model": model, "seed": seed, "method": "encode"}
            drawn["windows"], windows = watch_windows(variables, inputs, number, **about)
        return model.apply(variables, drawn, method="join"), windows

    return jax.lax.map(one_pass, numbers)


def watch_windows(
    variables: Mapping[str, Any],
    inputs: Batch,
    number: jax.Array | int,
    *,
    model: Classifier,
    seed: int | jax.Array,
    method: str,
) -> tuple[jax.Array, jax.Array]:
    """What `method` ('encode' or 'stem') of the window branch gives in a pass, and the windows that it looked through.

    See `passes_over`; windows are `[B or 1, F or 1, 2]`.
    """
    keys = {"windows": rngs.key(seed, "windows", number)}
    output, sown = model.apply(variables, "windows", inputs, method=method, rngs=keys, mutable=["intermediates"])
    return output, model.sown_windows(sown["intermediates"])
