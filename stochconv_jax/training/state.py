"""What training changes, and how it comes to be."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from stochconv_jax.training import rngs


@flax.struct.dataclass
class TrainState:
    """`step`: int32, steps done. `ema`: averaged {'params', 'batch_stats'}, or None where no average is kept."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    def with_variables(self, variables: dict[str, Any]) -> "TrainState":
        """The state with these parameters and statistics, and the average, where one is kept, at them."""
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), variables, self.trained())
        ema = None if self.ema is None else jax.tree.map(jnp.copy, placed)
        return self.replace(params=placed["params"], batch_stats=placed["batch_stats"], ema=ema)

    def trained(self) -> dict[str, Any]:
        """The variables as the optimiser left them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def to_evaluate(self) -> dict[str, Any]:
        """The variables to evaluate with: the average where there is one."""
        return self.trained() if self.ema is None else self.ema


def initializer(
    model: nn.Module, optimizer: optax.GradientTransformation, inputs: Any, *, seed: int, ema: bool
) -> rngs.Seeded:
    """A function that makes a fresh state.

    `inputs`: shapes and dtypes (jax.ShapeDtypeStruct) of a batch as the model takes it; no values are needed.
    """

    def init(seed: jax.Array) -> TrainState:
        arrays = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
        keys = {"params": rngs.key(seed, "init"), "windows": rngs.key(seed, "windows")}
        variables = model.init(keys, arrays)
        params, batch_stats = variables["params"], variables["batch_stats"]
        average = {"params": params, "batch_stats": batch_stats} if ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)

    return rngs.Seeded(init, seed)


def create(init: rngs.Seeded, sharding: Any) -> TrainState:
    """A fresh state, made on the devices in its `sharding`, one for all arrays or a state of them."""
    # Hundreds of generators, run once: on a CPU, optimising them takes most of a minute and saves nothing.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    made = jax.jit(init.function, out_shardings=sharding, compiler_options=options)
    return rngs.Seeded(made, init.seed)()


def shapes(init: rngs.Seeded, place: Callable[[tuple[int, ...]], Any]) -> TrainState:
    """Shapes, dtypes and shardings of a state that is not made: what a checkpoint is restored onto.

    `place`: from the shape of an array to its sharding, see mesh.placement.
    """
    made = jax.eval_shape(init.function, seed=init.seed)  # under the same mesh, `create` uses its trace
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x.shape)), made)


def shardings(shapes: TrainState) -> TrainState:
    """Of each array its sharding."""
    return jax.tree.map(lambda x: x.sharding, shapes)
