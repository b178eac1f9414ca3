"""A network of two blocks and its steps, small enough to be compiled in a test."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import LayerConfig
from stochconv_jax.training import compiled_steps, rngs, state
from stochconv_jax.training import mesh as meshes

BATCH, IMAGE, THUMBNAIL = 16, (96, 80), (32, 32)


def classifier(**settings) -> Classifier:
    """Returns the full split, or what `settings` make of it."""
    size = {"window_output": tuple(-(-side // 2) for side in THUMBNAIL)}
    layers = LayerConfig(batch_norm_momentum=0.9)
    defaults = {"variant": variants.get("two_blocks"), "dropout": 0.0, "stochastic_depth": 0.0, "layers": layers}
    return Classifier(**size | defaults | settings)


def inputs(batch_size: int = 1, branches=("thumbnail", "windows"), sharding=None) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a batch as the model takes it."""
    sizes = {"windows": ("image", IMAGE), "thumbnail": ("thumbnail", THUMBNAIL)}
    shapes = {name: ((batch_size, *size, 3), np.uint8) for name, size in (sizes[branch] for branch in branches)}
    shapes["example"] = ((batch_size,), np.uint32)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=sharding) for name, shape in shapes.items()}


def batch_shapes(mesh, batch_size: int, branches=("thumbnail", "windows")) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a batch as the steps take it."""
    sharding = meshes.batch_sharding(mesh)
    rows = {"label": np.int32, "index": np.int32, "skipped": np.int32, "mask": np.bool_}
    shapes = {name: jax.ShapeDtypeStruct((batch_size,), dtype, sharding=sharding) for name, dtype in rows.items()}
    return inputs(batch_size, branches, sharding) | shapes


def batch_of(mesh, seed: int) -> dict[str, jax.Array]:
    """Returns a random batch on the devices."""
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


@dataclasses.dataclass(frozen=True)
class Setup:
    """A model and an optimiser on a mesh, with an average of the variables."""

    mesh: jax.sharding.Mesh
    model: Any
    optimizer: optax.GradientTransformation
    seed: int = 0
    split_state: bool = False
    accumulate_steps: int = 1
    ema_decay: float | None = 0.9

    @property
    def init(self) -> rngs.Seeded:
        shapes, ema = inputs(branches=self.model.branches), self.ema_decay is not None
        return state.initializer(self.model, self.optimizer, shapes, seed=self.seed, ema=ema)

    @property
    def shapes(self) -> state.TrainState:
        return state.shapes(self.init, meshes.placement(self.mesh, split=self.split_state))

    @property
    def train_step(self) -> rngs.Seeded:
        return compiled_steps.train_step(
            self.model,
            self.optimizer,
            self.mesh,
            seed=self.seed,
            ema_decay=self.ema_decay,
            accumulate_steps=self.accumulate_steps,
            split_state=self.split_state,
        )

    @property
    def eval_step(self) -> rngs.Seeded:
        return compiled_steps.eval_step(self.model, self.mesh, seed=self.seed)


def setup(devices: int, seed: int = 0, **model) -> Setup:
    """Returns a setup of so many devices, with gradient descent; `model`: settings of the classifier."""
    return Setup(meshes.create(jax.devices()[:devices]), classifier(**model), optax.sgd(3e-3), seed=seed)
