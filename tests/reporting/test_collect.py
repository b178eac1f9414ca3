"""Which runs are found, how they are grouped, and the remarks about runs that cannot be used."""

import json

import numpy as np
import pytest

from configs import default
from stochconv_jax.modes import report
from stochconv_jax.reporting import collect
from stochconv_jax.run_folder import METRICS
from tests.reporting.folders import SPLIT, THUMBNAIL, write


def names(groups):
    return {group.name: [run.seed for run in group.runs] for group in groups}


def test_runs_that_differ_by_seed_alone_are_a_model_wherever_they_lie(tmp_path):
    for seed in (0, 1, 2):
        write(tmp_path / "deep" / "b0" / f"seed_{seed}", [0.6, 0.7], config=THUMBNAIL, seed=seed)
        # Keys that do not affect results, such as data.path, do not separate models.
        write(tmp_path / f"split-seed={seed}", [0.8], config=SPLIT | {"data.path": f"/{seed}"}, seed=seed)
    write(tmp_path / "again", [0.6, 0.7], config=THUMBNAIL | {"data.seed": 5}, seed=0)
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"again": [0], "deep/b0": [0, 1, 2], "split": [0, 1, 2]} and not remarks


def test_runs_of_one_model_in_two_sweeps_are_named_by_what_their_folders_share(tmp_path):
    for name, config in (("full_split", SPLIT), ("plain", THUMBNAIL)):
        for seed in (0, 1):
            write(tmp_path / "quick_first" / name / f"seed_{seed}", [0.6], config=config, seed=seed)
        for seed in (1, 2):
            write(tmp_path / "quick_second" / name / f"seed_{seed}", [0.7], config=config, seed=seed)
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"full_split": [0, 1, 2], "plain": [0, 1, 2]} and len(remarks) == 2


def test_other_images_make_another_model_and_mixed_configs_are_said(tmp_path):
    write(tmp_path / "m" / "seed_0", [0.6], config=THUMBNAIL)
    write(tmp_path / "m" / "seed_1", [0.6], config=SPLIT, seed=1)
    write(tmp_path / "n" / "seed_0", [0.6], config=THUMBNAIL, validation=8)
    groups, (remark,) = collect.collect(tmp_path)
    assert names(groups) == {"m #1": [0], "m #2": [1], "n": [0]}
    assert (
        remark.startswith("m: runs of 2 configs, grouped separately") and "model.branches (['thumbnail'] / [" in remark
    )


def test_folders_without_a_config_are_models_by_name_and_a_folder_of_seeds_has_its_own_name(tmp_path):
    for seed in (0, 1):
        write(tmp_path / "theirs" / "net" / f"Seed{seed}", [0.6], columns=("epoch", "val_roc_auc"))
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"theirs/net": [0, 1]} and len(remarks) == 4
    assert np.isnan(groups[0].first.metrics["seconds"]).all()
    assert "lacks the column step, train_loss" in remarks[0] and "metrics.csv" in remarks[0]
    assert names(collect.collect(tmp_path / "theirs" / "net")[0]) == {"net": [0, 1]}
    assert names(collect.collect(tmp_path / "theirs" / "net" / "Seed1")[0]) == {"Seed1": [1]}


def test_a_list_of_folders_is_one_report_and_one_without_a_run_is_named(tmp_path):
    write(tmp_path / "x" / "b0", [0.6], config=THUMBNAIL)
    write(tmp_path / "y" / "z" / "split", [0.7], config=SPLIT)
    write(tmp_path / "unasked", [0.8], config=SPLIT | {"model.dropout": 0.5})
    (tmp_path / "y" / "empty").mkdir()
    folders = [tmp_path / "x", tmp_path / "y" / "z"]
    assert names(collect.collect(tmp_path, [*folders, folders[1] / "split"])[0]) == {"x/b0": [0], "y/z/split": [0]}
    report.run(default.get_config(), {}, ",".join(map(str, folders)))
    text = (tmp_path / "report.md").read_text()
    assert "x/b0" in text and "y/z/split" in text and "unasked" not in text
    for other, reason in (("y/empty", "no run with a finished epoch in or below"), ("no", "there is no such folder")):
        with pytest.raises(ValueError, match=rf"{tmp_path}/{other}: {reason}|{reason} {tmp_path}/{other}:"):
            report.run(default.get_config(), {}, f"{folders[0]},{tmp_path / other}")


