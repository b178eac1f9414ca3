"""The runs of every ablation keep their names, differ from each other, and describe networks that can be built."""

import importlib
import json
import pathlib

import pytest

from configs import ablations
from stochconv_jax.experiment import sweep_runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import summary
from tests.conftest import ROOT

# A sweep goes on in folders of these names, perhaps years later.
SAMPLING = {f"{who}_{axes}" for who in ("per_image", "per_batch", "shared") for axes in ("independent", "diagonal")}
TWO = {"thumbnail_only", "full_split"}
NORMALIZATION = {"running", "average", "anew", "average_anew", "group"}
REAL = {
    *("thumbnail", "thumbnail_equal_cost", "thumbnail_large", "whole_image", "windows_only", "per_image", "per_batch"),
    *("shared_crop", "after_0", "after_3"),
}
NAMES = {
    "integration": {
        *("thumbnail_only", "wide_stem", "stochastic_stem", "stochastic_skip", "full_split", "windows_only"),
        *("b4", "b4_stochastic_stem"),
    },
    "merge_point": {*(f"after_{stage}" for stage in range(8)), "head"},
    "sampling": SAMPLING,
    "filters_per_window": {"1", "2", "4", "8", "16", "32"},
    "passes": {"stochastic_stem", "stochastic_skip", "full_split", "windows_only"},
    "resolution": {"512x512", "768x768", "1024x1024", "1536x1536", "2048x2048"},
    "as_published": {f"{name}{end}" for name in ("b0", "b4", "full_split") for end in ("", "_as_published")},
    "seeds": TWO,
    "real": REAL | {"filters_8", "windows_64"},
    "quick_integration": {"thumbnail_only", "stochastic_stem", "stochastic_skip", "full_split", "windows_only"},
    "quick_merge_point": {*(f"after_{stage}" for stage in range(5)), "head"},
    "quick_sampling": SAMPLING,
    "quick_filters_per_window": {"1", "2", "4", "8"},
    "quick_passes": {"stochastic_stem", "full_split", "windows_only"},
    "quick_resolution": {"320x320", "448x448", "640x640"},
    "quick_as_published": {f"{name}{end}" for name in TWO for end in ("", "_as_published")},
    "quick_seeds": TWO,
    "normalization": NORMALIZATION,
    "quick_normalization": NORMALIZATION,
    "quick_real": REAL | {"filters_2", "windows_16"},
}


def module(name):
    return importlib.import_module(f"configs.ablations.{name}")


def test_every_question_has_a_quick_form():
    questions = {name for name in NAMES if not name.startswith("quick_")}
    assert {f"quick_{name}" for name in questions} == NAMES.keys() - questions


def planned(name):
    """All variants, each with every seed, without folds."""
    file = ROOT / "configs" / "ablations" / f"{name}.py"
    config = module(name).get_config()
    config.sweep.update({"variants": (), "folds": 0})
    return sweep_runs.plan(config, {}, str(file), pathlib.Path("runs"))


def test_every_file_is_tested():
    files = (ROOT / "configs" / "ablations").glob("*.py")
    assert {file.stem for file in files} == {*NAMES, "__init__"}


@pytest.mark.parametrize("name", NAMES)
def test_names_last_and_every_key_exists(name):
    runs, seeds = planned(name), module(name).get_config().sweep.seeds
    assert [run.name for run in runs] == list(dict.fromkeys(run.name for run in runs))
    assert {run.name for run in runs} == {f"{variant}/seed_{seed}" for variant in NAMES[name] for seed in seeds}
    assert len(seeds) >= 3, "fewer give no interval worth the name"
    assert {run.config.seed for run in runs} == set(seeds)
    assert {run.config.report.baseline for run in runs} < NAMES[name] and runs[0].config.report.baseline
    # One data set for all, or they could not be compared; all sizes of one are made of the same images.
    assert len({run.config.data.seed for run in runs}) == 1


@pytest.mark.slow
def test_every_network_can_be_built():
    distinct = {}
    for name in NAMES:
        for run in planned(name):
            sizes = [run.config.data.image_size, run.config.data.thumbnail_size]
            distinct[json.dumps([run.config.model.to_dict(), sizes], sort_keys=True)] = run
    assert len(distinct) > 30
    for run in distinct.values():
        params = Experiment(run.config).variable_shapes["params"]
        assert ("windows_stem" in params) == ("windows" in run.config.model.branches), run.name


@pytest.mark.parametrize(
    ("name", "sizes", "sides"),
    [("real", "2048,224", (224, 320, 512, 2048)), ("quick_real", "640,112", (112, 160, 256, 640))],
)
def test_rivals_of_thumbnails_grow_with_them_and_cost_as_much_as_two_branches(name, sizes, sides):
    file = ROOT / "configs" / "ablations" / f"{name}.py"
    runs = sweep_runs.plan(module(name).get_config(sizes), {}, f"{file}:{sizes}", pathlib.Path("runs"))
    configs = {run.name.partition("/")[0]: run.config for run in runs}
    assert configs.keys() == NAMES[name] - {"whole_image"}  # the costliest is made on request
    changes = module(name).sweep(sizes)
    alone = ("thumbnail", "thumbnail_equal_cost", "thumbnail_large", "whole_image")
    assert tuple(changes[rival]["data.thumbnail_size"] for rival in alone) == tuple((side, side) for side in sides)
    macs = {}
    for rival in ("thumbnail_equal_cost", "per_image"):
        made = Experiment(configs[rival])
        macs[rival] = summary.totals(summary.parts(made.model, made.inputs()))["multiply_adds"]
    assert macs["thumbnail_equal_cost"] == pytest.approx(macs["per_image"], rel=0.05)


def test_the_changes_of_a_config_make_it_of_another():
    models = module("integration").MODELS
    for model in models.values():
        made = module("integration").get_config()
        made.update_from_flattened_dict(ablations.changes(model.get_config(), made))
        assert made.report.baseline == "thumbnail_only"  # of the sweep, as its seeds are
        assert made.to_dict() == ablations.compared_with("thumbnail_only", model.get_config()).to_dict()
