"""Training steps of small configs with all that they need, and random batches for them."""

import dataclasses

import jax
import numpy as np
import optax

from configs import quickstart
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.planning import cost
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import rngs, state

BATCH, IMAGE, THUMBNAIL = 16, (96, 80), (32, 32)


def step_config(**keys):
    """Returns the config of a network of two blocks on small images, with flattened `keys` such as 'model.dropout'."""
    config = quickstart.get_config()
    config.model.variant = "two_blocks"
    config.update({"batch_size": BATCH, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.update_from_flattened_dict(keys)
    return config


@dataclasses.dataclass
class Case:
    """What a training step of a config needs on a mesh."""

    experiment: Experiment

    @property
    def mesh(self) -> jax.sharding.Mesh:
        return self.experiment.mesh

    @property
    def model(self) -> Classifier:
        return self.experiment.model

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return self.experiment.optimizer

    @property
    def init(self) -> rngs.Seeded:
        return self.experiment.initializer

    def train_step(self) -> rngs.Seeded:
        return self.experiment.train_step

    def eval_step(self) -> rngs.Seeded:
        return self.experiment.eval_step

    def shapes(self) -> state.TrainState:
        """Returns shapes, dtypes and shardings of the state."""
        return self.experiment.state_shapes

    def batch_shapes(self, batch_size: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, dtypes and shardings of a batch, by default of the config's size."""
        return self.experiment.batch_shapes(batch_size or self.experiment.config.batch_size)

    def plan(self, batch_size: int | None = None, **settings) -> cost.Program:
        """Compiles the training step; `settings` are those of `cost.compile_step`."""
        shapes = self.shapes()
        with jax.set_mesh(self.mesh):
            return cost.compile_step(
                self.train_step(), shapes, self.batch_shapes(batch_size), parameters=shapes.params, **settings
            )


def case(config, mesh: jax.sharding.Mesh, optimizer: optax.GradientTransformation | None = None) -> Case:
    """Returns what a training step of `config` needs on `mesh`; `optimizer` replaces the config's."""
    given = {"optimizer": optimizer} if optimizer else {}
    return Case(Experiment(config, mesh=mesh, steps_per_epoch=5.0, **given))


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
