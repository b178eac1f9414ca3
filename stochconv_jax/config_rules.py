"""Checks config values: RULES has one line for each key, and `check_together` compares the values of several keys.

Modules below do not check again, so the messages that name a config key come from here. Choices that are defined in a
module that imports JAX are repeated here, so that modes without JAX start at once; a test compares the two.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from stochconv_jax.config_kinds import (
    Kind,
    boolean,
    choice,
    column_names,
    empty_or,
    fraction,
    integer,
    nearest,
    number,
    number_of,
    optional,
    part_of,
    sequence,
    size,
    subset,
    text,
    word_or,
)
from stochconv_jax.data.isic import rules as isic_rules
from stochconv_jax.data.table_reader import IMAGE_COLUMNS
from stochconv_jax.models import variants
from stochconv_jax.run_folder import METRICS


class BadValue(ValueError):
    """An error for a config key or its value; the message names the key and says what was expected."""


def _positive(expected: str = "a number above 0", *, may_be_infinite: bool = False) -> Kind:
    return number(expected, lambda value: value > 0, may_be_infinite=may_be_infinite)


def _at_least_0() -> Kind:
    return number("a number, 0 or more", lambda value: value >= 0)


TEXT = text()
# An address of a bucket would otherwise be taken for the name of a local folder.
NO_ADDRESS = r"(?!.*://)"
PATH = text(f"{NO_ADDRESS}.*", "a path in a file system: mount the bucket as a folder, see docs/launchers.md")
PLACE = text()  # a path, or an address such as gs://bucket/images; `data.paths` reads both
SECONDS = _positive("seconds, more than 0", may_be_infinite=True)
RULES: Mapping[str, Kind] = {
    "seed": integer(0),
    "num_epochs": integer(1),
    "batch_size": integer(1),
    "model.variant": choice(variants.VARIANTS),
    "model.branches": subset(("thumbnail", "windows")),
    "model.merge_after": choice((*map(str, range(8)), "head")),
    "model.window_stem_filters": integer(0),
    "model.sampling": choice(("per_image", "per_batch", "shared")),
    "model.filters_per_window": integer(1),
    "model.axes": choice(("independent", "diagonal")),
    "model.dropout": fraction(),
    "model.stochastic_depth": fraction(),
    "model.conventions": choice(("official", "torch", "as_published")),
    "model.normalization": choice(("batch", "group")),
    "model.batch_norm_momentum": fraction(),
    "model.batch_norm_images": integer(0),
    "model.dtype": choice(("auto", "float32", "bfloat16")),
    "model.remat": boolean(),
    "init.weights": PATH,
    "init.run": PATH,
    "distributed.coordinator": text(r"|.+:\d+", "'' or host:port"),
    "distributed.num_processes": optional(integer(1)),
    "distributed.process_id": optional(integer(0)),
    "distributed.timeout_seconds": integer(1),
    "data.seed": integer(0),
    "data.source": choice(("folder", "tfds", "synthetic")),
    "data.path": PLACE,
    "data.labels": PLACE,
    "data.validation_labels": PLACE,
    "data.validation_fraction": fraction(),
    "data.fold": empty_or(part_of(2)),
    "data.group_by": TEXT,
    "data.stratify_by": TEXT,
    "data.metadata_columns": column_names(),
    "data.image_column": TEXT,
    "data.target_column": text(".+", "the name of a column"),
    "data.classes": sequence(
        text(".+"),
        "two or more different names of classes, or ()",
        lambda names: len(names) != 1 and len(set(names)) == len(names),
    ),
    "data.num_classes": integer(2),
    "data.image_size": size(),
    "data.thumbnail_size": size(),
    "data.order": choice(("shuffled", "balanced")),
    "data.num_train": integer(1),
    "data.num_validation": integer(1),
    "data.num_workers": integer(0),
    "data.timeout_seconds": SECONDS,
    "data.on_bad_image": choice(("error", "skip")),
    "data.check": choice(("headers", "full", "none")),
    "data.hash_distance": integer(-1, 64),
    "augment.area": sequence(
        _positive(),
        "two shares, 0 < from <= to <= 1",
        lambda pair: len(pair) == 2 and pair[0] <= pair[1] <= 1,
    ),
    # The range must contain 1: a crop of nearly the whole image has nearly the image's aspect ratio.
    "augment.aspect": sequence(
        _positive(),
        "two ratios, 0 < from <= 1 <= to",
        lambda pair: len(pair) == 2 and pair[0] <= 1 <= pair[1],
    ),
    "augment.flip": boolean(),
    "augment.rotation": number("degrees, 0 or more", lambda value: value >= 0),
    "augment.brightness": fraction(),
    "augment.contrast": fraction(),
    "augment.saturation": fraction(),
    "augment.color_ops": fraction(),
    "augment.cutout": fraction(),
    "augment.mixup": _at_least_0(),
    "optimizer.name": choice(("rmsprop", "adamw", "sgd", "lion", "adafactor", "muon")),
    "optimizer.learning_rate": _positive(),
    "optimizer.schedule": choice(("constant", "exponential", "cosine")),
    "optimizer.warmup_epochs": _at_least_0(),
    "optimizer.decay_start_epoch": _at_least_0(),
    "optimizer.decay_every_epochs": _positive(),
    "optimizer.decay_rate": _positive("a factor, more than 0"),  # above 1 for a learning-rate range test
    "optimizer.momentum": fraction(),
    "optimizer.rms_decay": fraction(),
    "optimizer.epsilon": _at_least_0(),
    "optimizer.weight_decay": _at_least_0(),
    "optimizer.clip_norm": optional(_positive()),
    "optimizer.freeze": sequence(
        text(r"(thumbnail|windows|merged|metadata|classifier)[\w/]*"),
        "names of parts that begin with thumbnail, windows, merged, metadata or classifier, or ()",
    ),
    "optimizer.factors": sequence(
        text(r"[^=]+=\d*\.?\d+(e[-+]?\d+)?"), "a factor for each part, such as ('windows=10', 'thumbnail=0.1'), or ()"
    ),
    "optimizer.accumulate_steps": integer(1),
    "optimizer.ema_decay": optional(fraction()),
    "optimizer.schedule_free": optional(number("a share above 0 and below 1", lambda value: 0 < value < 1)),
    "sharding.parameters": choice(("replicated", "sharded")),
    "loss.label_smoothing": fraction(),
    "loss.focal_gamma": _at_least_0(),
    "loss.class_weights": word_or(
        "balanced",
        sequence(_at_least_0(), "a weight per class, 0 or more and not all 0, or ()", lambda w: not w or any(w)),
    ),
    "checkpoint.best_metric": choice([name for name in METRICS if name not in ("epoch", "step")]),
    "checkpoint.patience": integer(0),
    "checkpoint.every_steps": integer(0),
    "checkpoint.grace_seconds": SECONDS,
    "eval.batch_size": integer(1),
    "eval.passes": integer(1),
    "eval.views": number_of((1, 2, 4, 8)),
    "eval.checkpoint": text(r"best|last|\d+", "'best', 'last' or the number of a saved step"),
    "eval.path": PLACE,
    "eval.labels": PLACE,
    "eval.output": PATH,
    "eval.sensitivity": number("a share, more than 0 and at most 1", lambda value: 0 < value <= 1),
    "eval.coverage": number("a share, more than 0 and less than 1", lambda value: 0 < value < 1),
    "predict.output": text(f"{NO_ADDRESS}.+", "the name of a file"),
    "predict.images": PLACE,
    "export.formats": subset(("stablehlo", "onnx")),
    "export.platforms": subset(("cpu", "cuda", "rocm", "tpu")),
    "export.output": text(f"{NO_ADDRESS}.+", "the name of a folder"),
    "plan.topology": text(
        r"|devices|\w+:\d+(x\d+){1,2}",
        "'', 'devices', a TPU as KIND:AxB or KIND:AxBxC, for example 'v5e:16x16', or GPUs as KIND:HOSTSxGPUS, for "
        "example 'h100:4x8'",
    ),
    "plan.largest_batch": boolean(),
    "prepare.raw": PATH,
    "prepare.labels": PATH,
    "prepare.rule": Kind(lambda value: isic_rules.parse(TEXT.read(value)) and value),
    "prepare.size": integer(1),
    "prepare.crop": choice(("report", "square")),
    "prepare.jpeg_quality": integer(1, 100),
    "prepare.formats": subset(("folder", "tfds")),
    "prepare.hash_distance": integer(-1, 64),
    "prepare.images_per_shard": integer(1),
    "prepare.folds": integer(2),
    "prepare.num_workers": integer(0),
    "report.baseline": TEXT,
    "report.output": PATH,
    "sweep.variants": sequence(text(r"[\w.+-]+"), "names of variants of the ablation, or ()"),
    "sweep.seeds": sequence(
        integer(0), "different whole numbers, 0 or more", lambda seeds: 0 < len(seeds) == len(set(seeds))
    ),
    "sweep.folds": integer(0),
    "sweep.shard": part_of(1),
    "sweep.passes": integer(0),
    "show.images": PLACE,
    "show.count": integer(1),
    "show.topics": subset(("augmentation", "windows", "coverage", "sampling", "filters", "relevance", "suitability")),
    "show.detail": integer(0),
    "show.output": text(f"{NO_ADDRESS}.+", "the name of a folder"),
    "show.passes": integer(8),  # the minimum for a relevance map, attribution.LEAST_PASSES
    "log.trackers": subset(("tensorboard", "clu", "wandb", "mlflow"), may_be_empty=True),
    "log_every_seconds": number("seconds, 0 or more", lambda value: value >= 0, may_be_infinite=True),
    "compilation_cache": TEXT,
}


def check(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Returns `values`, which are by dotted key, each converted by its rule.

    Raises BadValue, with `where` before the message, for an unknown key, a missing key or a value that is not allowed.
    """
    where = f"{where}: " if where else ""
    for key in values:
        if key not in RULES:
            raise BadValue(f"{where}unknown config key {key}{nearest(str(key), RULES)}")
    for key in RULES:
        if key not in values:
            raise BadValue(f"{where}config.{key} is missing: start from stochconv_jax.default_config.get_config()")
    return {key: read(key, value, where) for key, value in values.items()}


