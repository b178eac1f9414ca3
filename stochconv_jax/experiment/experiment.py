"""The objects that a config describes, from its images to its compiled steps."""

import functools
import logging
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from stochconv_jax.data import pipeline, sources
from stochconv_jax.data.metadata import Encoding
from stochconv_jax.experiment import data_sources
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import HEAD, Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, LayerConfig
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import compiled_steps, losses, optimizers, rngs, state
from stochconv_jax.training.loop import Epochs

logger = logging.getLogger(__name__)

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
AUTO = "auto"  # of config.model.dtype


def dtype_for(platform: str) -> str:
    """Returns the dtype of activations that 'auto' stands for on `platform`, JAX's name of it."""
    return "float32" if platform == "cpu" else "bfloat16"


class Experiment:
    """The objects that a config describes. Each is created once, when it is first used.

    Evaluation therefore creates no optimiser, and a plan reads no images.

    Args:
      config: a checked config, which must not change afterwards.
      given: objects that replace those of the config, by property name: mesh=..., optimizer=...
    """

    def __init__(self, config: ConfigDict, **given: Any):
        self.config = config
        for name, value in given.items():
            if not isinstance(getattr(type(self), name, None), functools.cached_property):
                raise TypeError(f"an Experiment has no object {name!r} to be given")
            vars(self)[name] = value

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """Every device of every process."""
        return meshes.create()

    # The model and its inputs.

    @property
    def dtype(self) -> str:
        """The dtype of activations: config.model.dtype, or for 'auto' the one for the platform of the devices."""
        chosen = self.config.model.dtype
        return dtype_for(self.mesh.devices.flat[0].platform) if chosen == AUTO else chosen

    @functools.cached_property
    def model(self) -> Classifier:
        """The network."""
        model, data = self.config.model, self.config.data
        return Classifier(
            variant=variants.get(model.variant),
            branches=tuple(model.branches),
            merge_after=HEAD if model.merge_after == HEAD else int(model.merge_after),
            num_classes=1 if data.num_classes == 2 else data.num_classes,
            window_output=tuple(-(-size // 2) for size in data.thumbnail_size),
            window_stem_filters=model.window_stem_filters,
            sampling=model.sampling,
            filters_per_window=model.filters_per_window,
            axes=model.axes,
            dropout=model.dropout,
            stochastic_depth=model.stochastic_depth,
            remat=model.remat,
            layers=LayerConfig(
                dtype=DTYPES[self.dtype],
                batch_norm_momentum=model.batch_norm_momentum,
                normalization=model.normalization,
                conventions=CONVENTIONS[model.conventions],
            ),
            frozen=tuple(self.config.optimizer.freeze),
            metadata_features=len(self.metadata.features()) if self.metadata else 0,
        )

    @functools.cached_property
    def metadata(self) -> Encoding | None:
        """The encoding of config.data.metadata_columns, fitted to the training images; None without such columns.

        That of a run that has begun must be given, see `runs.experiment`.
        """
        columns = self.config.data.metadata_columns
        return Encoding.fit(self._sources[0], columns) if columns else None

    def with_metadata(self, source: sources.Source) -> sources.Source:
        """Returns `source` with the metadata that the network takes, if it takes any, see `Encoding.attach`."""
        return self.metadata.attach(source) if self.metadata else source

    @functools.cached_property
    def pixels(self) -> dict[str, Any]:
        """`image_size` and `thumbnail_size` in pixels, and `outputs`, the images that the branches read."""
        needed = {"windows": "image", "thumbnail": "thumbnail"}
        return {
            "image_size": tuple(self.config.data.image_size),
            "thumbnail_size": tuple(self.config.data.thumbnail_size),
            "outputs": tuple(needed[branch] for branch in self.config.model.branches),
        }

    def inputs(self, batch_size: int = 1, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes and dtypes of the model's inputs for a batch."""
        sizes = {name: self.pixels[f"{name}_size"] for name in self.pixels["outputs"]}
        shapes: dict[str, tuple[tuple[int, ...], Any]]
        shapes = {name: ((batch_size, *size, 3), jnp.uint8) for name, size in sizes.items()}
        shapes["example"] = ((batch_size,), jnp.uint32)
        if self.metadata:
            shapes["metadata"] = ((batch_size, len(self.metadata.features())), jnp.float32)
        return {name: jax.ShapeDtypeStruct(*spec, sharding=sharding) for name, spec in shapes.items()}

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes, dtypes and shardings of a batch for the compiled steps, see data/pipeline.py."""
        sharding = meshes.batch_sharding(self.mesh)
        rows = {"label": jnp.int32, "index": jnp.int32, "skipped": jnp.int32, "mask": jnp.bool_}
        if self.config.augment.mixup:
            rows |= {"label_mixed": jnp.int32, "share_mixed": jnp.float32}
        shapes = {name: jax.ShapeDtypeStruct((batch_size,), dtype, sharding=sharding) for name, dtype in rows.items()}
        return self.inputs(batch_size, sharding) | shapes

    # Images and batches of them.

    @functools.cached_property
    def _sources(self) -> tuple[sources.Source, sources.Source]:
        return data_sources.training_and_validation(self.config)

    @functools.cached_property
    def train_source(self) -> sources.Source:
        """The images to train on."""
        return self.with_metadata(self._sources[0])

    @functools.cached_property
    def val_source(self) -> sources.Source:
        """The validation images."""
        return self.with_metadata(self._sources[1])

    @functools.cached_property
    def epochs(self) -> Epochs:
        """The steps at which epochs end. Raises ValueError if a batch is larger than an epoch."""
        num_images, batch_size = len(self.train_source), self.config.batch_size
        if batch_size > num_images:
            raise ValueError(
                f"config.batch_size={batch_size} is more than the {num_images} images to train on: set "
                f"--config.batch_size={num_images} or less"
            )
        return Epochs(num_images, batch_size, self.config.num_epochs)

    @property
    def eval_batch_size(self) -> int:
        """config.eval.batch_size, rounded up to a multiple of the devices."""
        return -(-self.config.eval.batch_size // self.mesh.size) * self.mesh.size

    def train_batches(self, start_step: int) -> Generator[dict[str, Any]]:
        """Yields this host's rows of the training batches from `start_step` on, without end. Close it when done."""
        return pipeline.train_batches(
            self.train_source,
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            start_step=start_step,
            augmentation=pipeline.Augmentation(**self.config.augment.to_dict()),
            order=self.config.data.order,
            **self.pixels,
            **self.reading,
        )

    def eval_batches(self, source: sources.Source, rounds: int | None = None) -> pipeline.EvalBatches:
        """Returns this host's rows of the batches that hold every image of `source` once. Close it when done."""
        return pipeline.EvalBatches(
            self.with_metadata(source), batch_size=self.eval_batch_size, rounds=rounds, **self.pixels, **self.reading
        )

    @property
    def reading(self) -> dict[str, Any]:
        """Settings of all streams of batches."""
        names = ("num_workers", "timeout_seconds", "on_bad_image")
        hosts = {"host_index": jax.process_index(), "host_count": jax.process_count()}
        return hosts | {name: self.config.data[name] for name in names}

    # The train state and the steps.

    @functools.cached_property
    def steps_per_epoch(self) -> float:
        """The number of steps per epoch, a fraction if the last batch reaches into the next epoch."""
        return self.epochs.steps_per_epoch

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate as a function of the number of steps done."""
        names = ("learning_rate", "warmup_epochs", "decay_start_epoch", "decay_every_epochs", "decay_rate")
        return optimizers.create_schedule(
            self.config.optimizer.schedule,
            steps_per_epoch=self.steps_per_epoch,
            num_epochs=self.config.num_epochs,
            **{name: self.config.optimizer[name] for name in names},
        )

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser."""
        names = ("momentum", "rms_decay", "epsilon", "weight_decay", "clip_norm", "schedule_free")
        settings = {name: self.config.optimizer[name] for name in names}
        frozen = dict.fromkeys(self.config.optimizer.freeze, 0.0)
        factors = optimizers.parse_factors(self.config.optimizer.factors)
        # The last that fits counts, and a part that is frozen already would keep its place among the factors.
        settings["factors"] = {part: factors[part] for part in factors if part not in frozen} | frozen
        return optimizers.create_optimizer(self.config.optimizer.name, self.schedule, **settings)

    @functools.cached_property
    def class_weights(self) -> tuple[float, ...]:
        """The weight of each class in the loss: config.loss.class_weights or, if 'balanced', of the training images."""
        weights = self.config.loss.class_weights
        if weights != "balanced":
            return tuple(weights)
        return losses.balanced_weights(sources.class_counts(self.train_source.labels, self.config.data.num_classes))

    @functools.cached_property
    def initializer(self) -> rngs.Seeded:
        """A function that initialises a train state."""
        seed, ema = self.config.seed, self.keeps_average
        return state.initializer(self.model, self.optimizer, self.inputs(), seed=seed, ema=ema)

    @property
    def keeps_average(self) -> bool:
        """Whether the train state has averages of the variables, which are evaluated in their place."""
        return any(self.config.optimizer[name] is not None for name in ("ema_decay", "schedule_free"))

    @functools.cached_property
    def state_sharding(self) -> Callable[[Sequence[int]], jax.sharding.NamedSharding]:
        """The sharding of an array of the train state between steps, as a function of its shape."""
        return meshes.placement(self.mesh, split=self._split_state)

    @property
    def _split_state(self) -> bool:
        return self.config.sharding.parameters == "sharded"

    @functools.cached_property
    def state_shapes(self) -> state.TrainState:
        """Shapes, dtypes and shardings of the train state."""
        with jax.set_mesh(self.mesh):
            return state.shapes(self.initializer, self.state_sharding)

    @functools.cached_property
    def variable_shapes(self) -> dict[str, Any]:
        """Shapes, dtypes and shardings of the variables for evaluation. Creates no optimiser."""
        init = state.variables_initializer(self.model, self.inputs(), seed=self.config.seed)
        with jax.set_mesh(self.mesh):
            return state.shapes(init, self.state_sharding)

    @functools.cached_property
    def train_step(self) -> rngs.Seeded:
        """The compiled training step, which donates its train state."""
        return compiled_steps.train_step(
            self.model,
            self.optimizer,
            self.mesh,
            seed=self.config.seed,
            label_smoothing=self.config.loss.label_smoothing,
            focal_gamma=self.config.loss.focal_gamma,
            class_weights=self.class_weights,
            ema_decay=self.config.optimizer.ema_decay,
            accumulate_steps=self.config.optimizer.accumulate_steps,
            split_state=self._split_state,
        )

    @functools.cached_property
    def eval_step(self) -> rngs.Seeded:
        """The compiled evaluation step of training, with config.eval.passes passes over one view."""
        return self.make_eval_step(self.config.eval.passes)

    def make_eval_step(self, passes: int, views: int = 1) -> rngs.Seeded:
        """Returns a compiled evaluation step with the given numbers of passes and views."""
        return compiled_steps.eval_step(self.model, self.mesh, seed=self.config.seed, passes=passes, views=views)

    def use_compilation_cache(self) -> None:
        """Stores compiled programs in the folder config.compilation_cache, unless that is ''."""
        if self.config.compilation_cache:
            jax.config.update("jax_compilation_cache_dir", os.path.expanduser(self.config.compilation_cache))
