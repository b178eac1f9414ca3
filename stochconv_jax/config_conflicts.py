"""Refuses config values of several keys that contradict each other."""

import math
from collections.abc import Mapping
from typing import Any

from stochconv_jax.config_rules import PATH, BadValue
from stochconv_jax.data.table_reader import IMAGE_COLUMNS
from stochconv_jax.models import variants


def check_together(values: Mapping[str, Any]) -> None:
    """Raises BadValue if two of `values`, which `config_rules.check` has returned, contradict each other."""
    for check in (
        _check_classes,
        _check_network,
        _check_normalization,
        _check_schedule_free,
        _check_start_and_end,
        _check_data,
    ):
        check(values)


def _check_classes(values: Mapping[str, Any]) -> None:
    """Refuses class weights and names that are not one per class, and metadata that give classes away."""
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


def _check_network(values: Mapping[str, Any]) -> None:
    """Refuses sharings, merge points and windows that the network or the images do not have."""
    branches, merge_after = values["model.branches"], values["model.merge_after"]
    variant, filters_per_window = variants.get(values["model.variant"]), values["model.filters_per_window"]
    filters = values["model.window_stem_filters"] or variant.stem_filters
    if filters % filters_per_window:
        raise BadValue(
            f"config.model.filters_per_window={filters_per_window}: expected a divisor of {filters}, the number of "
            f"filters in the stem of the window branch of {variant.name}"
        )
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


def _check_normalization(values: Mapping[str, Any]) -> None:
    """Refuses what needs batch norms that the network does not have."""
    if values["model.normalization"] == "group":
        if (filters := values["model.window_stem_filters"]) % 8:
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


def _check_schedule_free(values: Mapping[str, Any]) -> None:
    """Refuses what a schedule-free optimiser cannot be combined with."""
    if values["optimizer.schedule_free"] is None:
        return
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


def _check_start_and_end(values: Mapping[str, Any]) -> None:
    """Refuses two sets of initial weights, and lengths that cannot be decided."""
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


def _check_data(values: Mapping[str, Any]) -> None:
    """Refuses what images of these sizes and of this source cannot be."""
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