def test_a_folder_whose_name_has_a_comma_is_one_folder(tmp_path):
    write(tmp_path / "x,y" / "b0", [0.6], config=THUMBNAIL)
    report.run(default.get_config(), {}, str(tmp_path / "x,y"))
    assert (tmp_path / "x,y" / "report.md").exists()


def test_a_repeated_seed_counts_once_and_it_is_the_longer_run(tmp_path):
    write(tmp_path / "b0" / "first", [0.6], config=THUMBNAIL | {"num_epochs": 3})
    write(tmp_path / "b0" / "again", [0.6, 0.7, 0.8], config=THUMBNAIL)
    groups, remarks = collect.collect(tmp_path)
    assert [run.last() for run in groups[0].runs] == [0.8]
    assert any("only b0/again counts" in remark for remark in remarks)
    assert any("unfinished, 1 of 3 epochs" in remark for remark in remarks)


def test_of_equally_long_repeats_the_one_of_most_passes_counts(tmp_path):
    for name, passes in (("a", 1), ("b", 16), ("c", 3)):
        evaluation = {"roc_auc_by_passes": [0.5] * passes}
        write(tmp_path / name, [0.6, 0.7], config=THUMBNAIL, evaluation=evaluation)
    (group,), _ = collect.collect(tmp_path)
    assert group.name == "b"


def test_rows_without_a_number_leave_gaps_and_are_said(tmp_path):
    write(tmp_path / "gap", [0.6, "nan", 0.9, ""], config=THUMBNAIL)
    (group,), remarks = collect.collect(tmp_path)
    assert group.first.maximum() == 0.9 and np.isnan(group.first.last())
    assert "no val_roc_auc in epoch 2, 4" in remarks[0] and "last epoch has no validation ROC AUC" in remarks[1]


@pytest.mark.parametrize(
    "areas, columns, reason",
    [
        ([], METRICS, "no finished epoch"),
        (["nan", "nan"], METRICS, "of one class only?"),
        ([0.5, "good"], METRICS, r"line 3, column val_roc_auc: 'good' is not a number"),
        ([0.5], ("epoch", "val_loss"), "lacks the column val_roc_auc; it has epoch, val_loss"),
        ([0.5, 95.8], METRICS, "a val_roc_auc of 95.8; expected areas within 0..1"),
    ],
)
def test_a_run_that_cannot_be_used_is_left_out_by_name(tmp_path, areas, columns, reason):
    write(tmp_path / "bad", areas, config=THUMBNAIL, columns=columns)
    with pytest.raises(ValueError, match=rf"(?s)no run with a finished epoch.*bad/metrics.csv.*{reason}"):
        collect.collect(tmp_path)
    write(tmp_path / "good", [0.6], config=THUMBNAIL)
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"good": [0]} and remarks[0].startswith("left out: ") and "bad/metrics.csv" in remarks[0]


def test_files_that_are_not_what_they_should_be_are_named(tmp_path):
    write(tmp_path / "classes", [0.6], config=THUMBNAIL, predictions=[("a", 2, 0.5)])
    write(tmp_path / "broken", [0.6], config=SPLIT)
    (tmp_path / "broken" / "config.json").write_text("{")
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"broken": [None], "classes": [0]} and groups[1].first.predictions is None
    assert "broken/config.json is not valid JSON" in remarks[0] and "targets should be 0 or 1" in remarks[-1]


