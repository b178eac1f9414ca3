"""Published figures stand beside the models that the project report trained, and beside no others."""

import importlib
import json

import pytest

from stochconv_jax.config import flatten
from stochconv_jax.reporting import published
from tests.reporting.folders import AS_REPORTED, SPLIT, THUMBNAIL, summarised, write


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        (THUMBNAIL, 0.9584),
        (THUMBNAIL | {"model.sampling": "shared", "eval.passes": 3}, 0.9584),  # of windows that it has not
        (THUMBNAIL | {"model.variant": "b4", "data.thumbnail_size": [380, 380]}, 0.9588),
        (THUMBNAIL | {"model.variant": "b4"}, None),
        (THUMBNAIL | {"model.variant": "b3"}, None),
        (SPLIT, 0.9594),
        (SPLIT | {"model.branches": ["windows", "thumbnail"], "model.sampling": "per_batch"}, 0.9594),
        (SPLIT | {"model.merge_after": "0"}, 0.9592),
        (SPLIT | {"model.merge_after": "5"}, None),
        (SPLIT | {"model.branches": ["windows"]}, None),
        (SPLIT | {"model.sampling": "shared"}, None),
        (SPLIT | {"model.window_stem_filters": 64}, None),
        (SPLIT | {"model.normalization": "group"}, None),
        (SPLIT | {"eval.passes": 3}, 0.9605),
        (SPLIT | {"eval.passes": 2}, None),
        (SPLIT | {"eval.passes": [3]}, None),
        (SPLIT | {"num_epochs": 30}, None),
        (SPLIT | {"data.image_size": [2048, 2048]}, None),
        (SPLIT | {"data.source": "synthetic"}, None),
        (SPLIT | {"init.weights": "b0.h5"}, None),
        (SPLIT | {"init.run": "runs/b0"}, None),
        (SPLIT | {"init.run": ""}, 0.9594),
        (SPLIT | {"data.metadata_columns": ["age"]}, None),
        (SPLIT | {"data.metadata_columns": []}, 0.9594),
    ],
)
def test_a_published_figure_stands_beside_its_model_alone(settings, best):
    found = published.lookup(AS_REPORTED | settings)
    assert (found and found.best) == best
    assert published.lookup({}) is None


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("b0", 0.9584),
        ("b0_wide_stem", 0.9589),
        ("b4", 0.9588),
        ("b0_stochastic_stem", 0.9592),
        ("b4_stochastic_stem", 0.9554),
        ("b0_stochastic_skip", 0.9571),
        ("b0_full_split", 0.9594),
        ("b0_pure_stochastic", None),
        ("as_published_b0_full_split", 0.9594),
        ("quickstart", None),
    ],
)
def test_the_configs_of_the_report_s_models_have_its_figures(name, best):
    config = importlib.import_module(f"configs.{name}").get_config()
    found = published.lookup(flatten(json.loads(json.dumps(config.to_dict()))))
    assert (found and found.best) == best


def test_a_published_figure_of_all_epochs_does_not_stand_beside_a_run_that_stopped_early(tmp_path):
    config = AS_REPORTED | SPLIT | {"checkpoint.patience": 3, "checkpoint.best_metric": "val_roc_auc"}
    write(tmp_path / "whole", [0.5 + 0.005 * epoch for epoch in range(60)], config=config)
    write(tmp_path / "early", [0.6, 0.9, 0.8, 0.7, 0.6], config=config | {"model.merge_after": "0"})
    found = summarised(tmp_path)
    assert found["whole"].published.best == 0.9594
    assert found["early"].last.count == 1 and found["early"].published is None
