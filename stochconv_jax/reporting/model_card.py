"""Describes an exported model in Markdown, from the files of its run alone."""

import hashlib
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stochconv_jax.config import flatten
from stochconv_jax.data import class_names
from stochconv_jax.reporting import page
from stochconv_jax.run_folder import RunFolder

FRONT_MATTER = "---\nlibrary_name: jax\npipeline_tag: image-classification\ntags:\n- stochastic-convolution\n---\n\n"
NONE = "–"
FILES = {
    "model.stablehlo": "jax.export.deserialize(open('model.stablehlo', 'rb').read()).call({inputs}), on {platforms}",
    "model.onnx": "onnxruntime.InferenceSession('model.onnx').run(None, dict({named_inputs}))[0]",
}
SETTINGS = {  # rows of the table of training, by config key
    "num_epochs": "epochs",
    "batch_size": "batch size",
    "optimizer.name": "optimiser",
    "optimizer.learning_rate": "learning rate",
    "optimizer.schedule": "schedule",
    "init.weights": "initial weights",
    "init.run": "initial run",
    "seed": "seed",
}


def describe(
    folder: RunFolder,
    predicted_by: Mapping[str, Any],
    output: pathlib.Path,
    written: Mapping[str, float],
    platforms: Sequence[str],
) -> str:
    """Returns the text of model_card.md.

    Args:
      folder: the folder of the run.
      predicted_by: how the exported model predicts: the checkpoint's step, the numbers of passes and views.
      output: the folder of the exported files.
      written: by file name, the largest difference of a probability from the network's, NaN if not compared.
      platforms: the machines that the StableHLO file runs on.
    """
    about = folder.read_config() or {}
    settings = flatten(about["config"])
    evaluations = dict(_evaluations(folder))
    sections = [
        page.Section("Model", table=_model(about, settings, predicted_by)),
        _files(output, written, platforms, settings),
        page.Section("Use", _use(settings, predicted_by)),
        page.Section("Training", [_data(about, settings)], _training(about, settings)),
        page.Section("Results", _about_results(evaluations, predicted_by), _results(evaluations)),
        _decisions(folder, predicted_by, settings.get("data.classes", ())),
        page.Section("Limits", items=list(_limits(evaluations))),
    ]
    kept = [section for section in sections if section]
    return FRONT_MATTER + page.to_markdown(f"{folder.path.name}: {settings['model.variant']}", kept)


def _evaluations(folder: RunFolder) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yields the evaluation of the run's own images, and of each test set below its folder."""
    for file in sorted(folder.path.glob("**/evaluation.json"), key=lambda file: (len(file.parts), file)):
        content = RunFolder(file.parent).read_json(file.name)
        if content:
            name = file.parent.relative_to(folder.path).as_posix()
            yield ("validation" if name == "." else name), content


def _made_alike(content: Mapping[str, Any], predicted_by: Mapping[str, Any]) -> bool:
    """Returns whether `content` is of predictions that are made as those of the exported model."""
    content = {"views": 1, **content}  # earlier versions had one view and did not record it
    return all(content.get(key) == value for key, value in predicted_by.items())


def _model(about: Mapping[str, Any], settings: Mapping[str, Any], predicted_by: Mapping[str, Any]) -> page.Table:
    branches, merge = settings["model.branches"], settings["model.merge_after"]
    versions = about.get("versions", {})
    rows = [
        ("network", f"EfficientNet {settings['model.variant']} ({settings.get('model.conventions', 'official')})"),
        ("branches", " and ".join(branches) + (f", merged after {merge}" if len(branches) > 1 else "")),
        ("windows", _windows(settings) if "windows" in branches else NONE),
        ("parameters", f"{about.get('parameters', 0):,}"),
        ("multiply-adds per image and pass", f"{about.get('multiply_adds', 0):,}"),
        *((name.replace("_", " "), str(value)) for name, value in predicted_by.items()),
        ("commit", str((about.get("git") or {}).get("commit") or NONE)),  # null outside a git checkout
        ("versions", ", ".join(f"{name} {versions[name]}" for name in ("python", "jax", "flax") if name in versions)),
    ]
    return page.Table(("", "value"), rows)


def _windows(settings: Mapping[str, Any]) -> str:
    shared = settings.get("model.filters_per_window", 1)
    together = f", {shared} filters a window" if shared > 1 else ""
    filters = settings.get("model.window_stem_filters", 0)
    of = f", {filters} filters" if filters else ""
    return f"{settings['model.sampling']}, {settings['model.axes']}{of}{together}"


def _files(
    output: pathlib.Path, written: Mapping[str, float], platforms: Sequence[str], settings: Mapping[str, Any]
) -> page.Section:
    rows, inputs = [], ["images", "metadata"] if settings.get("data.metadata_columns") else ["images"]
    call = {"platforms": ", ".join(platforms), "inputs": ", ".join(inputs)}
    call["named_inputs"] = ", ".join(f"{name}={name}" for name in inputs)
    for name, difference in written.items():
        content = (output / name).read_bytes()
        compared = NONE if math.isnan(difference) else f"{difference:.1e}"
        rows.append((name, f"{len(content):,}", hashlib.sha256(content).hexdigest(), compared))
    items = [f"{name}: {FILES[name].format(**call)}" for name in written]
    paragraph = "The difference is the largest of a probability from the network's, for three random images."
    return page.Section("Files", [paragraph], page.Table(("file", "bytes", "SHA-256", "difference"), rows), items=items)


