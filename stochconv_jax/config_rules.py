"""Checks config keys: one table says what each may be, and `check_together` what several must be together.

Nothing below asks again, so a message that names a key is made here. Words that a module with JAX knows are repeated
here, for some modes need not wait for JAX; a test compares them.
"""
import math
from collections.abc import Mapping
from typing import Any

from stochconv_jax.config_kinds import (
    Kind,
    choice,
    empty_or,
    nearest,
    number,
    optional,
    part_of,
    several,
    share,
    size,
    some_of,
    switch,
    text,
    whole,
)
from stochconv_jax.data.isic import rules as isic_rules
from stochconv_jax.models import variants
from stochconv_jax.run_folder import METRICS


class BadValue(ValueError):
    """A key has a value that it cannot have; the message names it and says what was expected."""


def _positive(words: str = "a number above 0", *, endless: bool = False) -> Kind:
    return number(words, lambda value: value > 0, endless=endless)


def _at_least_0() -> Kind:
    return number("a number, 0 or more", lambda value: value >= 0)


TEXT = text()
# A bucket's address would be taken for the name of a folder here.
NO_ADDRESS = r"(?!.*://)"
PATH = text(f"{NO_ADDRESS}.*", "a path in a file system: mount the bucket as a folder, see docs/launchers.md")
SECONDS = _positive("seconds, more than 0", endless=True)
RULES: Mapping[str, Kind] = {
    "seed": whole(0),
    "num_epochs": whole(1),
    "batch_size": whole(1),
    "model.variant": choice(variants.VARIANTS),
    "model.branches": some_of(("thumbnail", "windows")),
    "model.merge_after": choice((*map(str, range(8)), "head")),
    "model.sampling": choice(("per_image", "per_batch", "shared")),
    "model.axes": choice(("independent", "diagonal")),
    "model.dropout": share(),
    "model.stochastic_depth": share(),
    "model.conventions": choice(("official", "as_published")),
    "model.batch_norm_momentum": share(),
    "model.dtype": choice(("float32", "bfloat16")),
    "model.remat": switch(),
    "init.weights": PATH,
    "distributed.coordinator": text(r"|.+:\d+", "'' or host:port"),
    "distributed.num_processes": optional(whole(1)),
    "distributed.process_id": optional(whole(0)),
    "distributed.timeout_seconds": whole(1),
    "data.seed": whole(0),
    "data.source": choice(("folder", "tfds", "synthetic")),
    "data.path": PATH,
    "data.labels": PATH,
    "data.validation_labels": PATH,
    "data.validation_fraction": share(),
    "data.fold": empty_or(part_of(2)),
    "data.group_by": TEXT,
    "data.stratify_by": TEXT,
    "data.image_column": TEXT,
    "data.target_column": text(".+", "the name of a column"),
    "data.num_classes": whole(2),
    "data.image_size": size(),
    "data.thumbnail_size": size(),
    "data.order": choice(("shuffled", "balanced")),
    "data.num_train": whole(1),
    "data.num_validation": whole(1),
    "data.num_workers": whole(0),
    "data.timeout_seconds": SECONDS,
    "data.on_bad_image": choice(("error", "skip")),
    "data.check": choice(("headers", "full", "none")),
    "data.hash_distance": whole(-1, 64),
    "augment.area": several(
        _positive(),
        "two shares, 0 < from <= to <= 1",
        lambda pair: len(pair) == 2 and pair[0] <= pair[1] <= 1,
    ),
    # A crop of nearly the whole image has nearly its shape: without 1 in the range there would be none.
    "augment.aspect": several(
        _positive(),
        "two ratios, 0 < from <= 1 <= to",
        lambda pair: len(pair) == 2 and pair[0] <= 1 <= pair[1],
    ),
    "augment.flip": switch(),
    "augment.rotation": number("degrees, 0 or more", lambda value: value >= 0),
    "augment.brightness": share(),
    "augment.contrast": share(),
    "augment.saturation": share(),
    "augment.cutout": share(),
    "augment.mixup": _at_least_0(),
    "optimizer.name": choice(("rmsprop", "adamw", "sgd")),
    "optimizer.learning_rate": _positive(),
    "optimizer.schedule": choice(("constant", "exponential", "cosine")),
    "optimizer.warmup_epochs": _at_least_0(),
    "optimizer.decay_start_epoch": _at_least_0(),
    "optimizer.decay_every_epochs": _positive(),
    "optimizer.decay_rate": _positive("a factor, more than 0"),  # above 1 in a search for the learning rate
    "optimizer.momentum": share(),
    "optimizer.rms_decay": share(),
    "optimizer.epsilon": _at_least_0(),
    "optimizer.weight_decay": _at_least_0(),
    "optimizer.clip_norm": optional(_positive()),
    "optimizer.accumulate_steps": whole(1),
    "optimizer.ema_decay": optional(share()),
    "sharding.parameters": choice(("replicated", "sharded")),
    "loss.label_smoothing": share(),
    "loss.class_weights": several(
        _at_least_0(), "a weight a class, 0 or more and not all 0, or ()", lambda weights: not weights or any(weights)
    ),
    "checkpoint.best_metric": choice([name for name in METRICS if name not in ("epoch", "step")]),
    "checkpoint.every_steps": whole(0),
    "checkpoint.grace_seconds": SECONDS,
    "eval.batch_size": whole(1),
    "eval.passes": whole(1),
    "eval.checkpoint": text(r"best|last|\d+", "'best', 'last' or the number of a saved step"),
    "eval.path": PATH,
    "eval.labels": PATH,
    "eval.output": PATH,
    "predict.output": text(f"{NO_ADDRESS}.+", "the name of a file"),
    "predict.images": PATH,
    "plan.topology": text(
        r"|devices|\w+:\d+(x\d+){1,2}",
        "'', 'devices', a TPU as KIND:AxB or KIND:AxBxC, for example 'v5e:16x16', or GPUs as KIND:HOSTSxGPUS, for "
        "example 'h100:4x8'",
    ),
    "plan.largest_batch": switch(),
    "prepare.raw": PATH,
    "prepare.labels": PATH,
    "prepare.rule": Kind(lambda value: isic_rules.parse(TEXT.read(value)) and value),
    "prepare.size": whole(1),
    "prepare.crop": choice(("report", "square")),
    "prepare.jpeg_quality": whole(1, 100),
    "prepare.formats": some_of(("folder", "tfds")),
    "prepare.hash_distance": whole(-1, 64),
    "prepare.images_per_shard": whole(1),
    "prepare.folds": whole(2),
    "prepare.num_workers": whole(0),
    "report.baseline": TEXT,
    "report.output": PATH,
    "sweep.seeds": several(
        whole(0), "different whole numbers, 0 or more", lambda seeds: seeds and len(set(seeds)) == len(seeds)
    ),
    "sweep.shard": part_of(1),
    "sweep.passes": whole(0),
    "show.images": PATH,
    "show.count": whole(1),
    "show.topics": some_of(("augmentation", "windows", "coverage", "sampling", "filters", "relevance")),
    "show.output": text(f"{NO_ADDRESS}.+", "the name of a folder"),
    "show.passes": whole(8),  # fewer give no relevance map
    "log_every_seconds": number("seconds, 0 or more", lambda value: value >= 0, endless=True),
    "compilation_cache": TEXT,
}


