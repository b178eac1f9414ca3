"""Runs of folds and seeds are one model in the report, whose figures are over the images of all folds."""

import csv
import json

import numpy as np
import pytest
import sklearn.metrics

from configs import default
from stochconv_jax import metrics
from stochconv_jax.modes import report
from stochconv_jax.reporting import charts, collect, results, tables
from tests.reporting.folders import SPLIT, THUMBNAIL, summarised, write

FOLDS, SEEDS, COUNT = 3, (0, 4), 90
LABEL = np.arange(COUNT) % 2
FOLD = np.arange(COUNT) // 2 % FOLDS + 1
OWN = {fold: np.flatnonzero(np.equal(FOLD, fold)) for fold in range(1, FOLDS + 1)}  # images of each fold
LAST = {"checkpoint_asked_for": "last", "checkpoint_chosen_on": "", "checkpoint_step": 2, "run_step": 2, "passes": 3}


def drawn(skill, key=0):
    """Returns a probability of class 1 for each seed and image, `[seeds, N]`, the higher in later folds."""
    noise = np.random.default_rng(key).normal(size=(len(SEEDS), COUNT))
    return 1 / (1 + np.exp(-(skill * (2 * LABEL - 1) + noise + FOLD)))


def write_folds(root, config, probability, *, left_out=(), groups=None, evaluation=None, first_crc=0):
    """Writes a run for each fold and seed, whose last ROC AUC is that of its predictions."""
    for row, seed in enumerate(SEEDS):
        for fold, own in OWN.items():
            if (fold, seed) in left_out:
                continue
            last = sklearn.metrics.roc_auc_score(LABEL[own], probability[row, own])
            rows = [(f"i{k:02d}.png", LABEL[k], probability[row, k], *([groups[k]] if groups else [])) for k in own]
            write(
                root / f"fold_{fold}" / f"seed_{seed}",
                [0.6, last],
                config=config | {"data.fold": f"{fold}/{FOLDS}"},
                seed=seed,
                validation=first_crc + fold,
                predictions=rows,
                evaluation=dict(LAST if evaluation is None else evaluation),
            )


@pytest.fixture
def runs(tmp_path):
    """Two models with three folds and two seeds, and one without folds."""
    write_folds(tmp_path / "split", SPLIT, drawn(0.7))
    write_folds(tmp_path / "plain", THUMBNAIL, drawn(0.1, key=1))
    write(tmp_path / "single", [0.6, 0.7], config=THUMBNAIL)
    return tmp_path


def areas(probability):
    return np.array([sklearn.metrics.roc_auc_score(LABEL, one) for one in probability])


def test_runs_of_all_folds_and_seeds_are_one_model(runs):
    groups, remarks = collect.collect(runs)
    replicates = [((fold, FOLDS), seed) for fold in OWN for seed in SEEDS]
    assert {group.name: list(group.by_replicate()) for group in groups} == {
        "plain": replicates,
        "single": [(None, 0)],
        "split": replicates,
    }
    assert not remarks
    (alone,), _ = collect.collect(runs / "split")
    assert alone.name == "split" and len(alone.runs) == 6
    (one,), _ = collect.collect(runs / "split" / "fold_2")
    assert one.name == "fold_2" and len(one.runs) == 2


def test_the_area_is_over_the_images_of_all_folds_and_the_spread_stands_beside_it(runs):
    result, probability = summarised(runs)["split"], drawn(0.7)
    np.testing.assert_allclose(result.pooled.value, areas(probability).mean())
    np.testing.assert_allclose(result.pooled.over_seeds, areas(probability).std(ddof=1))
    by_fold = [
        np.mean([sklearn.metrics.roc_auc_score(LABEL[own], one[own]) for one in probability]) for own in OWN.values()
    ]
    np.testing.assert_allclose(result.pooled.over_folds, np.std(by_fold, ddof=1))
    assert result.pooled.low < result.pooled.value < result.pooled.high
    assert result.pooled.value < np.mean(by_fold) - 0.02  # probabilities of the folds are of different height
    assert result.quality.images == COUNT and result.quality.runs == 6
    row = tables.pooled_table([result]).rows[0]
    assert row[:6] == ["split", "3", "2", "90", "last", "3"] and row[6].startswith(f"{result.pooled.value:.4f} [")


