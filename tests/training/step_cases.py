"""Training steps of small configs with all that they need, and random batches for them."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

from stochconv_jax.experiment import build
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.planning import cost
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import rngs, state
from tests.conftest import small_config

BATCH, IMAGE, THUMBNAIL = 16, (96, 80), (32, 32)


def step_config(**keys):
    """Returns the config of a network of two blocks on small images, with flattened `keys` such as 'model.dropout'."""
    config = small_config()
    config.update({"batch_size": BATCH, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.update_from_flattened_dict(keys)
    return config


@dataclasses.dataclass
class Case:
    """A config's model, optimiser and initialiser for a mesh."""

    config: Any
    mesh: jax.sharding.Mesh
    model: Classifier
    optimizer: optax.GradientTransformation
    init: rngs.Seeded

    def train_step(self) -> rngs.Seeded:
        return build.train_step(self.config, self.model, self.optimizer, self.mesh)

    def eval_step(self) -> rngs.Seeded:
        return build.eval_step(self.config, self.model, self.mesh)

    def shapes(self) -> state.TrainState:
        """Returns shapes, dtypes and shardings of the state."""
        return state.shapes(self.init, build.placement(self.config, self.mesh))

    def batch_shapes(self, batch_size: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, dtypes and shardings of a batch, by default of the config's size."""
        sharding = meshes.batch_sharding(self.mesh)
        return build.batch_shapes(self.config, batch_size or self.config.batch_size, sharding)

    def plan(self, batch_size: int | None = None, **settings) -> cost.Program:
        """Compiles the training step; `settings` are those of `cost.compile_step`."""
        shapes = self.shapes()
        with jax.set_mesh(self.mesh):
            return cost.compile_step(
                self.train_step(), shapes, self.batch_shapes(batch_size), parameters=shapes.params, **settings
            )


def case(config, mesh: jax.sharding.Mesh, optimizer: optax.GradientTransformation | None = None) -> Case:
    """Returns what a training step of `config` needs on `mesh`; `optimizer` replaces the config's."""
    model = build.classifier(config)
    optimizer = optimizer or build.optimizer(config, build.schedule(config, steps_per_epoch=5.0))
    return Case(config, mesh, model, optimizer, build.initializer(config, model, optimizer))


def batch_of(mesh: jax.sharding.Mesh, seed: int) -> dict[str, jax.Array]:
    """Draws a batch of the size of `step_config`, sharded over the devices."""
    random = np.random.default_rng(seed)
    rows = {
        "image": random.integers(0, 256, (BATCH, *IMAGE, 3), dtype=np.uint8),
        "thumbnail": random.integers(0, 256, (BATCH, *THUMBNAIL, 3), dtype=np.uint8),
        "label": random.integers(0, 2, BATCH).astype(np.int32),
        "index": np.arange(BATCH, dtype=np.int32),
        "skipped": np.full(BATCH, -1, np.int32),
        "example": random.integers(0, 2**32, BATCH, dtype=np.uint32),
    }
    return next(meshes.to_devices([rows], mesh))


def setup(devices: int, run_seed: int = 0, **model):
    """Returns (mesh, initialiser, training step) for a number of devices, with settings of the model."""
    config = step_config(seed=run_seed, **{"optimizer.name": "sgd", "optimizer.ema_decay": 0.9})
    config.update({"model": model})
    made = case(config, meshes.create(jax.devices()[:devices]))
    return made.mesh, made.init, made.train_step()
