"""The charts of the report draw numbers worked out by hand."""

import numpy as np
import pytest
import sklearn.metrics

from stochconv_jax.reporting import charts, collect, results
from tests.reporting.folders import SPLIT, THUMBNAIL, write

DRAW = {name: function for name, _, function in charts.FIGURES}


def drawn(root, name):
    """Returns the axes of a chart of the runs below `root`."""
    found = [results.summarise(group) for group in collect.collect(root)[0]]
    return DRAW[name](found).axes


def band(axes):
    """Returns {x: (lowest, highest value)} of the first band."""
    vertices = axes.collections[0].get_paths()[0].vertices
    return {x: (min(y), max(y)) for x in np.unique(vertices[:, 0]) for y in [vertices[vertices[:, 0] == x, 1]]}


def test_curves_are_means_with_bands_over_all_runs_and_name_their_axes(tmp_path):
    write(tmp_path / "b0" / "seed_0", [0.6, 0.7, 0.8], config=THUMBNAIL)
    write(tmp_path / "b0" / "seed_1", [0.7, "nan", 0.9], config=THUMBNAIL, seed=1)
    write(tmp_path / "b0" / "seed_2", [0.8], config=THUMBNAIL | {"num_epochs": 3}, seed=2)  # unfinished
    above, below = drawn(tmp_path, "curves")
    np.testing.assert_allclose(above.lines[0].get_xydata(), [(1, 0.7), (2, 0.7), (3, 0.85)])
    assert band(above) == {1: (0.6, 0.8), 2: (0.7, 0.7), 3: (0.8, 0.9)}
    np.testing.assert_allclose(below.lines[0].get_ydata(), 0.5)
    assert [axes.get_ylabel() for axes in (above, below)] == ["validation ROC AUC", "training ROC AUC"]


def test_passes_begin_at_one_and_are_those_of_finished_runs(tmp_path):
    for seed, areas in enumerate(([0.7, 0.75, 0.8], [0.8, 0.85, 0.9])):
        evaluation = {"roc_auc_by_passes": areas}
        write(tmp_path / "b0" / f"seed_{seed}", [0.7] * 3, config=SPLIT, seed=seed, evaluation=evaluation)
    unfinished = {"config": SPLIT | {"num_epochs": 3}, "seed": 2, "evaluation": {"roc_auc_by_passes": [0.1, 0.1, 0.1]}}
    write(tmp_path / "b0" / "seed_2", [0.7, 0.7], **unfinished)
    (axes,) = drawn(tmp_path, "passes")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(1, 0.75), (2, 0.8), (3, 0.85)])
    assert band(axes)[2] == (0.75, 0.85) and axes.get_ylabel() == "validation ROC AUC"


def test_calibration_is_the_share_of_class_1_by_prediction_pooled_over_seeds(tmp_path):
    for seed in (0, 1):
        few = [(f"a{k}", int(k < 1 + seed), 0.15) for k in range(5)]  # 1 and 2 of 5
        many = [(f"b{k}", int(k < 4), 0.85) for k in range(5)]
        write(tmp_path / "b0" / f"seed_{seed}", [0.7], config=SPLIT, seed=seed, predictions=few + many)
    (axes,) = drawn(tmp_path, "calibration")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(0.15, 0.3), (0.85, 0.8)])
    assert axes.get_xlabel() == "predicted probability of class 1"


def test_roc_curves_are_scikit_learns(tmp_path):
    random = np.random.default_rng(0)
    label, probability = np.arange(40) % 2, random.random(40)
    predictions = [(f"i{k:02d}", t, p) for k, (t, p) in enumerate(zip(label, probability))]
    write(tmp_path / "b0", [0.7], config=SPLIT, predictions=predictions)
    (axes,) = drawn(tmp_path, "roc")
    x, y = axes.lines[0].get_data()
    false, true, _ = sklearn.metrics.roc_curve(label, probability, drop_intermediate=False)
    between = np.setdiff1d(np.round(x, 9), np.round(false, 9))  # where it does not jump
    expected = [true[false < place].max() for place in between]
    np.testing.assert_allclose([y[np.argmin(abs(x - place))] for place in between], expected)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("1 - specificity", "sensitivity")


@pytest.mark.parametrize(("name", "cost"), [("parameters", 4.0), ("time", 2.0)])
def test_quality_stands_over_its_cost_with_its_interval(tmp_path, name, cost):
    for seed, last in enumerate((0.70, 0.72, 0.74)):
        write(tmp_path / "b0" / f"seed_{seed}", [0.9, last], config=SPLIT, seed=seed)  # a minute an epoch
    (axes,) = drawn(tmp_path, name)
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [(cost, 0.72)])
    half = 4.302653 * 0.02 / np.sqrt(3)
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], (0.72 - half, 0.72 + half), rtol=1e-6)


def test_long_names_keep_both_ends(tmp_path):
    names = [f"a_project/an_experiment_of_many_words/another_folder/model_number_{number}" for number in (1, 2)]
    for number, name in enumerate(names):
        write(tmp_path / name, [0.7], config=SPLIT | {"model.dropout": number})
    labels = drawn(tmp_path, "curves")[0].get_legend_handles_labels()[1]
    assert len(set(labels)) == 2 and max(map(len, labels)) <= 46
    assert all(label.endswith(name[-15:]) and name[:15] in label for label, name in zip(labels, names))
