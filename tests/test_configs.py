"""Every config describes a network that can be built and has the size that README.md or docs/models.md states."""

import importlib

import pytest

from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import summary
from tests.conftest import ROOT

PARAMETERS = {
    "b0": 4_008_829,
    "b0_wide_stem": 4_012_197,
    "b4": 17_550_409,
    "b0_stochastic_stem": 4_012_197,
    "b4_stochastic_stem": 17_556_997,
    "b0_stochastic_skip": 4_140_329,
    "b0_full_split": 8_017_657,
    "b0_pure_stochastic": 4_008_829,
    "as_published_b0": 2_515_745,
    "as_published_b0_full_split": 5_031_457,
    "as_published_b4": 7_988_873,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_of_the_report_has_its_size(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    experiment = Experiment(config)
    rows = summary.parts(experiment.model, experiment.inputs())
    assert summary.totals(rows)["parameters"] == PARAMETERS[name]
    count = f"{PARAMETERS[name]:,}"
    tables = [line for page in ("README.md", "docs/models.md") for line in (ROOT / page).read_text().splitlines()]
    assert any(f"`{name}.py`" in line and count in line for line in tables)


@pytest.mark.parametrize("name", ["b1", "b7"])
def test_a_plain_variant_has_its_own_resolution_and_dropout(name):
    config = importlib.import_module("configs.efficientnet").get_config(name)
    network = Experiment(config).model.variant
    assert tuple(config.data.thumbnail_size) == (network.resolution, network.resolution)
    assert config.model.dropout == network.dropout
