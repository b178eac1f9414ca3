"""Optimisers and learning-rate schedules, made of optax's parts."""

import operator
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stochconv_jax.training import parts

OPTIMIZERS = ("rmsprop", "adamw", "sgd", "lion", "adafactor", "muon")
SCHEDULES = ("constant", "exponential", "cosine")


def create_schedule(
    schedule: str,
    *,
    learning_rate: float,
    steps_per_epoch: float,
    num_epochs: float,
    warmup_epochs: float,
    decay_start_epoch: float,
    decay_every_epochs: float,
    decay_rate: float,
) -> optax.Schedule:
    """Returns a function from the number of steps done to the learning rate, float32.

    Args:
      schedule: 'constant'; 'exponential' multiplies the rate by `decay_rate` after `decay_start_epoch` epochs and again
        every `decay_every_epochs`; 'cosine' falls to zero between the end of the warm-up and `num_epochs`.
      learning_rate: the rate before any decay.
      steps_per_epoch: steps in an epoch; a fraction if the last batch of an epoch reaches into the next epoch.
      num_epochs: length of the training, in epochs.
      warmup_epochs: epochs in which the rate rises linearly from zero, as a factor of what the schedule says; 0 for
        none.
      decay_start_epoch, decay_every_epochs, decay_rate: see 'exponential'.

    Raises:
      ValueError: `schedule` is not one of `SCHEDULES`.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r}: choose one of {', '.join(SCHEDULES)}")

    # optax's own schedules round differently, which would change the rates, and so the results, of earlier runs.
    def rate(step):
        epoch = jnp.asarray(step, jnp.float32) / steps_per_epoch
        value = jnp.float32(learning_rate)
        if schedule == "exponential":
            # The small term makes up for rounding at the end of an epoch.
            decays = jnp.floor((epoch - decay_start_epoch) / decay_every_epochs + 1e-5) + 1
            value *= jnp.float32(decay_rate) ** jnp.maximum(decays, 0)
        if schedule == "cosine":
            done = (epoch - warmup_epochs) / max(num_epochs - warmup_epochs, 1e-9)
            value *= 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
        if warmup_epochs:
            value *= jnp.minimum(1.0, epoch / warmup_epochs)
        return value

    return rate


def create_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float,
    rms_decay: float,
    epsilon: float,
    weight_decay: float,
    clip_norm: float | None,
    factors: Mapping[str, float] | None = None,
    schedule_free: float | None = None,
) -> optax.GradientTransformation:
    """Returns an optimiser.

    Args:
      name: one of `OPTIMIZERS`, as optax has them but for two. 'rmsprop' is PyTorch's: epsilon is outside the root, the
        mean square starts at zero, and momentum is applied before the learning rate, which optax.rmsprop applies first.
        'muon' is for matrices except the last layer's, at the learning rate of 'adamw' (Liu et al., 2025,
        arXiv:2502.16982), which the other parameters have.
      schedule: the learning rate as a function of the step.
      momentum: of 'rmsprop' and 'sgd'; 0 for none.
      rms_decay: decay of the mean square of 'rmsprop'.
      epsilon: of 'rmsprop', 'adamw' and 'muon'.
      weight_decay: decoupled weight decay, of kernels only; 0 for none.
      clip_norm: largest norm of the gradients; None for no clipping.
      factors: factors of the learning rate by part, see `parts.values_by_part`; 0 leaves a part as it is.
      schedule_free: makes the optimiser schedule-free (Defazio et al., 2024, arXiv:2405.15682), with gradients at
        `schedule_free` times the average plus the rest times the last iterate; 'adamw' is then without its own
        momentum. `averaged` returns the average, with which one evaluates. None for an ordinary optimiser.

    Raises:
      ValueError: `name` is not one of `OPTIMIZERS`.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"name={name!r}: choose one of {', '.join(OPTIMIZERS)}")
    steps = _direction(name, rms_decay, epsilon)
    if schedule_free and name == "adamw":
        steps = [optax.scale_by_rms(decay=0.999, eps=epsilon, eps_in_sqrt=False, bias_correction=True)]
    if momentum and name in ("rmsprop", "sgd"):
        steps.append(optax.trace(decay=momentum))
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
    if clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    steps.append(optax.scale_by_learning_rate(schedule))
    optimizer = optax.chain(*steps, *([_scale_parts(factors)] if factors else []))
    if not schedule_free:
        return optimizer
    wrapped = optax.contrib.schedule_free(optimizer, schedule, b1=schedule_free)
    # It computes parameters anew at every step, and rounding would change parts that are to stay as they are.
    moves = {part: float(factor > 0) for part, factor in (factors or {}).items()}
    return optax.chain(wrapped, _scale_parts(moves)) if moves else optax.chain(wrapped)


