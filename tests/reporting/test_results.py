"""The report's numbers against hand-computed ones."""
import numpy as np
import pytest
import sklearn.metrics

from stochconv_jax.reporting import collect, results, tables
from tests.reporting.folders import SPLIT, THUMBNAIL, write

IMAGES = [(f"i{k}", int(k % 3 == 0), 0.1 + 0.04 * ((9 * k) % 20)) for k in range(20)]


def summarised(root):
    return {group.name: results.summarise(group) for group in collect.collect(root)[0]}


@pytest.fixture
def runs(tmp_path):
    """Three seeds of two models; the differences of their last epochs are 0.09, 0.10 and 0.14."""
    lasts = {"plain": (0.70, 0.72, 0.74), "split": (0.79, 0.82, 0.88)}
    for name, config in (("plain", THUMBNAIL), ("split", SPLIT)):
        for seed, last in enumerate(lasts[name]):
            # In another order for each model: images are matched by name.
            own = IMAGES if name == "plain" else [(i, t, _mixed(t, p)) for i, t, p in IMAGES[::-1]]
            write(tmp_path / name / f"seed_{seed}", [0.6, 0.9, last], config=config, seed=seed, predictions=own)
    return tmp_path


def test_means_and_intervals_are_those_on_paper(runs):
    result = summarised(runs)["plain"]
    # Of 0.70, 0.72, 0.74: mean 0.72, deviation 0.02; t of two degrees of freedom 4.302653.
    half = 4.302653 * 0.02 / np.sqrt(3)
    np.testing.assert_allclose(result.last, (0.72, 0.72 - half, 0.72 + half, 0.74, 3), rtol=1e-6)
    np.testing.assert_allclose(result.maximum, (0.9, 0.9, 0.9, 0.9, 3))
    assert (result.minutes_per_epoch, result.minutes, result.images_per_second) == (1.0, 3.0, 100.0)
    assert (result.parameters, result.multiply_adds) == (4_000_000, 385_000_000)
    assert (result.published.best, result.published.runs) == (0.9584, 14)
    labels, probability = ([row[k] for row in IMAGES] for k in (1, 2))
    np.testing.assert_allclose(result.quality.roc_auc, sklearn.metrics.roc_auc_score(labels, probability))
    np.testing.assert_allclose(result.quality.brier_score, sklearn.metrics.brier_score_loss(labels, probability))


def test_the_first_epochs_compilation_is_not_in_an_epochs_time(tmp_path):
    write(tmp_path / "a", [0.6] * 3, config=THUMBNAIL)
    file = tmp_path / "a" / "metrics.csv"
    file.write_text(file.read_text().replace("60.0", "600.0", 1))
    result = summarised(tmp_path)["a"]
    assert (result.minutes_per_epoch, result.minutes) == (1.0, 12.0)


def test_comparisons_are_paired_by_seed_and_use_the_last_epoch(runs):
    found = summarised(runs)
    got = results.compare(found["split"], found["plain"])
    # 0.09, 0.10, 0.14: mean 0.11, deviation sqrt(0.0007), standard error 0.0152753.
    half = 4.302653 * 0.0152753
    np.testing.assert_allclose(got.seeds[:3], (0.11, 0.11 - half, 0.11 + half), rtol=1e-4)
    np.testing.assert_allclose(got.bootstrap, (0.09, 0.14))
    assert 0.018 < got.seeds.p < 0.019  # t = 7.2012
    areas = [sklearn.metrics.roc_auc_score(*zip(*[(t, f(t, p)) for _, t, p in IMAGES])) for f in (_mixed, _own)]
    np.testing.assert_allclose(got.images.value, areas[0] - areas[1])
    assert (got.pairs, got.image_pairs, got.image_count) == (3, 3, 20)
    assert got.verdict().startswith("better than plain; on the predicted images")
    back = results.compare(found["plain"], found["split"])
    assert back.verdict().startswith("worse than split")


def _mixed(target, probability):
    return 0.1 * target + 0.9 * probability


def _own(target, probability):
    return probability


def test_seeds_that_scatter_cannot_be_told_apart(runs):
    write(runs / "split" / "seed_3", [0.5], config=SPLIT | {"num_epochs": 3}, seed=3)
    write(runs / "plain" / "seed_3", [0.9], config=THUMBNAIL | {"num_epochs": 3}, seed=3)
    found = summarised(runs)
    assert results.compare(found["split"], found["plain"]).verdict().startswith("cannot be told apart from plain by 4")


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


def test_one_seed_gets_no_interval_and_is_told_why(tmp_path):
    write(tmp_path / "a", [0.6, 0.65], config=THUMBNAIL)
    write(tmp_path / "b", [0.7, 0.75], config=SPLIT)
    found = list(summarised(tmp_path).values())
    assert np.isnan(found[0].last[1:3]).all()
    table = tables.results_table(found)
    assert table.rows[0][4] == "0.6500" and table.bold == {(1, 4), (1, 5), (1, 6), (1, 7)}
    assert any("One run only, so no interval" in text and "a, b" in text for text in tables.results_paragraphs(found))
    got = results.compare(found[1], found[0])
    assert "what other seeds would give is not known" in got.verdict()
    assert tables.comparison_table([got]).rows[0][:5] == ["b", "1", "+0.1000", "–", "–"]


def test_the_baseline_is_the_first_thumbnail_only_model_or_the_one_named(tmp_path):
    for name, config in (("a", SPLIT), ("b", THUMBNAIL), ("c", THUMBNAIL | {"model.variant": "b4"})):
        write(tmp_path / name, [0.6], config=config)
    found = list(summarised(tmp_path).values())
    assert results.baseline(found, "").group.name == "b"
    assert results.baseline(found[:1], "").group.name == "a"
    assert results.baseline(found, "c").group.name == "c"
    with pytest.raises(ValueError, match=r"baseline='x': no such model; there are a, b, c"):
        results.baseline(found, "x")
