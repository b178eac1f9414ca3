"""The training step and the evaluation step: pure functions of a state and a batch."""
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.training import losses, rngs
from stochconv_jax.training.state import TrainState

Batch = Mapping[str, jax.Array]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Classifier,
    optimizer: optax.GradientTransformation,
    seed: int,
    label_smoothing: float,
    class_weights: Sequence[float],
    ema_decay: float | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step. Returns the next state, and 'loss', 'norm' (of its variables), 'logits' `[B, K]`, 'label', 'index' and
    'skipped' `[B]`.

    Randomness is f(seed, step). Batch norm and gradients are over the global batch.
    """
    keys = {stream: rngs.key(seed, stream, state.step) for stream in ("windows", "dropout", "stochastic_depth")}

    def loss_of(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updated = model.apply(variables, batch, train=True, rngs=keys, mutable=["batch_stats"])
        example_losses = losses.example_losses(logits, batch["label"], label_smoothing=label_smoothing)
        if "label_mixed" in batch:
            others = losses.example_losses(logits, batch["label_mixed"], label_smoothing=label_smoothing)
            example_losses += batch["share_mixed"] * (others - example_losses)
        return losses.mean_loss(example_losses, batch["label"], class_weights), (logits, updated["batch_stats"])

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its integer step count
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay is not None:
        ema = optax.incremental_update({"params": params, "batch_stats": batch_stats}, ema, 1.0 - ema_decay)
    norm = optax.tree.norm({"params": params, "batch_stats": batch_stats})
    handed_through = {name: batch[name] for name in ("label", "index", "skipped")}
    outputs = {"loss": loss, "norm": norm, "logits": logits} | handed_through
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema), outputs


def eval_step(
    variables: Mapping[str, Any], batch: Batch, *, model: Classifier, seed: int, passes: int
) -> dict[str, jax.Array]:
    """Logits `[passes, B, K]` of a batch, with 'label', 'index', 'mask' and 'skipped' `[B]` handed through.

    A pass draws its windows from (seed, number of the pass, identity of the example). The thumbnail is encoded once.
    """
    still = [branch for branch in model.branches if branch != "windows"]
    features = {branch: model.apply(variables, branch, batch, method="encode") for branch in still}

    def one_pass(number):
        drawn = dict(features)
        if "windows" in model.branches:
            keys = {"windows": rngs.key(seed, "windows", number)}
            drawn["windows"] = model.apply(variables, "windows", batch, method="encode", rngs=keys)
        return model.apply(variables, drawn, method="join")

    logits = jax.lax.map(one_pass, jnp.arange(passes))
    return {"logits": logits} | {name: batch[name] for name in ("label", "index", "mask", "skipped")}
