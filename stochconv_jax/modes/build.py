"""From a config to the objects it describes."""
import functools
import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from stochconv_jax.data import folds, pipeline, reader, shared_memory, sources, splits, synthetic
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import HEAD, Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, Rules
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import optimizers, rngs, state, steps
from stochconv_jax.training.loop import Epochs

logger = logging.getLogger(__name__)

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
        rules=Rules(
            dtype=DTYPES[model.dtype],
            batch_norm_momentum=model.batch_norm_momentum,
            conventions=CONVENTIONS[model.conventions],
        ),
    )


def data_sources(config: ConfigDict) -> tuple[sources.Source, sources.Source]:
    """The training images and the validation images; the log names classes that have none.

    ValueError if they share a patient, a lesion, a group or an image, if a side has images of one class only, or if a
    key says of the split what does not apply.
    """
    data = config.data
    advice = folds.KEEP_TOGETHER
    if data.source == "synthetic":
        keys = ("path", "labels", "validation_labels", "fold", "group_by", "stratify_by")
        _refuse(data, keys, "config.data.source='synthetic' draws its images")
        drawn = synthetic.SyntheticSource(
            size=data.num_train + data.num_validation, image_size=tuple(data.image_size), seed=data.seed
        )
        train, validation = (sources.Subset(drawn, i) for i in np.split(np.arange(len(drawn)), [data.num_train]))
    elif data.validation_labels:
        train, validation = (_labelled(data, key) for key in ("labels", "validation_labels"))
        advice = "take them out of config.data.labels or out of config.data.validation_labels"
    else:
        labelled = _labelled(data, "labels")
        train, validation = (sources.Subset(labelled, side) for side in _sides(data, labelled))
    folds.refuse_leaks(_apart(train), _apart(validation), advice)
    if data.validation_labels:
        _refuse(data, ("fold", "stratify_by"), "config.data.validation_labels names the validation images")
        folds.refuse_leaks(_groups(data, train), _groups(data, validation), advice)
    _check_classes({"training": train, "validation": validation}, data.num_classes)
    return train, validation


def test_source(config: ConfigDict) -> sources.Source:
    """All images of the test set that config.eval.path and config.eval.labels name, read as the run's own are."""
    if not config.eval.labels:
        raise ValueError("config.eval.path names the images of a test set: config.eval.labels must name its CSV")
    data = config.data.copy_and_resolve_references().unlock()
    data.update({"source": "folder", "path": config.eval.path or data.path, "labels": config.eval.labels})
    try:
        return _labelled(data, "labels")
    except ValueError as error:
        message = str(error).replace("config.data.labels", "config.eval.labels")
        raise ValueError(message.replace("config.data.path", "config.eval.path")) from error


def _refuse(data: ConfigDict, keys: Sequence[str], why: str) -> None:
    for key in keys:
        if data[key]:
            raise ValueError(f"config.data.{key}={data[key]!r} does not apply, for {why}: leave it out")


def _labelled(data: ConfigDict, key: str) -> sources.Source:
    """The images of the table that data's `key` names, or of the prepared data set."""
    if not data.path:
        raise ValueError(f"config.data.path is not set: the folder of a source {data.source!r}")
    if data.source == "folder":
        if not data[key]:
            raise ValueError(f"config.data.{key} is not set: the CSV of the images in config.data.path")
        columns = {"image_column": data.image_column, "target_column": data.target_column}
        return sources.FolderSource.from_csv(data.path, data[key], num_classes=data.num_classes, **columns)
    if data.labels or data.validation_labels:
        raise ValueError("config.data.source='tfds' has its labels in its own folder: config.data.labels must be ''")
    from stochconv_jax.data import tfds_source  # TFDS takes half a second that other sources need not wait for

    return tfds_source.TfdsSource(data.path, num_classes=data.num_classes)


def _sides(data: ConfigDict, labelled: sources.Source) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training images and of those that validate: a fold, or a share."""
    together = {
        "groups": _groups(data, labelled).get(data.group_by),
        "strata": sources.column(labelled, data.stratify_by, "data.stratify_by") if data.stratify_by else None,
    }
    if not data.fold:
        return splits.stratified_split(labelled.labels, data.validation_fraction, data.seed, **together)
    number, count = folds.parse_fold(data.fold)
    fold = folds.k_folds(labelled.labels, count, data.seed, **together)
    return np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _apart(source: sources.Source) -> dict[str, list[str]]:
    """What must not be on both sides of a split, as far as the source knows it."""
    columns = {name.lower(): values for name, values in sources.columns_of(source).items()}
    known = {name: columns[name] for name in ("patient_id", "lesion_id", "group") if name in columns}
    return {"image": list(source.names), **known}


def _groups(data: ConfigDict, source: sources.Source) -> dict[str, list[str]]:
    """The column that config.data.group_by names, if it names one."""
    return {data.group_by: sources.column(source, data.group_by, "data.group_by")} if data.group_by else {}


def _check_classes(sides: dict[str, sources.Source], num_classes: int) -> None:
    """ValueError if a side has images of fewer than two classes; a warning of the classes without any."""
    for side, source in sides.items():
        counts = sources.class_counts(source.labels, num_classes)
        if sum(map(bool, counts)) < 2:
            where, there = sources.table_of(source), f"all {len(source)} {side} images are of one class"
            raise ValueError(f"{where}: {there if len(source) else f'no {side} image'}, and ROC AUC needs two classes")
        if missing := [str(number) for number, count in enumerate(counts) if not count]:
            logger.warning(
                "no %s image is of class %s (config.data.num_classes=%d): ROC AUC is over the classes that are there",
                *(side, " or ".join(missing), num_classes),
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
    return optimizers.create_optimizer(
        config.optimizer.name, rate, **{name: config.optimizer[name] for name in names}
    )


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
        whole=meshes.placement(mesh, split=False),
        rest=placement(config, mesh),
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
        whole=meshes.placement(mesh, split=False),
    )
    return rngs.Seeded(jax.jit(step, out_shardings=meshes.replicated(mesh)), config.seed)


def use_compilation_cache(config: ConfigDict) -> None:
    """Keeps compiled programs between runs."""
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(config.compilation_cache))
