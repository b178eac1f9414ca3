"""Checks config values: RULES has one line for each key. config_conflicts.py compares the values of several keys.

Modules below do not check again, so the messages that name a config key come from here. Choices that are defined in a
module that imports JAX are repeated here, so that modes without JAX start at once; a test compares the two.
"""

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
    "show.places": _positive(),
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
