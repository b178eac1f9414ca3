"""--mode=evaluate: measures the run in --workdir on its validation images."""
import contextlib
import logging
from collections.abc import Sequence

import jax
import numpy as np

from stochconv_jax import statistics
from stochconv_jax.data import sources
from stochconv_jax.modes import build, runs
from stochconv_jax.run_folder import write_csv
from stochconv_jax.training import evaluation, mesh, progress

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes evaluation.json and predictions.csv."""
    folder, config = runs.load(overrides, workdir)
    build.use_compilation_cache(config)
    _, source = build.data_sources(config)
    data = runs.fingerprint(source)
    _check_data(folder, data, overrides)
    step, predictions = predict_with(folder, config, source)
    groups = groups_of(source, config)
    known = None if groups is None else [groups[index] for index in predictions.index]
    summary = statistics.summary(predictions.label, predictions.log_p(), known)
    summary = {"checkpoint_step": step, "passes": config.eval.passes, "data": data} | summary
    log_p = statistics.log_probabilities(predictions.logits)
    summary["roc_auc_by_passes"] = [
        statistics.roc_auc(predictions.label, statistics.mean_log_probabilities(log_p[:passes]))
        for passes in range(1, len(log_p) + 1)
    ]
    summary["mean_std_over_passes"] = float(predictions.spread()[:, -1].mean())
    summary["skipped"] = [source.names[index] for index in predictions.skipped]
    if jax.process_index() == 0:
        rows = prediction_rows(source, predictions, with_target=True, groups=groups)
        write_csv(folder.path / "predictions.csv", list(rows[0]), rows)
        folder.write_json("evaluation.json", {k: _json_number(v) for k, v in summary.items()})
    for name, value in summary.items():
        logger.info("%s: %s", name, value)


def _check_data(folder, data, overrides) -> None:
    """ValueError if the images are not those that the run validated on, unless the command line asks for others."""
    expected = folder.read_config()["data"]["validation"]
    if data == expected:
        return
    asked_for = [key for key in overrides if key.startswith("data.") and key not in runs.FREE_DATA_KEYS]
    if not asked_for:
        raise ValueError(
            f"the validation images are not those of the run in {folder.path} (names or labels differ: {data} now, "
            f"{expected} there), so some may have been trained on. Give the files that it was trained with, or name "
            "others on purpose with --config.data.validation_labels"
        )
    logger.warning("other validation images than the run's own, as %s asks for", ", ".join(asked_for))


def predict_with(folder, config, source: sources.Source) -> tuple[int, evaluation.Predictions]:
    """Restores the run's checkpoint and predicts every image of `source`; also returns the checkpoint's step."""
    devices = mesh.create()
    with jax.set_mesh(devices):
        step, variables = runs.restore(folder, config, devices)
        report = progress.Progress(len(source), every=config.log_every_seconds)
        eval_step = build.eval_step(config, build.classifier(config), devices)
        with contextlib.closing(build.eval_batches(config, source, devices, rounds=1)) as batches:
            on_devices = mesh.to_devices(batches, devices)
            predictions = evaluation.predict(eval_step, variables, on_devices, on_batch=report.update)
    runs.log_skipped(config, source, predictions.skipped)
    if not len(predictions.index):
        raise ValueError(f"none of the {len(source)} images can be used")
    return step, predictions


def groups_of(source: sources.Source, config) -> Sequence[str] | None:
    """Of each image its group, by the column that config.data.group_by names; None where the source has none."""
    return sources.columns_of(source).get(config.data.group_by)


def prediction_rows(
    source: sources.Source,
    predictions: evaluation.Predictions,
    *,
    with_target: bool,
    groups: Sequence[str] | None = None,
) -> list[dict]:
    """Rows of predictions.csv: image, target if wanted, probability (of class 1, or of each class), std over passes.

    Where `groups` are known, `group` is the image's. After them come the source's own columns, such as the year.
    """
    probability, spread = np.exp(predictions.log_p()), predictions.spread()
    classes = range(probability.shape[1])
    columns = {"": 1} if len(classes) == 2 else {f"_{k}": k for k in classes}
    more, rows = sources.columns_of(source), []
    for row, index in enumerate(predictions.index):
        cells = {"image": source.names[index]}
        if with_target:
            cells["target"] = int(predictions.label[row])
        for suffix, k in columns.items():
            cells |= {f"probability{suffix}": float(probability[row, k]), f"std{suffix}": float(spread[row, k])}
        if groups is not None:
            cells["group"] = groups[index]
        rows.append(cells | {name: values[index] for name, values in more.items() if name not in cells})
    return rows


def _json_number(value):
    """NaN is not JSON; what is not defined becomes null."""
    if isinstance(value, list):
        return [_json_number(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
