"""How the report reads evaluations: the name of the checkpoint, and which evaluations it does not use or compare."""

import json
import zlib

import numpy as np
import pytest

from stochconv_jax.reporting import collect, results, tables
from tests.reporting.folders import IMAGES, SPLIT, THUMBNAIL, better, summarised, write

AREAS = [0.6, 0.9, 0.7, 0.8]  # by epoch; the best is not the last
OTHERS = [(i, t, better(t, p)) for i, t, p in IMAGES]


def evaluation(step, asked_for=None, run_step=4, **more):
    """Returns an evaluation.json as this version writes it, or, without `asked_for`, as an earlier one did."""
    found = {"checkpoint_step": step, "passes": 1} | more
    if asked_for:
        chosen_on = "validation" if asked_for == "best" else ""
        found |= {"checkpoint_asked_for": asked_for, "checkpoint_chosen_on": chosen_on, "run_step": run_step}
    return found


def pair(root, ours, theirs):
    """Writes a model and a baseline with these evaluations and returns their comparison."""
    for name, config, rows, found in (("a", SPLIT, OTHERS, ours), ("b", THUMBNAIL, IMAGES, theirs)):
        write(root / name, AREAS, config=config, predictions=rows, evaluation=found)
    found = summarised(root)
    return results.compare(found["a"], found["b"])


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (evaluation(4, "last"), "last"),
        (evaluation(4), "last"),
        (evaluation(4, "4"), "last"),
        (evaluation(4, "best"), "best (epoch 4, step 4)"),
        (evaluation(2, "best"), "best (epoch 2, step 2)"),
        (evaluation(3, "3"), "epoch 3, step 3"),
        (evaluation(2), "epoch 2, step 2"),
        (evaluation(9, "9"), "step 9, inside an epoch"),
        ({}, "?"),
    ],
)
def test_a_checkpoint_is_named_by_how_it_was_asked_for_and_by_its_epoch_and_step(tmp_path, found, name):
    write(tmp_path / "a", AREAS, config=SPLIT, predictions=IMAGES, evaluation=found)
    (group,), _ = collect.collect(tmp_path)
    assert group.first.checkpoint == name
    assert tables.quality_table([results.summarise(group)]).rows[0][3] == name


@pytest.mark.parametrize("chosen", [evaluation(2, "best"), evaluation(4, "best"), evaluation(2)])
def test_checkpoints_chosen_by_the_images_or_nobody_knows_how_are_not_compared_on_them(tmp_path, chosen):
    for number, (ours, theirs) in enumerate([(chosen, chosen), (chosen, evaluation(4, "last"))]):
        got = pair(tmp_path / str(number), ours, theirs)
        assert got.image_pairs == 0 and np.isnan(got.images.p)
        assert "checkpoints chosen on the predicted images" in got.verdict()
    for number, (ours, theirs) in enumerate([(evaluation(4, "last"), evaluation(4)), ({}, {})]):
        got = pair(tmp_path / f"last_{number}", ours, theirs)
        assert got.image_pairs == 1 and not np.isnan(got.images.p) and "chosen" not in got.verdict()


def test_two_checkpoints_that_are_neither_last_nor_best_are_told_apart(tmp_path):
    apart = pair(tmp_path / "apart", evaluation(2, "2"), evaluation(3, "3"))
    assert apart.verdict().endswith("with other checkpoints, passes or views")
    assert not pair(tmp_path / "alike", evaluation(3, "3"), evaluation(3, "3")).verdict().endswith("views")


def test_an_evaluation_that_the_run_has_left_behind_is_said_to_be(tmp_path):
    write(tmp_path / "a", AREAS, config=SPLIT, predictions=IMAGES, evaluation=evaluation(3, "last", run_step=3))
    write(tmp_path / "b", AREAS, config=THUMBNAIL, predictions=IMAGES, evaluation=evaluation(2, "best"))
    write(tmp_path / "c", AREAS, config=THUMBNAIL | {"model.dropout": 0}, evaluation=evaluation(2))
    groups, remarks = collect.collect(tmp_path)
    assert groups[0].first.checkpoint == "epoch 3, step 3" and len(remarks) == 2
    assert "a/evaluation.json is older than the run, the run was at step 3 then and is at step 4 now" in remarks[0]
    assert "c/evaluation.json is of epoch 2, step 2, not of the last step, and it does not say whether" in remarks[1]


def test_figures_of_other_images_and_predictions_of_another_evaluation_are_not_used(tmp_path):
    write(tmp_path / "a", AREAS, config=SPLIT, predictions=IMAGES, evaluation=evaluation(4, data={"crc32": 9}))
    write(tmp_path / "b", AREAS, config=THUMBNAIL, predictions=IMAGES, evaluation=evaluation(4, predictions_crc32=9))
    (a, b), remarks = collect.collect(tmp_path)
    assert (a.first.evaluation, a.first.predictions, b.first.predictions) == ({}, None, None)
    assert "a/evaluation.json is of other images than the run validated on" in remarks[0]
    assert "b/predictions.csv is not used: it was changed after the evaluation beside it" in remarks[1]
    for name, key, value in (
        ("a", "data", {"images": 4, "crc32": 7}),
        ("b", "predictions_crc32", zlib.crc32((tmp_path / "b/predictions.csv").read_bytes())),
    ):
        file = tmp_path / name / "evaluation.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    (a, b), remarks = collect.collect(tmp_path)
    assert a.first.predictions and b.first.predictions and not remarks


def test_what_an_evaluation_of_a_test_set_leaves_in_the_folder_of_a_run_is_no_run(tmp_path):
    write(tmp_path / "a", AREAS, config=SPLIT, predictions=IMAGES, evaluation=evaluation(4, "last"))
    (tmp_path / "a" / "test_b").mkdir()
    for name in ("evaluation.json", "predictions.csv"):
        (tmp_path / "a" / "test_b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    (group,), remarks = collect.collect(tmp_path)
    assert [run.name for run in group.runs] == ["a"] and not remarks


def test_a_tables_own_column_group_is_not_what_groups_the_images(tmp_path):
    rows = [(image, target, probability, f"g{n}") for n, (image, target, probability) in enumerate(IMAGES)]
    write(tmp_path / "a", AREAS, config=SPLIT, predictions=rows, evaluation=evaluation(4, "last"))
    grouped = collect.read(tmp_path / "a", tmp_path)
    assert grouped.predictions.groups is not None
    content = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    del content["roc_auc_interval_95_clustered"]
    (tmp_path / "a" / "evaluation.json").write_text(json.dumps(content))
    own = collect.read(tmp_path / "a", tmp_path)
    assert own.predictions is not None and own.predictions.groups is None