def check(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The values by dotted key, each as its rule reads it. BadValue, beginning with `where`, at the first that is none.

    All keys of the default config must be there, and no others.
    """
    where = f"{where}: " if where else ""
    for key in values:
        if key not in RULES:
            raise BadValue(f"{where}unknown config key {key}{nearest(str(key), RULES)}")
    for key in RULES:
        if key not in values:
            raise BadValue(f"{where}config.{key} is missing: begin with stochconv_jax.default_config.get_config()")
    return {key: read(key, value, where) for key, value in values.items()}


def read(key: str, value: Any, where: str = "") -> Any:
    """The value of `key` as its rule reads it. BadValue, beginning with `where`, if it can have none such."""
    kind = RULES[key]
    try:
        return kind.read(value)
    except (ValueError, TypeError, OverflowError) as error:
        words = value if isinstance(value, tuple | list) else (value,)
        unknown = [word for word in words if isinstance(word, str) and word not in kind.choices]
        guess = nearest(unknown[0], kind.choices) if unknown else ""
        raise BadValue(f"{where}config.{key}={value!r}: {kind.expected or error}{guess}") from None


def check_path(name: str, value: str) -> None:
    """BadValue, beginning with `name`, where `value` is no path in a file system."""
    try:
        PATH.read(value)
    except ValueError:
        raise BadValue(f"{name}={value}: {PATH.expected}") from None


def check_together(values: Mapping[str, Any]) -> None:
    """BadValue where checked values do not fit each other."""
    weights, classes = values["loss.class_weights"], values["data.num_classes"]
    if weights and len(weights) != classes:
        raise BadValue(f"config.loss.class_weights={weights}: expected {classes}, one a class (data.num_classes)")
    branches, merge_after = values["model.branches"], values["model.merge_after"]
    stages = len(variants.get(values["model.variant"]).stages)
    if len(branches) == 2 and merge_after != "head" and int(merge_after) > stages:
        variant = values["model.variant"]
        raise BadValue(f"config.model.merge_after={merge_after!r}: {variant} has 0..{stages}, or 'head'")
    # The window that a 3x3 convolution with strides of 2 turns into half a thumbnail.
    window = tuple(2 * math.ceil(side / 2) + 1 for side in values["data.thumbnail_size"])
    if "windows" in branches and any(side > there for side, there in zip(window, values["data.image_size"])):
        raise BadValue(
            f"config.data.image_size={values['data.image_size']}: smaller than a window of {window[0]}x{window[1]} "
            f"pixels, which config.data.thumbnail_size={values['data.thumbnail_size']} makes"
        )
    if values["init.weights"] and values["model.conventions"] != "official":
        raise BadValue("config.init.weights are of the official network: set config.model.conventions=official")
    if values["data.source"] == "tfds" and (values["data.labels"] or values["data.validation_labels"]):
        raise BadValue("config.data.source='tfds' has its labels in its own folder: config.data.labels must be ''")
