"""The train state: how it is made, where its arrays lie, and what of it a checkpoint keeps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from stochconv_jax.training import optimizers, rngs

# The items of a checkpoint that hold arrays. Reading the first does not need the second.
VARIABLES, OPTIMIZER = "variables", "optimizer"


@flax.struct.dataclass
class TrainState:
    """The arrays that a training step takes and returns.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the parameters.
      batch_stats: the running statistics of batch norm; {} for a network without any.
      opt_state: the optimiser's state.
      ema: averages {'params', 'batch_stats'} to evaluate with, or None where no average is kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    def with_variables(self, variables: dict[str, Any]) -> "TrainState":
        """Returns the state with these {'params', 'batch_stats'}, which also become the average where one is kept."""
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), variables, self.trained())
        ema = None if self.ema is None else jax.tree.map(jnp.copy, placed)
        opt_state = optimizers.restarted(self.opt_state, placed["params"])
        return dataclasses.replace(self, **placed, opt_state=opt_state, ema=ema)

    def trained(self) -> dict[str, Any]:
        """Returns {'params', 'batch_stats'} as the optimiser left them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def to_evaluate(self) -> dict[str, Any]:
        """Returns the {'params', 'batch_stats'} to evaluate with: the average where one is kept."""
        return self.trained() if self.ema is None else self.ema

    def with_statistics(self, batch_stats: Any) -> "TrainState":
        """Returns the state with other 'batch_stats' to evaluate with."""
        if self.ema is None:
            return dataclasses.replace(self, batch_stats=batch_stats)
        return dataclasses.replace(self, ema={**self.ema, "batch_stats": batch_stats})

    def to_items(self) -> dict[str, dict[str, Any]]:
        """Returns the state as the two items of a checkpoint; see `from_items`."""
        average = {} if self.ema is None else {"ema": self.ema}
        return {VARIABLES: self.trained() | average, OPTIMIZER: {"step": self.step, "opt_state": self.opt_state}}

    @classmethod
    def from_items(cls, items: Mapping[str, Mapping[str, Any]]) -> "TrainState":
        """Returns the state that `to_items` took apart."""
        return cls(**{"ema": None, **items[VARIABLES], **items[OPTIMIZER]})


def variables_initializer(model: nn.Module, inputs: Any, *, seed: int) -> rngs.Seeded:
    """Returns a function that makes fresh variables {'params', 'batch_stats'}.

    `inputs`: shapes and dtypes (jax.ShapeDtypeStruct) of a batch as the model takes it; no values are needed.
    """

    def init(seed: jax.Array) -> dict[str, Any]:
        arrays = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
        variables = model.init({"params": rngs.key(seed, "init"), "windows": rngs.key(seed, "windows")}, arrays)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    return rngs.Seeded(init, seed)


def initializer(
    model: nn.Module, optimizer: optax.GradientTransformation, inputs: Any, *, seed: int, ema: bool
) -> rngs.Seeded:
    """Returns a function that makes a fresh state; `ema` says whether it keeps an average.

    `inputs`: as for `variables_initializer`.
    """
    init_variables = variables_initializer(model, inputs, seed=seed)

    def init(seed: jax.Array) -> TrainState:
        variables = init_variables.function(seed=seed)
        average = dict(variables) if ema else None
        return TrainState(
            jnp.zeros((), jnp.int32), **variables, opt_state=optimizer.init(variables["params"]), ema=average
        )

    return rngs.Seeded(init, seed)


def create(init: rngs.Seeded, sharding: Any) -> TrainState:
    """Makes a fresh state on the devices. `sharding`: one for all arrays, or a state of them."""
    # Hundreds of generators, run once: on a CPU, optimising them takes most of a minute and saves nothing.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    made = jax.jit(init.function, out_shardings=sharding, compiler_options=options)
    return rngs.Seeded(made, init.seed)()


def shapes(init: rngs.Seeded, place: Callable[[tuple[int, ...]], Any]) -> Any:
    """Returns the tree that `init` would make as shapes, dtypes and shardings (jax.ShapeDtypeStruct).

    A checkpoint is restored onto it. `place`: from the shape of an array to its sharding, see `mesh.placement`.
    """
    made = jax.eval_shape(init.function, seed=init.seed)  # under the same mesh, `create` uses its trace
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x.shape)), made)


def shardings(shapes: TrainState) -> TrainState:
    """Returns the sharding of each array."""
    return jax.tree.map(lambda x: x.sharding, shapes)
