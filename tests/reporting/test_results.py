"""The numbers of the report against numbers computed by hand."""

import json

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from stochconv_jax import metrics
from stochconv_jax.reporting import results, tables
from tests.reporting.folders import AS_REPORTED, IMAGES, SPLIT, THUMBNAIL, better, summarised, write


@pytest.fixture
def runs(tmp_path):
    """Writes three seeds of two models; the differences of their last epochs are 0.09, 0.10 and 0.14."""
    lasts = {"plain": (0.70, 0.72, 0.74), "split": (0.79, 0.82, 0.88)}
    for name, config in (("plain", THUMBNAIL), ("split", SPLIT)):
        for seed, last in enumerate(lasts[name]):
            # The order of images differs between the models, because images are matched by name.
            own = IMAGES if name == "plain" else [(i, t, better(t, p)) for i, t, p in IMAGES[::-1]]
            write(tmp_path / name / f"seed_{seed}", [0.6, 0.9, last], config=config, seed=seed, predictions=own)
    return tmp_path


def test_means_and_intervals_are_those_on_paper(runs):
    result = summarised(runs)["plain"]
    # Of 0.70, 0.72, 0.74: mean 0.72, deviation 0.02; t of two degrees of freedom 4.302653.
    half = 4.302653 * 0.02 / np.sqrt(3)
    np.testing.assert_allclose(result.last, (0.72, 0.72 - half, 0.72 + half, 0.74, 3), rtol=1e-6)
    # The maximum is 0.9 in every run, which says nothing of how runs vary.
    np.testing.assert_allclose(result.maximum, (0.9, np.nan, np.nan, 0.9, 3))
    assert (result.minutes_per_epoch, result.minutes, result.images_per_second) == (1.0, 3.0, 100.0)
    assert (result.parameters, result.multiply_adds) == (4_000_000, 385_000_000)
    labels, probability = ([row[k] for row in IMAGES] for k in (1, 2))
    np.testing.assert_allclose(result.quality.roc_auc, sklearn.metrics.roc_auc_score(labels, probability))
    np.testing.assert_allclose(result.quality.brier_score, sklearn.metrics.brier_score_loss(labels, probability))


def test_the_first_epochs_compilation_is_not_in_an_epochs_time(tmp_path):
    write(tmp_path / "a", [0.6] * 3, config=THUMBNAIL)
    file = tmp_path / "a" / "metrics.csv"
    file.write_text(file.read_text().replace("60.0", "600.0", 1))
    result = summarised(tmp_path)["a"]
    assert (result.minutes_per_epoch, result.minutes) == (1.0, 12.0)


def test_a_model_with_metadata_is_compared_with_one_without_on_the_same_images(runs):
    for file in (runs / "split").rglob("config.json"):
        about = json.loads(file.read_text())
        about["data"]["validation"]["metadata_crc32"] = 5
        file.write_text(json.dumps(about))
    found = summarised(runs)
    got = results.compare(found["split"], found["plain"])
    assert (got.pairs, got.image_pairs, got.image_count) == (3, 3, 20)


def test_comparisons_are_paired_by_seed_and_use_the_last_epoch(runs):
    found = summarised(runs)
    got = results.compare(found["split"], found["plain"])
    # 0.09, 0.10, 0.14: mean 0.11, deviation sqrt(0.0007), standard error 0.0152753.
    half = 4.302653 * 0.0152753
    np.testing.assert_allclose(got.seeds[:3], (0.11, 0.11 - half, 0.11 + half), rtol=1e-4)
    np.testing.assert_allclose(got.bootstrap, (0.09, 0.14))
    assert 0.018 < got.seeds.p < 0.019  # t = 7.2012
    areas = [sklearn.metrics.roc_auc_score(*zip(*[(t, f(t, p)) for _, t, p in IMAGES])) for f in (better, _own)]
    np.testing.assert_allclose(got.images.value, areas[0] - areas[1])
    assert (got.pairs, got.image_pairs, got.image_count) == (3, 3, 20)
    assert got.verdict().startswith("better than plain; on the predicted images")
    back = results.compare(found["plain"], found["split"])
    assert back.verdict().startswith("worse than split")


def _own(target, probability):
    return probability