def test_a_run_from_before_a_key_existed_is_of_the_model_with_its_default(tmp_path):
    write(tmp_path / "b0" / "seed_0", [0.6], config=THUMBNAIL)
    write(tmp_path / "b0" / "seed_1", [0.6], config=THUMBNAIL | {"optimizer.accumulate_steps": 1}, seed=1)
    write(tmp_path / "b0" / "seed_2", [0.6], config=THUMBNAIL | {"optimizer.accumulate_steps": 2}, seed=2)
    assert names(collect.collect(tmp_path)[0]) == {"b0 #1": [0, 1], "b0 #2": [2]}


def test_a_table_with_a_byte_order_mark_is_read(tmp_path):
    write(tmp_path / "b0", [0.6], config=THUMBNAIL)
    file = tmp_path / "b0" / "metrics.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert names(collect.collect(tmp_path)[0]) == {"b0": [0]}


def test_a_table_that_is_no_text_is_named(tmp_path):
    write(tmp_path / "run", [0.6], config=THUMBNAIL, predictions=[("a", 1, 0.5)])
    write(tmp_path / "other", [0.6], config=THUMBNAIL, seed=1, predictions=[("a", 1, "high"), ("b", 0, 0.5)])
    (tmp_path / "run" / "predictions.csv").write_bytes(b"image,target,probability\n\xff,1,0.5\n")
    (group,), remarks = collect.collect(tmp_path)
    assert [run.predictions for run in group.runs] == [None, None]
    assert "other/predictions.csv, line 2, column probability: 'high' is not a number" in remarks[0]
    assert "run/predictions.csv is not a CSV file in UTF-8" in remarks[1]
    (tmp_path / "folder" / "metrics.csv").mkdir(parents=True)
    assert "folder/metrics.csv" in str(collect.collect(tmp_path)[1])
    (tmp_path / "run" / "metrics.csv").write_bytes(b"epoch,val_roc_auc\n1,\xff\n")
    assert "run/metrics.csv is not a CSV file in UTF-8" in str(collect.collect(tmp_path)[1])


def test_json_files_of_another_program_are_used_as_far_as_they_go(tmp_path):
    odd = {"list": [1], "kinds": {"config": [], "parameters": "many", "data": 3}, "inner": {"config": {"seed": "x"}}}
    odd["inner"]["config"] |= {"num_epochs": None, "model": {"branches": 3, "variant": []}}
    for name, content in odd.items():
        write(tmp_path / name, [0.6, 0.7], evaluation={"roc_auc_by_passes": ["x", "y"]})
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    write(tmp_path / "fine", [0.6, 0.7], config=THUMBNAIL, evaluation=["x"])
    report.run(default.get_config(), {}, str(tmp_path))
    groups, remarks = collect.collect(tmp_path)
    assert names(groups) == {"fine": [0], "inner": [None], "kinds": [None], "list": [None]}
    for words in (
        "list/config.json is not valid JSON (expected a table",
        "kinds/config.json: parameters is not used: 'many', expected a number",
        "inner/config.json: num_epochs is not used: None, expected a number",
        "inner/config.json: model.branches is not used: 3, expected a list",
        "fine/evaluation.json is not valid JSON",
    ):
        assert any(words in remark for remark in remarks), words


def test_a_run_that_failed_before_its_first_epoch_is_named(tmp_path):
    write(tmp_path / "b0" / "seed_0", [0.6], config=THUMBNAIL)
    files = {"b0/seed_1/config.json": '{"config": {}}', "b0/seed_2/output.log": "", "of_another/config.json": "{}"}
    for file, text in files.items():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(text)
    _, remarks = collect.collect(tmp_path)
    assert len(remarks) == 2 and all("no metrics.csv, so no epoch" in remark for remark in remarks)
    assert "b0/seed_1 was begun" in remarks[0] and remarks[1].endswith("output.log says more")
