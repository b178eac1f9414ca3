"""The images that --mode=evaluate measures or refuses, and where it writes. Its predictions are random numbers."""

import json
import os
import shutil
import subprocess
import zlib

import cv2
import numpy as np
import pytest

from configs import default
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.experiment import data_sources, runs
from stochconv_jax.experiment.prediction_rows import group_of_each, prediction_rows
from stochconv_jax.modes import evaluate, predict, report, show
from stochconv_jax.run_folder import METRICS, RunFolder, locked, write_csv
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training.evaluation import Predictions

COLUMNS = {"image": ["a", "b", "c"], "patient_id": ["p1", "p2", "p1"], "site": ["x", "y", "z"]}
LAST, BEST = 40, 20  # steps


def labelled(folder, name, count, rows=None):
    """`count` pictures in `folder`/NAME and NAME.csv beside it."""
    (folder / name).mkdir()
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for index in range(count):
        cv2.imwrite(str(folder / name / f"{name}_{index}.png"), random.integers(0, 255, (8, 8, 3), np.uint8))
    rows = rows or [{"image": f"{name}_{k}", "target": k % 2, "patient_id": f"p{k}"} for k in range(count)]
    write_csv(folder / f"{name}.csv", list(rows[0]), rows)
    return {"path": str(folder / name), "labels": str(folder / f"{name}.csv")}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder of four epochs, trained on the images `own`; a test set `external` and other pictures beside it."""
    config = default.get_config()
    sizes = {"image_size": (8, 8), "thumbnail_size": (2, 2)}
    config.data.update({"source": "folder", **sizes, **labelled(tmp_path, "own", 20)})
    config.update({"num_epochs": 4, "compilation_cache": ""})
    labelled(tmp_path, "external", 12)
    folder = RunFolder(tmp_path / "run").create()
    data = dict(zip(("train", "validation"), map(runs.fingerprint, data_sources.training_and_validation(config))))
    folder.write_json("config.json", {"config": config.to_dict(), "data": data})
    folder.write_metrics([dict.fromkeys(METRICS, 0.5) | {"epoch": k, "step": 10 * k} for k in range(1, 5)])

    class Drawn:
        """A predictor whose predictions are random numbers."""

        def __init__(self, folder, experiment):
            checkpoint, self.passes = experiment.config.eval.checkpoint, experiment.config.eval.passes
            self.step = {"best": BEST, "last": LAST}.get(checkpoint) or int(checkpoint)
            self.predicted_by = {"checkpoint_step": self.step, "passes": self.passes, "views": 1}

        def predict_source(self, source):
            logits = np.random.default_rng(self.passes).normal(size=(self.passes, len(source), 1))
            return Predictions(np.arange(len(source)), np.asarray(source.labels), logits, np.array([], int)), {}

    monkeypatch.setattr(evaluate, "Predictor", Drawn)
    return folder.path


def evaluated(run, output=".", **keys):
    """Evaluates with the given keys, '__' for dots; evaluation.json, and the names in predictions.csv."""
    evaluate.run(None, {key.replace("__", "."): value for key, value in keys.items()}, run)
    folder = RunFolder(run / output)
    names = [row["image"] for row in folder.read_table("predictions.csv")]
    summary = folder.read_json("evaluation.json")
    assert summary["predictions_crc32"] == zlib.crc32((folder.path / "predictions.csv").read_bytes())
    assert summary["n"] == len(names)
    return summary, names


def of(run, name):
    return {"path": str(run.parent / name), "labels": str(run.parent / f"{name}.csv")}


def test_a_test_set_is_measured_in_whole_without_the_training_files_and_beside_the_runs_own_figures(run):
    evaluated(run)
    own = {file: file.read_bytes() for file in run.glob("*.*") if file.is_file()}
    shutil.rmtree(run.parent / "own")
    (run.parent / "own.csv").unlink()
    keys = {f"eval__{key}": value for key, value in of(run, "external").items()}
    summary, names = evaluated(run, "test_external", **keys)
    assert names == [f"external_{k}" for k in range(12)] and summary["images"] == "test"
    # What makes the images of the run's own config, and what more their table says, makes the test set's.
    assert RunFolder(run / "test_external").read_table("predictions.csv")[3]["patient_id"] == "p3"
    summary, _ = evaluated(run, run.parent / "elsewhere", eval__output=str(run.parent / "elsewhere"), **keys)
    assert summary["images"] == "test"
    assert own == {file: file.read_bytes() for file in run.glob("*.*") if file.is_file()}


def test_images_of_a_test_set_that_were_trained_on_are_named(run, caplog):
    _, config = runs.read_run(run, {})
    train, validation = data_sources.training_and_validation(config)
    for name, source in (("seen", train), ("unseen", validation)):
        names = [*source.names[:2], *validation.names]
        rows = [{"image": image, "target": k % 2} for k, image in enumerate(dict.fromkeys(names))]
        write_csv(run.parent / f"{name}.csv", ["image", "target"], rows)
        for path in ("", of(run, "own")["path"]):
            caplog.clear()
            with caplog.at_level("WARNING", "stochconv_jax"):
                evaluated(run, f"test_{name}", eval__labels=str(run.parent / f"{name}.csv"), eval__path=path)
            words = f"trained on 2 of the {len(rows)} images of the test set ({train.names[0]}, {train.names[1]})"
            assert (words in caplog.text) == (name == "seen") and ("trained on" in caplog.text) == (name == "seen")


def test_a_test_sets_table_is_refused_by_its_own_keys(run):
    keys = {f"eval__{key}": value for key, value in of(run, "external").items()}
    for change, words in (
        ({"eval__labels": ""}, r"config\.eval\.labels is not set, and .*external has no folder of images"),
        ({"eval__labels": str(run / "none.csv")}, r"config\.eval\.labels=.*none\.csv': there is no such file"),
        ({"eval__path": str(run / "none")}, r"config\.eval\.path=.*none' is not a folder"),
        ({"eval__path": ""}, "there is no image 'external_0' in .*own"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluated(run, **(keys | change))


def test_figures_of_other_images_are_never_written_over(run):
    summary, _ = evaluated(run)
    keys = {f"eval__{key}": value for key, value in of(run, "external").items()}
    (other := run.parent / "other_run").mkdir()
    shutil.copy(run / "config.json", other)
    for output in (".", str(run), "../run", str(other)):
        with pytest.raises(ValueError, match=r"config\.eval\.output=.*of the validation images of a run; choose"):
            evaluated(run, eval__output=output, **keys)
    evaluated(run, "held_out", eval__output="held_out", **keys)
    labelled(run.parent, "second", 6)
    keys = {f"eval__{key}": value for key, value in of(run, "second").items()}
    with pytest.raises(ValueError, match=r"held_out/evaluation\.json is of other images: choose another folder with"):
        evaluated(run, eval__output="held_out", **keys)
    with pytest.raises(ValueError, match=r"config\.eval\.output must name a folder"):
        evaluated(run, data__fold="1/3")
    assert evaluated(run, "fold", data__fold="1/3", eval__output="fold")[0]["images"] == "other"
    assert RunFolder(run).read_json("evaluation.json") == summary


@pytest.mark.parametrize("given", [("path", "validation_labels"), ("path", "labels"), ("path", "labels", "both")])
def test_a_test_set_named_by_the_keys_of_the_data_is_refused_with_the_keys_to_use(run, given):
    external = of(run, "external") | {"validation_labels": of(run, "external")["labels"]}
    given = external if "both" in given else {key: external[key] for key in given}
    with pytest.raises(ValueError, match=r"name all of it by config\.eval\.path and config\.eval\.labels"):
        evaluated(run, data__seed=1, **{f"data__{key}": value for key, value in given.items()})
    assert not (run / "evaluation.json").exists()


def test_a_key_that_repeats_the_runs_own_value_asks_for_nothing(run):
    """As every loop over folders does."""
    about = json.loads((run / "config.json").read_text())
    about["data"]["validation"]["crc32"] += 1
    (run / "config.json").write_text(json.dumps(about))
    own = {"source": "folder", "validation_fraction": 0.2, "fold": "", "image_size": (4, 8), "num_workers": 7}
    keys = {f"data__{key}": value for key, value in (own | of(run, "own")).items()}
    with pytest.raises(ValueError, match=f"the validation images are not those of the run in {run}"):
        evaluated(run, **keys)
    summary, _ = evaluated(run, "more", data__validation_fraction=0.4, eval__output="more")
    assert summary["images"] == "other"


@pytest.mark.parametrize(
    ("asked_for", "metric", "by", "on", "step"),
    [
        ("best", "val_roc_auc", "val_roc_auc", "validation", BEST),
        ("best", "train_loss", "train_loss", "training", BEST),
        ("last", "val_roc_auc", "", "", LAST),
        ("15", "val_roc_auc", "", "", 15),
    ],
)
def test_how_the_checkpoint_was_chosen_is_said(run, caplog, asked_for, metric, by, on, step):
    with caplog.at_level("WARNING", "stochconv_jax"):
        summary, _ = evaluated(run, eval__checkpoint=asked_for, checkpoint__best_metric=metric)
    names = ("step", "epoch", "asked_for", "chosen_by", "chosen_on")
    expected = (step, None if step == 15 else step // 10, asked_for, by, on)
    assert tuple(summary[f"checkpoint_{name}"] for name in names) == expected and summary["run_step"] == LAST
    assert ("best by val_roc_auc on these same images" in caplog.text) == (on == "validation")


@pytest.mark.parametrize("passes", [1, 2])
def test_the_spread_of_one_pass_is_unknown_and_the_log_is_short(run, caplog, passes):
    caplog.set_level("INFO", "stochconv_jax")
    evaluate.run(None, {"eval.passes": passes}, run)
    summary, table = json.loads((run / "evaluation.json").read_text()), RunFolder(run).read_table("predictions.csv")
    assert all(bool(row["std"]) == (passes > 1) and float(row["probability"]) for row in table)
    for known in (summary["mean_std_over_passes"], summary["error_detection"]["roc_auc_of_spread"]):
        assert (known is not None) == (passes > 1)
    low, high = summary["roc_auc_interval_95"]
    figures = f"roc_auc {summary['roc_auc']:.4g} [{low:.3f}, {high:.3f}], average_precision"
    assert any(f"{len(table)} validation images: {figures}" in message for message in caplog.messages)
    assert "confusion_matrix" not in caplog.text and max(map(len, caplog.messages)) < 400


def test_one_process_evaluates_into_a_folder_at_a_time(run):
    with locked(run, runs.EVALUATE_LOCK), pytest.raises(OSError, match=f"another process works in {run}"):
        evaluated(run)
    with locked(run):  # of one that trains
        evaluated(run)


@pytest.mark.skipif(os.geteuid() != 0, reason="may not mount a file system here")
def test_a_run_that_is_read_only_is_refused_before_the_work_with_the_key_to_set(run, tmp_path, monkeypatch):
    def work(*_):
        raise AssertionError("there was work before the refusal")

    monkeypatch.setattr(meshes, "create", work)
    if subprocess.run(["mount", "--bind", "-o", "ro", str(run), str(run)], check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        for mode, key, overrides in (
            (evaluate, "eval.output", {}),
            (show, "show.output", {}),
            (predict, "predict.output", {"predict.images": str(tmp_path / "own")}),
            (report, "report.output", {}),
        ):
            config = default.get_config()
            with pytest.raises(OSError, match=rf"cannot write into {run}.*: Read-only.*--config\.{key}"):
                mode.run(config, overrides, run)
            overrides = overrides | {key: str(tmp_path / "elsewhere" / "file")}
            config.update_from_flattened_dict(overrides)
            if mode is report:
                report.run(config, {}, run)
                assert (tmp_path / "elsewhere" / "file" / "report.html").exists()
            else:
                with pytest.raises(AssertionError, match="there was work"):
                    mode.run(config, overrides, run)
    finally:
        subprocess.run(["umount", str(run)], check=True)


@pytest.mark.parametrize(("group_by", "groups"), [("Patient_ID", ["p1", "p1"]), ("", None), ("nowhere", None)])
def test_the_group_of_each_image_reaches_the_table(group_by, groups):
    source = FolderSource(COLUMNS["image"], COLUMNS["image"], np.array([0, 1, 1]), columns=COLUMNS)
    config = default.get_config()
    config.data.group_by = group_by
    # The second image was skipped.
    predictions = Predictions(np.array([0, 2]), np.array([0, 1]), np.zeros((1, 2, 1)), np.array([1]))
    known = group_of_each(source, config.data.group_by)
    rows = prediction_rows(source, predictions, known)
    columns = ["image", "target", "probability", "std", *(["group"] if groups else []), "patient_id", "site"]
    assert [list(row) for row in rows] == [columns] * 2 and [row["image"] for row in rows] == ["a", "c"]
    assert [row.get("group") for row in rows] == (groups or [None, None])


def test_other_drawn_images_are_not_the_runs_own_though_they_have_the_same_names(run):
    config = default.get_config()
    sizes = {"image_size": (8, 8), "thumbnail_size": (2, 2)}
    config.data.update({"source": "synthetic", "num_train": 8, "num_validation": 4, **sizes})
    sides = data_sources.training_and_validation(config)
    data = dict(zip(("train", "validation"), map(runs.fingerprint, sides)))
    RunFolder(run).write_json("config.json", {"config": config.to_dict(), "data": data})
    assert evaluated(run)[0]["images"] == "validation"
    with pytest.raises(ValueError, match=r"config\.eval\.output must name a folder"):
        evaluated(run, data__seed=3)


def test_damaged_metrics_are_named_before_the_work(run, monkeypatch):
    (run / "metrics.csv").write_text("epoch,step\nx,7\n")
    monkeypatch.setattr(meshes, "create", lambda *_: pytest.fail("there was work before the refusal"))
    with pytest.raises(ValueError, match=r"metrics\.csv, line 2: expected numbers in the columns epoch"):
        evaluated(run)


def test_a_setting_that_would_change_the_network_is_refused(run):
    with pytest.raises(ValueError, match=rf"config\.optimizer\.ema_decay=0\.5: the run in {run} has"):
        evaluated(run, optimizer__ema_decay=0.5)


def test_a_file_that_cannot_be_written_is_named(run):
    (run / "evaluation.json").mkdir()
    with pytest.raises(OSError, match=f"cannot write {run / 'evaluation.json'}: Is a directory"):
        evaluated(run)


def test_a_config_that_is_not_a_runs_is_named(run):
    (run / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json is not that of a run: it lacks `config` or `data`"):
        evaluated(run)