def test_seeds_that_scatter_cannot_be_told_apart(runs):
    write(runs / "split" / "seed_3", [0.5] * 3, config=SPLIT, seed=3)
    write(runs / "plain" / "seed_3", [0.9] * 3, config=THUMBNAIL, seed=3)
    found = summarised(runs)
    assert (
        results.compare(found["split"], found["plain"])
        .verdict()
        .startswith("no significant difference from plain with 4")
    )


def test_an_unfinished_run_enters_no_number(runs):
    def numbers():
        found = summarised(runs)
        compared = results.compare(found["split"], found["plain"])
        means = [(*r.last, *r.maximum, r.minutes, *r.quality) for r in found.values()]
        return repr((means, compared.seeds, compared.images))

    before = numbers()
    for name, config in (("plain", THUMBNAIL), ("split", SPLIT)):
        unfinished = config | {"num_epochs": 3}
        write(runs / name / "seed_3", [0.1, 0.99], config=unfinished, seed=3, seconds=1e4, predictions=IMAGES)
    assert numbers() == before
    found = summarised(runs)
    assert len(found["split"].group.runs) == 4
    table, (row, _) = tables.results_table(list(found.values())), tables.csv_rows(list(found.values()), [])
    assert table.rows[0][1] == "3 of 4 finished" and (row["runs"], row["unfinished"], row["seeds"]) == (3, 1, "0 1 2")


def test_a_model_without_a_finished_run_has_no_numbers_and_is_no_baseline(tmp_path):
    write(tmp_path / "a", [0.6], config=THUMBNAIL | {"num_epochs": 3})
    write(tmp_path / "b", [0.7], config=SPLIT)
    found = summarised(tmp_path)
    assert np.isnan([*found["a"].last[:4], found["a"].minutes, found["a"].images_per_second]).all()
    assert results.choose_baseline(list(found.values()), "").group.name == "b"
    assert "no finished runs of a common seed" in results.compare(found["b"], found["a"]).verdict()
    assert tables.results_table(list(found.values())).rows[0][4:8] == [tables.NONE] * 4


def test_the_table_shows_published_figures_and_says_what_they_are(tmp_path):
    write(tmp_path / "full_split", [0.9] * 60, config=AS_REPORTED | SPLIT)
    write(tmp_path / "other", [0.9], config=AS_REPORTED | SPLIT | {"num_epochs": 1})
    found = list(summarised(tmp_path).values())
    assert [row[8:10] for row in tables.results_table(found).rows] == [["0.9594", "0.9586 (8)"], [tables.NONE] * 2]
    assert any("those of the project report" in text for text in tables.results_paragraphs(found))
    assert not any("report" in text for text in tables.results_paragraphs(found[1:]))


def test_predictions_of_other_passes_or_checkpoints_are_said(tmp_path):
    asked = {"a": (1, 1, "1"), "b": (3, 1, "1"), "c": (1, 2, "last"), "d": (1, 2, "2")}
    for number, (name, (passes, step, which)) in enumerate(asked.items()):
        evaluation = {"passes": passes, "checkpoint_step": step, "checkpoint_asked_for": which}
        config = SPLIT | {"model.dropout": number}
        images = IMAGES if name == "a" else [(i, t, better(t, p)) for i, t, p in IMAGES]
        write(tmp_path / name, [0.6, 0.7], config=config, predictions=images, evaluation=evaluation)
    write(tmp_path / "d" / "more", [0.6, 0.7], config=config, seed=1, predictions=IMAGES)
    columns, unknown = ("epoch", "val_roc_auc"), {"checkpoint_step": 1}
    write(tmp_path / "e", [0.6, 0.7], columns=columns, predictions=IMAGES, evaluation=unknown)
    found = summarised(tmp_path)
    table = tables.quality_table(list(found.values()))
    cells = {row[0]: tuple(row[3:5]) for row in table.rows}
    assert cells.pop("d") == ("?, last", "1, ?") and cells.pop("e") == ("?", "?")
    assert cells == {"a": ("epoch 1, step 1", "1"), "b": ("epoch 1, step 1", "3"), "c": ("last", "1")}
    for other, alike in (("b", False), ("c", False), ("a", True)):
        got = results.compare(found[other], found["a"])
        assert (
            got.evaluated_alike == alike and got.verdict().endswith("with other checkpoints, passes or views") != alike
        )