def test_intervals_over_folds_count_the_images_that_their_runs_share(runs):
    result = summarised(runs)["split"]
    last = [run.last() for run in result.group.finished]
    half = 2.570582 * np.std(last, ddof=1) * np.sqrt(1 / 6 + 1 / 2)  # t of five degrees of freedom; test / training
    expected = (np.mean(last), np.mean(last) - half, min(1.0, np.mean(last) + half))
    np.testing.assert_allclose(result.last[:3], expected, rtol=1e-6)
    assert np.ptp(metrics.mean_interval(last)) < 2 * half


def test_models_are_compared_by_fold_and_seed_and_on_all_images(runs):
    found = summarised(runs)
    got = results.compare(found["split"], found["plain"])
    ours, theirs = ([run.last() for run in found[name].group.finished] for name in ("split", "plain"))
    assert (got.pairs, got.image_count, got.image_pairs) == (6, COUNT, 2)
    np.testing.assert_allclose(got.seeds.value, np.subtract(ours, theirs).mean())
    assert (
        got.seeds == metrics.student_difference(ours, theirs, folds=FOLDS) != metrics.student_difference(ours, theirs)
    )
    difference = (areas(drawn(0.7)) - areas(drawn(0.1, key=1))).mean()
    np.testing.assert_allclose(got.images.value, difference)
    assert 0 < got.images.low < difference < got.images.high and got.images.p < 0.05
    assert "on the predicted images better" in got.verdict()
    back = results.compare(found["plain"], found["split"])
    np.testing.assert_allclose(back.images[:3], (-difference, -got.images.high, -got.images.low))
    assert "not compared" in results.compare(found["split"], found["single"]).verdict()


def test_equal_models_are_not_told_apart(tmp_path):
    write_folds(tmp_path / "a", SPLIT, drawn(0.6))
    write_folds(tmp_path / "b", THUMBNAIL, drawn(0.6, key=1))
    found = summarised(tmp_path)
    verdict = results.compare(found["a"], found["b"]).verdict()
    assert verdict.startswith("no significant difference from b with 6 pairs of fold and seed")
    assert verdict.endswith("on the predicted images no significant difference")


def test_seeds_without_every_fold_are_left_out_and_so_are_unfinished_models(tmp_path):
    write_folds(tmp_path / "most", SPLIT, drawn(0.7), left_out=[(2, 0)])
    write_folds(tmp_path / "few", THUMBNAIL, drawn(0.7), left_out=[(2, 0), (2, 4)])
    found = summarised(tmp_path)
    np.testing.assert_allclose(found["most"].pooled.value, areas(drawn(0.7))[1])
    assert np.isnan(found["most"].pooled.over_seeds) and found["few"].pooled is None
    rows = {row[0]: row for row in tables.pooled_table(list(found.values())).rows}
    assert rows["most"][1:4] == ["3", "1", "90"] and rows["few"][1:] == ["2 of 3", *[tables.NONE] * 7]


def test_seeds_of_one_fold_alone_are_compared_as_runs_without_folds(tmp_path):
    others = [(fold, seed) for fold in (1, 3) for seed in SEEDS]
    write_folds(tmp_path / "a", SPLIT, drawn(0.7), left_out=others)
    write_folds(tmp_path / "b", THUMBNAIL, drawn(0.1, key=1), left_out=others)
    found = summarised(tmp_path)
    got, own = results.compare(found["a"], found["b"]), OWN[2]
    scores = [probability[:, own] for probability in (drawn(0.7), drawn(0.1, key=1))]
    assert got.images == pytest.approx(metrics.delong_difference(LABEL[own], *scores)) and got.pairs == 2
    assert tables.pooled_table(list(found.values())) is None


