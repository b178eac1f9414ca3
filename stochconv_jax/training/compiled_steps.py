"""The steps of steps.py, compiled by jax.jit for the devices of a mesh."""

import functools
from collections.abc import Sequence

import jax
import optax

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import rngs, steps


def train_step(
    model: Classifier,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    *,
    seed: int,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[float] = (),
    ema_decay: float | None = None,
    accumulate_steps: int = 1,
    split_state: bool = False,
) -> rngs.Seeded:
    """Returns the compiled `steps.train_step` of a state and a batch, whose metrics are on every device.

    The state that it is given is donated: its arrays cannot be used any more. `split_state`: whether the state is split
    over the devices between steps, see `mesh.placement`.
    """
    step = functools.partial(
        steps.train_step,
        model=model,
        optimizer=optimizer,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        class_weights=tuple(class_weights),
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
        compute_sharding=meshes.placement(mesh, split=False),
        state_sharding=meshes.placement(mesh, split=split_state),
    )
    # None: the step itself constrains the sharding of the state.
    return rngs.Seeded(jax.jit(step, donate_argnums=0, out_shardings=(None, meshes.replicated(mesh))), seed)


def eval_step(model: Classifier, mesh: jax.sharding.Mesh, *, seed: int, passes: int = 1, views: int = 1) -> rngs.Seeded:
    """Returns the compiled `steps.eval_step` of variables and a batch, whose metrics are on every device."""
    step = functools.partial(
        steps.eval_step,
        model=model,
        passes=passes,
        views=views,
        compute_sharding=meshes.placement(mesh, split=False),
    )
    return rngs.Seeded(jax.jit(step, out_shardings=meshes.replicated(mesh)), seed)