def test_predictions_of_other_views_are_said(tmp_path):
    for number, views in enumerate((1, 4)):
        evaluation = {"passes": 3, "views": views, "checkpoint_step": 2, "checkpoint_asked_for": "last"}
        config = SPLIT | {"model.dropout": number}
        write(tmp_path / str(views), [0.6, 0.7], config=config, predictions=IMAGES, evaluation=evaluation)
    found = summarised(tmp_path)
    assert {row[0]: row[4] for row in tables.quality_table(list(found.values())).rows} == {"1": "3", "4": "3 x 4 views"}
    assert not results.compare(found["4"], found["1"]).evaluated_alike


def test_images_of_a_group_are_one_draw_where_groups_are_known(tmp_path):
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 5)
    label, own = patient % 2, random.normal(size=(2, 20))[:, patient]
    scores = {"a": label + own[0], "base": own[1]}
    for name, score in scores.items():
        odds = scipy.special.expit(score)
        lines = list(zip((f"i{k:03d}" for k in range(100)), label, odds, patient))
        write(tmp_path / "known" / name, [0.9], config=THUMBNAIL if name == "base" else SPLIT, predictions=lines)
        lines = [line[:3] for line in lines]
        write(tmp_path / "unknown" / name, [0.9], config=THUMBNAIL if name == "base" else SPLIT, predictions=lines)
    known, unknown = (
        results.compare(*(summarised(tmp_path / there)[name] for name in ("a", "base")))
        for there in ("known", "unknown")
    )
    odds = [scipy.special.expit(score) for score in scores.values()]
    assert known.groups == metrics.delong_difference(label, *odds, groups=[str(number) for number in patient])
    assert known.images == unknown.images and unknown.groups is None
    assert known.groups.p > 0.05 > known.images.p  # the words follow the groups
    assert "on the predicted images no significant difference" in known.verdict() and "better" in unknown.verdict()
    table = tables.comparison_table([known])
    assert "95 % interval by group" in table.columns and tables.ABOUT_GROUPS in tables.comparison_paragraphs([known])
    assert "95 % interval by group" not in tables.comparison_table([unknown]).columns
    (row,) = (row for row in tables.csv_rows([known.result], [known]))
    assert row["groups_difference_low"] == known.groups.low


def test_the_interval_over_seeds_and_images_is_that_of_a_plain_bootstrap(tmp_path):
    random = np.random.default_rng(0)
    patient, seeds = np.repeat(np.arange(20), 3), 4
    label = patient % 2
    noise = random.normal(size=(2, seeds, 60)) + 2 * random.normal(size=(2, 1, 20))[..., patient]  # a patient's own
    gain = random.normal(0.5, 2.0, size=(seeds, 1))  # of a seed
    scores = scipy.special.expit(noise + label * np.stack([0.5 + gain, 0 * gain]))
    for name, config, side in (("a", SPLIT, scores[0]), ("base", THUMBNAIL, scores[1])):
        for seed, odds in enumerate(side):
            lines = list(zip((f"i{k:02d}" for k in range(60)), label, odds, patient))
            write(tmp_path / name / f"seed_{seed}", [0.9], config=config, seed=seed, predictions=lines)
    found = results.compare(*(summarised(tmp_path)[name] for name in ("a", "base")))
    draws = []
    for _ in range(2000):
        images = np.concatenate([np.flatnonzero(patient == k) for k in random.integers(20, size=20)])
        drawn = random.integers(seeds, size=seeds)
        areas = [[sklearn.metrics.roc_auc_score(label[images], side[k, images]) for k in drawn] for side in scores]
        draws.append(np.mean(areas[0]) - np.mean(areas[1]))
    plain = np.quantile(draws - np.mean(draws) + found.images.value, [0.025, 0.975])
    np.testing.assert_allclose(found.both[1:3], plain, atol=0.03)  # of 2,000 draws
    table = tables.comparison_table([found])
    assert "p (both), corrected" in table.columns and tables.ABOUT_BOTH in tables.comparison_paragraphs([found])


def test_one_seed_has_no_interval_over_seeds_and_images(tmp_path):
    for name, config in (("a", SPLIT), ("base", THUMBNAIL)):
        write(tmp_path / name, [0.9], config=config, predictions=IMAGES)
    found = results.compare(*(summarised(tmp_path)[name] for name in ("a", "base")))
    assert np.isnan(found.both.p) and found.image_pairs == 1
    assert not any("seeds and images" in column for column in tables.comparison_table([found]).columns)


