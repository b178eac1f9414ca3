"""Optimisers and learning-rate schedules, from optax."""

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("rmsprop", "adamw", "sgd")
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
    """Learning rate as a function of the steps done.

    `steps_per_epoch` may be a fraction (the last batch of an epoch reaches into the next). 'exponential' falls by
    `decay_rate` when `decay_start_epoch` epochs are done and again every `decay_every_epochs`; 'cosine' falls to zero
    between the end of the warm-up and `num_epochs`. ValueError for a schedule that is none of `SCHEDULES`.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r}: choose one of {', '.join(SCHEDULES)}")

    def rate(step):
        epoch = jnp.asarray(step, jnp.float32) / steps_per_epoch
        value = jnp.float32(learning_rate)
        if schedule == "exponential":
            # The small term keeps an epoch's end from falling just short of it in float32.
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
) -> optax.GradientTransformation:
    """The optimiser. 'rmsprop' with its defaults is PyTorch's: epsilon outside the root, moments starting at zero.

    ValueError for a name that is none of `OPTIMIZERS`.
    """
    if name == "rmsprop":
        steps = [optax.scale_by_rms(decay=rms_decay, eps=epsilon, eps_in_sqrt=False)]
    elif name == "adamw":
        steps = [optax.scale_by_adam(eps=epsilon)]
    elif name == "sgd":
        steps = []
    else:
        raise ValueError(f"name={name!r}: choose one of {', '.join(OPTIMIZERS)}")
    if momentum and name != "adamw":
        steps.append(optax.trace(decay=momentum))
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
    if clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    return optax.chain(*steps, optax.scale_by_learning_rate(schedule))


def _is_kernel(params):
    """True for kernels; biases and batch norm's parameters have one axis only."""
    return jax.tree.map(lambda x: x.ndim > 1, params)