def _use(settings: Mapping[str, Any], predicted_by: Mapping[str, Any]) -> list[str]:
    height, width = settings["data.image_size"]
    classes, named = settings["data.num_classes"], settings.get("data.classes")
    listed = ", ".join(f"{k} ({name})" for k, name in enumerate(named)) if named else f"0 to {classes - 1}"
    paragraphs = [
        f"Input, images: uint8 [batch, {height}, {width}, 3], RGB. Crop larger images about their centre to this "
        "aspect ratio and reduce them by area averaging (OpenCV's INTER_AREA), as in training; do not enlarge smaller "
        "ones.",
        f"Output: probabilities of the classes {listed}, float32 [batch, {classes}].",
    ]
    if columns := settings.get("data.metadata_columns"):
        paragraphs.append(
            f"Input, metadata: float32 [batch, features], made of the columns {', '.join(columns)} as metadata.json "
            "says, which lists the features in order: of a column with a `mean` first the number, minus `mean` and "
            "divided by `deviation`, or 0 if it is missing; then of every column a 1 for that of its `words` which the "
            "cell has, where '' is a missing value, and 0 for the others."
        )
    if predicted_by["views"] > 1:
        paragraphs.append(f"The probabilities are the mean over {predicted_by['views']} flips and turns of each image.")
    if "windows" in settings["model.branches"]:
        paragraphs.append(
            f"The probabilities are the mean over {predicted_by['passes']} draws of windows of each view. The files "
            "have the same windows for every image. The program stochconv_jax draws windows for each image, so its "
            "probabilities differ from these as those of two passes do."
        )
    return paragraphs


def _data(about: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    train, validation = (about["data"][side]["images"] for side in ("train", "validation"))
    small = "x".join(map(str, settings["data.thumbnail_size"]))
    split = f"fold {settings['data.fold']}; " if settings.get("data.fold") else ""
    together = settings.get("data.group_by")
    return (
        f"{train:,} images to train on and {validation:,} to validate on ({split}"
        f"{f'images of equal {together} are on one side; ' if together else ''}source {settings['data.source']}), "
        f"{settings['data.num_classes']} classes, thumbnails of {small} pixels."
    )


def _training(about: Mapping[str, Any], settings: Mapping[str, Any]) -> page.Table:
    rows = [(name, str(settings[key])) for key, name in SETTINGS.items() if settings.get(key) not in (None, "")]
    devices = about.get("devices", {})
    return page.Table(("", "value"), [*rows, ("devices", f"{devices.get('count', '?')} x {devices.get('kind', '?')}")])


def _about_results(evaluations: Mapping[str, Any], predicted_by: Mapping[str, Any]) -> list[str]:
    if not evaluations:
        return ["The run was not evaluated: run --mode=evaluate, then --mode=export again."]
    others = [name for name, content in evaluations.items() if not _made_alike(content, predicted_by)]
    note = f" Of another checkpoint, or other passes or views, than the files: {', '.join(others)}." if others else ""
    return [
        "In brackets: 95 % intervals. Sensitivity and specificity are at the threshold with the highest sum of both on "
        f"the validation images (Youden); on these images themselves they are cross-fitted.{note}"
    ]


def _results(evaluations: Mapping[str, Mapping[str, Any]]) -> page.Table | None:
    columns = ("images", "number", "by class", "step", "passes", "ROC AUC", "log loss", "sensitivity", "specificity")
    rows = []
    for name, content in evaluations.items():
        youden = content.get("at_thresholds", {}).get("youden", {})
        counts = " / ".join(f"{count:,}" for count in content["class_counts"])
        made = (str(content.get(key, NONE)) for key in ("checkpoint_step", "passes"))
        figures = [_figure(content, "roc_auc"), _figure(content, "log_loss")]
        figures += [_figure(youden, "sensitivity"), _figure(youden, "specificity")]
        rows.append((name, f"{content['n']:,}", counts, *made, *figures))
    return page.Table(columns, rows) if rows else None


def _figure(content: Mapping[str, Any], name: str) -> str:
    """Returns a number with its interval."""
    value, interval = content.get(name), content.get(f"{name}_interval_95") or [None]
    if value is None:
        return NONE
    return f"{value:.3f}" if None in interval else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _decisions(folder: RunFolder, predicted_by: Mapping[str, Any], classes: Sequence[str]) -> page.Section | None:
    """Returns the section about calibration.json, or None if there is none for these predictions."""
    content = folder.read_json("calibration.json")
    if content is None or not _made_alike(content, predicted_by):
        return None
    wanted = content["wanted"]
    rows = [("temperature (divisor of the logits)", f"{content['temperature']:.3f}")]
    names = {"youden": "threshold, Youden", "sensitivity": f"threshold, sensitivity {wanted['sensitivity']:g}"}
    rows += [(names[name], f"{value:.4g}") for name, value in content["thresholds"].items()]
    of_sets = f"prediction sets with coverage {wanted['coverage']:g}: least probability of"
    rows += [
        (f"{of_sets} {class_names.describe(k, classes)}", f"{limit:.4g}")
        for k, limit in enumerate(content["set_limits"])
    ]
    about = "Fitted to the validation images; they hold for images that are drawn as these were."
    return page.Section("Decisions", [about], page.Table(("", "value"), rows))


def _limits(evaluations: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    own, tests = evaluations.get("validation", {}), [name for name in evaluations if name != "validation"]
    if own.get("checkpoint_chosen_on") == "validation":
        yield "The checkpoint is the best of all epochs on the validation images, so its figures on them are too good."
    if not tests:
        yield "No test set was evaluated: how the model does on images of another origin is not known."
    if any("roc_auc_interval_95_clustered" not in content for content in evaluations.values()):
        yield "The intervals take images as independent; those of one patient are not."
    yield "Nothing was measured by subgroup, such as age, sex, skin type, site or camera."
    yield "The figures are of classes in the proportions of these images; elsewhere predictive values differ."
    yield "The model is not validated for any clinical use."