def test_checkpoints_that_were_chosen_on_the_images_have_no_interval_and_no_comparison(tmp_path):
    best = LAST | {"checkpoint_asked_for": "best", "checkpoint_chosen_on": "validation"}
    write_folds(tmp_path / "a", SPLIT, drawn(0.7), evaluation=best)
    write_folds(tmp_path / "b", THUMBNAIL, drawn(0.4))
    found = summarised(tmp_path)
    assert found["a"].pooled.value > 0.5 and np.isnan(found["a"].pooled.low)
    got = results.compare(found["a"], found["b"])
    assert np.isnan(got.images.p) and "chosen on the predicted images" in got.verdict()


def test_data_sets_of_equally_many_images_are_models_of_their_own(tmp_path):
    write_folds(tmp_path / "a" / "m", SPLIT, drawn(0.7))
    write_folds(tmp_path / "b" / "m", SPLIT, drawn(0.1), first_crc=20)
    groups, remarks = collect.collect(tmp_path)
    assert [len(group.runs) for group in groups] == [6, 6] and not remarks
    np.testing.assert_allclose(results.summarise(groups[0]).pooled.value, areas(drawn(0.7)).mean())


@pytest.mark.parametrize(("recorded", "models"), [((5, 6), [4, 2]), ((5, None), [6]), ((None, None), [6])])
def test_data_sets_that_lack_each_other_s_folds_are_told_apart_if_their_images_are_recorded(tmp_path, recorded, models):
    """Runs of earlier versions have no record: they count as runs of the data set of the others."""
    first_two, last = [(3, seed) for seed in SEEDS], [(fold, seed) for fold in (1, 2) for seed in SEEDS]
    for name, left_out, crc in zip("ab", (first_two, last), recorded):
        write_folds(tmp_path / name / "m", SPLIT, drawn(0.7), left_out=left_out)
        for file in (tmp_path / name).rglob("config.json") if crc else ():
            file.write_text(json.dumps(json.loads(file.read_text()) | {"all_folds_crc32": crc}))
    assert [len(group.runs) for group in collect.collect(tmp_path)[0]] == models


def test_images_of_a_group_are_drawn_together(tmp_path):
    groups = [f"{FOLD[k]} {k // 18} {LABEL[k]}" for k in range(COUNT)]  # three images of one fold and class
    of_group = dict(zip(groups, np.random.default_rng(5).random(COUNT)))
    alike = np.array([[of_group[group] for group in groups]] * 2)  # the images of a group have one prediction
    write_folds(tmp_path / "known", SPLIT, alike, groups=groups)
    write_folds(tmp_path / "unknown", SPLIT | {"model.dropout": 0.1}, alike)
    known, unknown = (summarised(tmp_path)[name].pooled for name in ("known", "unknown"))
    assert known.value == unknown.value and known.high - known.low > 1.2 * (unknown.high - unknown.low)


def test_roc_curves_are_over_all_folds(runs):
    found = [results.summarise(group) for group in collect.collect(runs / "split")[0]]
    (axes,) = {name: draw for name, _, draw in charts.FIGURES}["roc"](found).axes
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(np.trapezoid(y, x), areas(drawn(0.7)).mean(), atol=0.01)


def test_the_written_report_has_a_row_for_each_model(runs):
    report.run(default.get_config(), {}, str(runs))
    with (runs / "results.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"split", "plain", "single"} and rows["single"]["folds"] == ""
    assert (rows["split"]["folds"], rows["split"]["runs"], rows["split"]["seeds"]) == ("3", "6", "0 4")
    assert float(rows["split"]["pooled_value"]) == pytest.approx(areas(drawn(0.7)).mean())
    text = (runs / "report.md").read_text()
    assert "## Cross-validation" in text and tables.ABOUT_FOLDS in text and charts.BAND_OF_FOLDS in text
    report.run(default.get_config(), {}, str(runs / "single"))
    alone = (runs / "single" / "report.md").read_text()
    assert "fold" not in alone and "folds" not in (runs / "single" / "results.csv").read_text()