def read(key: str, value: Any, where: str = "") -> Any:
    """Returns `value` converted by the rule of `key`. Raises BadValue, with `where` before the message, on refusal."""
    kind = RULES[key]
    try:
        return kind.read(value)
    except (ValueError, TypeError, OverflowError) as error:
        words = value if isinstance(value, tuple | list) else (value,)
        unknown = [word for word in words if isinstance(word, str) and word not in kind.choices]
        guess = nearest(unknown[0], kind.choices) if unknown else ""
        raise BadValue(f"{where}config.{key}={value!r}: {kind.expected or error}{guess}") from None


def check_workdir(value: str, mode: str) -> None:
    """Raises BadValue if `value` of --workdir is neither a path in a file system nor an address that `mode` takes."""
    if "://" not in value or (mode != "prepare" and re.fullmatch(r"(?!http|file)[a-z][a-z0-9+.-]+://[^,]+", value)):
        return
    raise BadValue(f"--workdir={value}: {PATH.expected}{'' if mode == 'prepare' else '; or one address of a bucket'}")


def check_together(values: Mapping[str, Any]) -> None:
    """Raises BadValue if two of `values`, which `check` has returned, contradict each other."""
    weights, classes = values["loss.class_weights"], values["data.num_classes"]
    if weights and weights != "balanced" and len(weights) != classes:
        raise BadValue(
            f"config.loss.class_weights={weights}: expected {classes} weights, one per class (config.data.num_classes)"
        )
    if values["data.classes"] and len(values["data.classes"]) != classes:
        raise BadValue(
            f"config.data.classes={values['data.classes']}: expected {classes} names, one per class "
            "(config.data.num_classes)"
        )
    for key in ("data.target_column", "data.group_by", "data.image_column"):
        names = IMAGE_COLUMNS if key == "data.image_column" and not values[key] else (values[key].strip().casefold(),)
        if {name.casefold() for name in values["data.metadata_columns"]}.intersection(names):
            raise BadValue(
                f"config.data.metadata_columns={values['data.metadata_columns']} has the column of config.{key}, which "
                "the network must not see: take it out"
            )
    branches, merge_after = values["model.branches"], values["model.merge_after"]
    variant, filters_per_window = variants.get(values["model.variant"]), values["model.filters_per_window"]
    filters = values["model.window_stem_filters"] or variant.stem_filters
    if filters % filters_per_window:
        raise BadValue(
            f"config.model.filters_per_window={filters_per_window}: expected a divisor of {filters}, the number of "
            f"filters in the stem of the window branch of {variant.name}"
        )
    if values["model.normalization"] == "group":
        if filters % 8:
            raise BadValue(f"config.model.window_stem_filters={filters}: group norm needs a multiple of 8")
        if used := [key for key in ("init.weights", "model.batch_norm_images") if values[key]]:
            raise BadValue(f"config.{used[0]} needs batch norm: set config.model.normalization=batch")
    per_part = values["batch_size"] // values["optimizer.accumulate_steps"]
    if 0 < values["model.batch_norm_images"] < per_part:
        raise BadValue(
            f"config.model.batch_norm_images={values['model.batch_norm_images']}: expected a batch of {per_part} at "
            "least, or 0"
        )
    if values["model.batch_norm_images"] and values["model.conventions"] == "as_published":
        raise BadValue(
            "config.model.batch_norm_images is not for config.model.conventions=as_published, whose blocks share batch "
            "norms: choose another, or 0"
        )
    if values["optimizer.schedule_free"] is not None:
        _check_schedule_free(values)
    stages = len(variant.stages)
    if len(branches) == 2 and merge_after != "head" and int(merge_after) > stages:
        raise BadValue(
            f"config.model.merge_after={merge_after!r}: {variant.name} has stages 0..{stages}, or choose 'head'"
        )
    # A 3x3 convolution with stride 2 and no padding turns a window of this size into a map of half the thumbnail's
    # size.
    window = tuple(2 * math.ceil(side / 2) + 1 for side in values["data.thumbnail_size"])
    if "windows" in branches and any(side > limit for side, limit in zip(window, values["data.image_size"])):
        raise BadValue(
            f"config.data.image_size={values['data.image_size']}: smaller than a window of {window[0]}x{window[1]} "
            f"pixels, the size that belongs to config.data.thumbnail_size={values['data.thumbnail_size']}"
        )
    if values["init.weights"] and values["init.run"]:
        raise BadValue("config.init.weights and config.init.run are both set: start from one of them")
    if values["init.weights"] and values["model.conventions"] == "as_published":
        raise BadValue("config.init.weights needs a usual network: set config.model.conventions to official or torch")
    metric = values["checkpoint.best_metric"]
    if values["checkpoint.patience"] and not metric.startswith(("train_", "val_")):
        raise BadValue(
            f"config.checkpoint.patience needs a metric of predictions, which is the same in every process and after a "
            f"restart, unlike config.checkpoint.best_metric={metric!r}: choose one that begins with train_ or val_"
        )
    if values["sweep.folds"] == 1:
        raise BadValue("config.sweep.folds=1: expected two folds at least, or 0 for none")
    sizes = [values[f"data.{name}_size"] for name in ("image", "thumbnail")]
    if values["eval.views"] == 8 and any(height != width for height, width in sizes):
        raise BadValue("config.eval.views=8 turns images by 90 degrees, so sizes must be square: choose 1, 2 or 4")
    if values["data.source"] == "tfds" and "://" in values["data.path"]:
        raise BadValue(f"config.data.source='tfds': config.data.path={values['data.path']!r}: {PATH.expected}")
    if values["data.source"] == "tfds" and (values["data.labels"] or values["data.validation_labels"]):
        raise BadValue(
            "config.data.source='tfds' reads labels from its own folder: config.data.labels must be '', and "
            "config.data.validation_labels too"
        )


def _check_schedule_free(values: Mapping[str, Any]) -> None:
    """Raises BadValue if a key does not go with config.optimizer.schedule_free."""
    wrong = {
        "optimizer.name": values["optimizer.name"] not in ("rmsprop", "adamw", "sgd"),
        "optimizer.schedule": values["optimizer.schedule"] != "constant",
        "optimizer.momentum": values["optimizer.momentum"] > 0,
        "optimizer.ema_decay": values["optimizer.ema_decay"] is not None,
        "model.batch_norm_images": values["model.normalization"] == "batch" and not values["model.batch_norm_images"],
    }
    if found := next((key for key, is_wrong in wrong.items() if is_wrong), None):
        raise BadValue(
            f"config.{found}={values[found]!r}: config.optimizer.schedule_free needs rmsprop, adamw or sgd with the "
            "schedule constant, no momentum and no ema_decay, and config.model.batch_norm_images, such as 400, because "
            "batch norm's statistics are not those of the average that is evaluated"
        )