def test_p_values_are_corrected_for_their_number():
    # In order 0.01 x 3, 0.03 x 2, 0.04 x 1, none less than the one before.
    assert results.holm([0.04, float("nan"), 0.01, 0.03])[::2] == pytest.approx([0.06, 0.03])
    assert results.holm([0.04, float("nan"), 0.01, 0.03])[3] == pytest.approx(0.06)
    assert results.holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_has_no_common_ground_is_not_compared(tmp_path):
    write(tmp_path / "a", [0.6], config=THUMBNAIL, predictions=IMAGES)
    write(tmp_path / "b", [0.7], config=SPLIT, validation=8, predictions=IMAGES)
    write(tmp_path / "c", [0.7], config=SPLIT, seed=4)
    write(tmp_path / "d", [0.7], config=SPLIT | {"num_epochs": 1, "augment.flip": False}, predictions=IMAGES[:-1])
    found = summarised(tmp_path)
    for other in "bc":
        got = results.compare(found[other], found["a"])
        assert got.pairs == 0 and "not compared" in got.verdict()
    got = results.compare(found["d"], found["a"])
    assert (got.pairs, got.image_pairs) == (1, 0)


def test_equal_runs_get_no_interval_and_are_told_why(tmp_path):
    for seed in (0, 1, 2):
        write(tmp_path / "a" / f"seed_{seed}", [0.6, 1.0], config=THUMBNAIL, seed=seed)
    found = list(summarised(tmp_path).values())
    assert tables.results_table(found).rows[0][4] == "1.0000"
    assert any("The same figure in every run, so no interval" in text for text in tables.results_paragraphs(found))


def test_one_seed_gets_no_interval_and_is_told_why(tmp_path):
    write(tmp_path / "a", [0.6, 0.65], config=THUMBNAIL)
    write(tmp_path / "b", [0.7, 0.75], config=SPLIT)
    found = list(summarised(tmp_path).values())
    assert np.isnan(found[0].last[1:3]).all()
    table = tables.results_table(found)
    assert table.rows[0][4] == "0.6500" and table.bold == {(1, 4), (1, 5), (1, 6), (1, 7)}
    assert any("One run only, so no interval" in text and "a, b" in text for text in tables.results_paragraphs(found))
    got = results.compare(found[1], found[0])
    assert "results of other seeds are not known" in got.verdict()
    assert tables.comparison_table([got]).rows[0][:5] == ["b", "1", "+0.1000", "–", "–"]


def test_the_baseline_is_what_the_runs_say_or_the_smallest_thumbnail_only_model(tmp_path):
    about = {"a_large": 8, "b_small": 5, "c_split": 3, "d_split": 2}
    for name, size in about.items():
        write(tmp_path / name, [0.6], config=(THUMBNAIL if size > 3 else SPLIT) | {"model.dropout": size})
        file = tmp_path / name / "config.json"
        file.write_text(file.read_text().replace("4000000", f"{size}000000"))
    found = list(summarised(tmp_path).values())
    assert results.choose_baseline(found, "").group.name == "b_small"
    for name in about:
        file = tmp_path / name / "config.json"
        file.write_text(file.read_text().replace('"seed"', '"report": {"baseline": "c_split"}, "seed"'))
    found = list(summarised(tmp_path).values())
    assert results.choose_baseline(found, "").group.name == "c_split"
    assert results.choose_baseline(found, "a_large").group.name == "a_large"
    assert results.choose_baseline([r for r in found if "split" not in r.group.name], "").group.name == "b_small"


def test_the_baseline_is_the_first_thumbnail_only_model_or_the_one_named(tmp_path):
    for name, config in (("a", SPLIT), ("b", THUMBNAIL), ("c", THUMBNAIL | {"model.variant": "b4"})):
        write(tmp_path / name, [0.6], config=config)
    found = list(summarised(tmp_path).values())
    assert results.choose_baseline(found, "").group.name == "b"
    assert results.choose_baseline(found[:1], "").group.name == "a"
    assert results.choose_baseline(found, "c").group.name == "c"
    with pytest.raises(ValueError, match=r"`baseline`='x': no such model; there are a, b, c"):
        results.choose_baseline(found, "x")