def averaged(opt_state: optax.OptState, params: Any) -> Any:
    """Returns the average that a schedule-free optimiser keeps, like `params`; None for other optimisers."""
    found = [state for state in jax.tree.leaves(opt_state, is_leaf=_is_schedule_free) if _is_schedule_free(state)]
    if not found:
        return None
    average = optax.contrib.schedule_free_eval_params(found[0], params)
    return jax.tree.map(
        lambda x, y, z: jnp.where(y == z, y, x), average, params, found[0].z
    )  # exact where nothing moves


def restarted(opt_state: optax.OptState, params: Any) -> optax.OptState:
    """Returns the state of an optimiser that has made no step, for other `params` than it was made with."""

    def restart(state):
        return state._replace(z=jax.tree.map(jnp.copy, params)) if _is_schedule_free(state) else state

    return jax.tree.map(restart, opt_state, is_leaf=_is_schedule_free)


def _is_schedule_free(state: Any) -> bool:
    return isinstance(state, optax.contrib.ScheduleFreeState)


def _direction(name: str, rms_decay: float, epsilon: float) -> list[optax.GradientTransformation]:
    """Returns what an optimiser makes of the gradients before the learning rate."""
    if name == "rmsprop":
        return [optax.scale_by_rms(decay=rms_decay, eps=epsilon, eps_in_sqrt=False)]
    if name == "adamw":
        return [optax.scale_by_adam(eps=epsilon)]
    if name == "lion":
        return [optax.scale_by_lion()]
    if name == "adafactor":
        return [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms()]
    if name == "muon":
        matrices = optax.contrib.scale_by_muon(weight_dimension_numbers=_dimension_numbers)
        chosen: dict[Hashable, optax.GradientTransformation]
        chosen = {
            "muon": optax.chain(matrices, optax.stateless(_scale_as_adam)),
            "adam": optax.scale_by_adam(eps=epsilon),
        }
        return [optax.partition(chosen, _muon_or_adam)]
    return []


def _muon_or_adam(params):
    """Returns 'muon' for matrices except the last layer's, and 'adam' for the other parameters."""
    hidden = parts.values_by_part(params, {"classifier": False}, True)
    return jax.tree.map(lambda x, is_hidden: "muon" if is_hidden and x.ndim == 2 else "adam", params, hidden)


def _dimension_numbers(updates):
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), updates)


def _scale_as_adam(updates, params):
    """Returns the updates of Muon, which have singular values of about 1, at the root mean square of AdamW's, 0.2."""
    del params
    return jax.tree.map(lambda x: 0.2 * max(x.shape) ** 0.5 * x, updates)


def _scale_parts(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Returns a transformation that multiplies the updates of each part by its factor."""

    def init(params):
        parts.refuse_unknown(params, factors)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        return jax.tree.map(operator.mul, updates, parts.values_by_part(updates, factors, 1.0)), state

    return optax.GradientTransformation(init, update)


def parse_factors(texts: Sequence[str]) -> dict[str, float]:
    """Returns the factors by part of texts such as 'windows=10'."""
    pairs = (text.rpartition("=") for text in texts)
    return {part: float(factor) for part, _, factor in pairs}


def _is_kernel(params):
    """Returns True for kernels and False for biases and batch norm's parameters, which have one axis only."""
    return jax.tree.map(lambda x: x.ndim > 1, params)
