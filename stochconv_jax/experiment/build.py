"""From a config to the objects it describes."""

import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from stochconv_jax.data import pipeline, reader, shared_memory, sources
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import HEAD, Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, LayerConfig
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import optimizers, rngs, state, steps
from stochconv_jax.training.loop import Epochs

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def classifier(config: ConfigDict) -> Classifier:
    """The network."""
    model, data = config.model, config.data
    merge_after = HEAD if model.merge_after == HEAD else int(model.merge_after)
    return Classifier(
        variant=variants.get(model.variant),
        branches=tuple(model.branches),
        merge_after=merge_after,
        num_classes=1 if data.num_classes == 2 else data.num_classes,
        window_output=tuple(-(-size // 2) for size in data.thumbnail_size),
        sampling=model.sampling,
        axes=model.axes,
        dropout=model.dropout,
        stochastic_depth=model.stochastic_depth,
        remat=model.remat,
        layers=LayerConfig(
            dtype=DTYPES[model.dtype],
            batch_norm_momentum=model.batch_norm_momentum,
            conventions=CONVENTIONS[model.conventions],
        ),
    )


def epochs(config: ConfigDict, num_images: int) -> Epochs:
    """Where epochs end. ValueError if a batch would be larger than one."""
    if config.batch_size > num_images:
        raise ValueError(
            f"config.batch_size={config.batch_size} is more than the {num_images} images to train on: set "
            f"--config.batch_size={num_images} or less"
        )
    return Epochs(num_images, config.batch_size, config.num_epochs)


def schedule(config: ConfigDict, steps_per_epoch: float) -> optax.Schedule:
    """The learning rate as a function of the step."""
    names = ("learning_rate", "warmup_epochs", "decay_start_epoch", "decay_every_epochs", "decay_rate")
    return optimizers.create_schedule(
        config.optimizer.schedule,
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.num_epochs,
        **{name: config.optimizer[name] for name in names},
    )


def optimizer(config: ConfigDict, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser."""
    names = ("momentum", "rms_decay", "epsilon", "weight_decay", "clip_norm")
    return optimizers.create_optimizer(config.optimizer.name, rate, **{name: config.optimizer[name] for name in names})


def pixels(config: ConfigDict) -> dict[str, tuple[int, int]]:
    """The sizes that images are made in, and which of 'image' and 'thumbnail' the branches need."""
    needed = {"windows": "image", "thumbnail": "thumbnail"}
    return {
        "image_size": tuple(config.data.image_size),
        "thumbnail_size": tuple(config.data.thumbnail_size),
        "outputs": tuple(needed[branch] for branch in config.model.branches),
    }


def inputs(config: ConfigDict, batch_size: int, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch as the model takes it."""
    sizes = {"image": config.data.image_size, "thumbnail": config.data.thumbnail_size}
    shapes = {name: ((batch_size, *sizes[name], 3), jnp.uint8) for name in pixels(config)["outputs"]}
    shapes["example"] = ((batch_size,), jnp.uint32)
    return {name: jax.ShapeDtypeStruct(*spec, sharding=sharding) for name, spec in shapes.items()}


def batch_shapes(config: ConfigDict, batch_size: int, sharding: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch as training and evaluation take it, see data/pipeline.py."""
    rows = {"label": jnp.int32, "index": jnp.int32, "skipped": jnp.int32, "mask": jnp.bool_}
    if config.augment.mixup:
        rows |= {"label_mixed": jnp.int32, "share_mixed": jnp.float32}
    shapes = {name: jax.ShapeDtypeStruct((batch_size,), dtype, sharding=sharding) for name, dtype in rows.items()}
    return inputs(config, batch_size, sharding) | shapes


def train_batches(config: ConfigDict, source: sources.Source, start_step: int):
    """This host's rows of the batches from `start_step` on, without end."""
    return pipeline.train_batches(
        source,
        seed=config.seed,
        batch_size=config.batch_size,
        start_step=start_step,
        augmentation=pipeline.Augmentation(**config.augment.to_dict()),
        order=config.data.order,
        **pixels(config),
        **_reading(config),
    )


def eval_batches(
    config: ConfigDict, source: sources.Source, mesh: jax.sharding.Mesh, rounds: int | None = None
) -> pipeline.EvalBatches:
    """This host's rows of the batches that hold every image of `source` once."""
    reading = pixels(config) | _reading(config)
    return pipeline.EvalBatches(source, batch_size=_eval_batch_size(config, mesh), rounds=rounds, **reading)


def _eval_batch_size(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
    return -(-config.eval.batch_size // mesh.size) * mesh.size


def check_shared_memory(
    config: ConfigDict, mesh: jax.sharding.Mesh, *, trains: bool, eval_images: float = math.inf
) -> None:
    """ValueError if what the workers of training, if it `trains`, and of evaluation put into shared memory is too much.

    `eval_images`: how many are evaluated in all.
    """
    batches = [(_eval_batch_size(config, mesh), eval_images)] + [(config.batch_size, math.inf)] * trains
    row_bytes = reader.row_bytes(**pixels(config))
    shared_memory.check(
        shared_memory.needed(row_bytes, size // jax.process_count(), config.data.num_workers, -(-images // size))
        for size, images in batches
    )


def _reading(config: ConfigDict) -> dict[str, Any]:
    return {
        "host_index": jax.process_index(),
        "host_count": jax.process_count(),
        "num_workers": config.data.num_workers,
        "timeout_seconds": config.data.timeout_seconds,
        "on_bad_image": config.data.on_bad_image,
    }


def initializer(config: ConfigDict, model: Classifier, transform: optax.GradientTransformation) -> rngs.Seeded:
    """A function that makes a fresh train state."""
    ema = config.optimizer.ema_decay is not None
    return state.initializer(model, transform, inputs(config, 1), seed=config.seed, ema=ema)


def placement(config: ConfigDict, mesh: jax.sharding.Mesh):
    """Where an array of the train state rests, as a function of its shape."""
    return meshes.placement(mesh, split=config.sharding.parameters == "sharded")


def check_batch_size(config: ConfigDict, mesh: jax.sharding.Mesh) -> None:
    """ValueError naming the keys if the batch cannot be split over the devices, and there into parts."""
    meshes.check_batch_size(config.batch_size, mesh, "config.batch_size", config.optimizer.accumulate_steps)


def train_step(
    config: ConfigDict, model: Classifier, transform: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> rngs.Seeded:
    """The compiled training step; the state it is given is used up."""
    step = functools.partial(
        steps.train_step,
        model=model,
        optimizer=transform,
        label_smoothing=config.loss.label_smoothing,
        class_weights=tuple(config.loss.class_weights),
        ema_decay=config.optimizer.ema_decay,
        accumulate_steps=config.optimizer.accumulate_steps,
        compute_sharding=meshes.placement(mesh, split=False),
        state_sharding=placement(config, mesh),
    )
    # The step itself says where the state rests.
    step = jax.jit(step, donate_argnums=0, out_shardings=(None, meshes.replicated(mesh)))
    return rngs.Seeded(step, config.seed)


def eval_step(config: ConfigDict, model: Classifier, mesh: jax.sharding.Mesh) -> rngs.Seeded:
    """The compiled evaluation step."""
    step = functools.partial(
        steps.eval_step,
        model=model,
        passes=config.eval.passes,
        compute_sharding=meshes.placement(mesh, split=False),
    )
    return rngs.Seeded(jax.jit(step, out_shardings=meshes.replicated(mesh)), config.seed)


def use_compilation_cache(config: ConfigDict) -> None:
    """Keeps compiled programs between runs."""
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(config.compilation_cache))
