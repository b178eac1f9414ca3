"""Every config key has a rule, and a value that the rule refuses is an error that names the key."""

import importlib
import math
from typing import get_args

import pytest

from configs import default, quickstart
from stochconv_jax import config, config_conflicts, config_rules, run_folder
from stochconv_jax.data import orders, pipeline
from stochconv_jax.data.isic import image_encoding, shard_plan
from stochconv_jax.experiment import experiment
from stochconv_jax.models import classifier, efficientnet, variants
from stochconv_jax.ops import windows
from stochconv_jax.planning import targets
from stochconv_jax.training import optimizers, trackers
from stochconv_jax.visualization import attribution, topics
from tests.config_checks import DEFAULTS, FREE_TEXT, check, refused
from tests.conftest import ROOT

EXPERIMENTS = sorted(file.stem for file in (ROOT / "configs").glob("*.py") if file.stem != "__init__")


def test_every_key_has_a_rule_and_every_rule_a_key():
    """A new key without a line in RULES fails here: say what it may be, or that it is free text."""
    assert config_rules.RULES.keys() == DEFAULTS.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_rule_leaves_what_the_experiments_set_as_it_is(name):
    values = config.flatten(importlib.import_module(f"configs.{name}").get_config().to_dict())
    checked = config_rules.check(values)
    assert checked == values and all(type(checked[key]) is type(value) for key, value in values.items())
    config_conflicts.check_together(checked)


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_rule_refuses_values_of_another_type(key):
    for wrong in (object(), {"a": 1}, math.nan, [None], b"", 1j, *([] if DEFAULTS[key] is None else [None])):
        refused(key, wrong)
    wrong = "no such word" if not isinstance(DEFAULTS[key], str) and key not in FREE_TEXT else True
    refused(key, wrong)


@pytest.mark.parametrize("key", sorted(DEFAULTS.keys() - FREE_TEXT))
def test_only_free_text_takes_any_text(key):
    if key not in ("export.output", "predict.output", "show.output", "data.target_column"):  # any text but ''
        refused(key, "no such word")
    if key not in (
        *("loss.class_weights", "data.classes", "optimizer.freeze", "optimizer.factors", "data.metadata_columns"),
        *("log.trackers", "sweep.variants"),
    ):
        refused(key, ())


@pytest.mark.parametrize("key", [key for key, value in DEFAULTS.items() if isinstance(value, int | float)])
def test_numbers_have_a_range(key):
    """Refuses -2 for every key, and infinity for all keys but durations."""
    if isinstance(DEFAULTS[key], bool):
        refused(key, 1)
        return
    refused(key, -2)
    refused(key, True)
    if not key.endswith("_seconds") or isinstance(DEFAULTS[key], int):
        refused(key, math.inf)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("loss.label_smoothing", 3, "expected a share, 0 or more and less than 1"),
        ("num_epochs", -1, "expected a whole number, 1 or more"),
        ("num_epochs", 2.5, "expected a whole number, 1 or more"),
        ("optimizer.ema_decay", 1.5, "expected a share, 0 or more and less than 1, or None"),
        ("optimizer.clip_norm", 0, "expected a number above 0, or None"),
        ("optimizer.accumulate_steps", 0, "1 or more"),
        ("model.dropout", 1.0, "less than 1"),
        ("checkpoint.every_steps", -3, "0 or more"),
        ("checkpoint.grace_seconds", 0.0, "expected seconds, more than 0"),
        ("data.timeout_seconds", math.nan, "expected seconds, more than 0"),
        ("seed", -1, "0 or more"),
        ("seed", 2**63, "0 or more"),
        ("eval.batch_size", 0, "1 or more"),
        ("eval.checkpoint", "newest", "expected 'best', 'last' or the number"),
        ("optimizer.name", "adam", 'choose one of rmsprop, adamw, sgd, lion, adafactor, muon. Did you mean "adamw"?'),
        ("model.variant", "b0_wide", 'Did you mean "b0_wide_stem"?'),
        ("model.branches", (), "expected one or more of thumbnail, windows, each once"),
        ("model.branches", ("windows", "windows"), "each once"),
        ("model.branches", "windos", 'Did you mean "windows"?'),
        ("model.branches", ("thumbnail", "windos"), 'Did you mean "windows"?'),
        ("checkpoint.best_metric", "epoch", "choose one of train_loss"),
        ("data.image_size", (), "expected height and width in pixels"),
        ("data.image_size", (64, 64, 3), "expected height and width in pixels"),
        ("data.image_size", (64, 0), "expected height and width in pixels"),
        ("data.image_size", "64x", "expected height and width in pixels"),
        ("data.image_size", "1x2x3", "expected height and width in pixels"),
        ("data.thumbnail_size", (64.5, 64), "512 is (512, 512)"),
        ("data.fold", "6/5", "'2/5', or ''"),
        ("data.fold", "1/1", "2 at least"),
        ("sweep.shard", "0/3", "expected a part and the number of parts"),
        ("sweep.shard", "-1/2", "expected a part and the number of parts"),
        ("sweep.seeds", (1, 1), "expected different whole numbers"),
        ("sweep.seeds", (0, -1), "expected different whole numbers"),
        ("augment.area", (0.9, 0.6), "0 < from <= to <= 1"),
        ("augment.area", (0.0, 1.0), "0 < from <= to <= 1"),
        ("augment.area", (0.5, math.nan), "0 < from <= to <= 1"),
        ("augment.area", (0.6, 1.1), "0 < from <= to <= 1"),
        ("augment.aspect", (1.2, 1.5), "0 < from <= 1 <= to"),
        ("augment.aspect", (0.5, 0.9), "0 < from <= 1 <= to"),
        ("augment.mixup", -1, "0 or more"),
        ("augment.cutout", 1.0, "less than 1"),
        ("loss.class_weights", (1.0, -1.0), "0 or more and not all 0"),
        ("loss.class_weights", (0, 0), "0 or more and not all 0"),
        ("loss.class_weights", (1.0, math.nan), "0 or more and not all 0"),
        ("loss.class_weights", "balance", "0 or more and not all 0, or (), or 'balanced'. Did you mean \"balanced\"?"),
        ("loss.focal_gamma", -1.0, "0 or more"),
        ("data.metadata_columns", ("age", "Age "), "expected different names of columns, or ()"),
        ("log.trackers", ("tensorbord",), 'each once, or (). Did you mean "tensorboard"?'),
        ("plan.topology", "v5e:2", "KIND:HOSTSxGPUS"),
        ("prepare.rule", "MEL=1,NV=3", "without a gap"),
        ("show.topics", "lesions", "expected one or more of augmentation"),
        ("distributed.coordinator", "host", "'' or host:port"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(key, value, words):
    assert words in refused(key, value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (512, (512, 512)), ((512,), (512, 512)), ("512", (512, 512)), (512.0, (512, 512)),
        ("512x768", (512, 768)), (("512x768",), (512, 768)), ([512, 768], (512, 768)), ((512, 768), (512, 768)),
    ],
)  # fmt: skip
def test_a_size_is_height_and_width(value, size):
    for key in ("data.image_size", "data.thumbnail_size"):
        assert config_rules.check(DEFAULTS | {key: value})[key] == size


def test_other_spellings_of_a_value():
    checked = check(
        model__branches="windows", model__merge_after=3, eval__checkpoint=120, sweep__seeds=7, num_epochs=1e1,
        optimizer__clip_norm="None", loss__class_weights=[1, 3], data__path=ROOT,
    )  # fmt: skip
    assert (checked["model.branches"], checked["model.merge_after"]) == (("windows",), "3")
    assert (checked["eval.checkpoint"], checked["sweep.seeds"], checked["num_epochs"]) == ("120", (7,), 10)
    assert (checked["optimizer.clip_norm"], checked["loss.class_weights"]) == (None, (1.0, 3.0))
    assert check(loss__class_weights=("balanced",))["loss.class_weights"] == "balanced"  # as the command line has it
    assert checked["data.path"] == str(ROOT) and type(checked["num_epochs"]) is int


def test_words_are_those_that_the_modules_know():
    known = {
        "model.branches": classifier.BRANCHES,
        "model.sampling": get_args(windows.Sampling),
        "model.axes": get_args(windows.Axes),
        "model.conventions": efficientnet.CONVENTIONS,
        "model.dtype": (experiment.AUTO, *experiment.DTYPES),
        "data.order": orders.ORDERS,
        "data.on_bad_image": pipeline.ON_BAD_IMAGE,
        "optimizer.name": optimizers.OPTIMIZERS,
        "optimizer.schedule": optimizers.SCHEDULES,
        "log.trackers": trackers.TRACKERS,
        "prepare.crop": image_encoding.CROPS,
        "prepare.formats": shard_plan.FORMATS,
        "show.topics": topics.TOPICS,
    }
    assert {key: tuple(config_rules.RULES[key].choices) for key in known} == {k: tuple(v) for k, v in known.items()}
    assert set(config_rules.RULES["checkpoint.best_metric"].choices) < set(run_folder.METRICS)
    stages = max(len(variant.stages) for variant in variants.VARIANTS.values())
    assert list(config_rules.RULES["model.merge_after"].choices) == [*map(str, range(stages + 1)), classifier.HEAD]
    for kind in targets.CHIPS:
        check(plan__topology=f"{kind}:2x2")
    check(show__passes=attribution.LEAST_PASSES)
    refused("show.passes", attribution.LEAST_PASSES - 1)


FREE = {"optimizer.schedule_free": 0.9, "optimizer.schedule": "constant", "model.batch_norm_images": 400}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"loss.class_weights": (1.0, 2.0, 3.0)}, r"config.loss.class_weights=.*: expected 2 weights, one per class"),
        ({"model.variant": "tiny", "model.merge_after": "5"}, "config.model.merge_after='5': tiny has stages 0..4"),
        ({"model.filters_per_window": 3}, "config.model.filters_per_window=3: expected a divisor of 32, .* of b0"),
        (
            FREE | {"optimizer.name": "muon"},
            "config.optimizer.name='muon': .*schedule_free needs",
        ),
        (FREE | {"optimizer.schedule": "cosine"}, "config.optimizer.schedule='cosine': .*schedule_free needs"),
        (FREE | {"optimizer.momentum": 0.9}, "config.optimizer.momentum=0.9: .*schedule_free needs"),
        (FREE | {"optimizer.ema_decay": 0.9}, "config.optimizer.ema_decay=0.9: .*schedule_free needs"),
        (FREE | {"model.batch_norm_images": 0}, "config.model.batch_norm_images=0: .*schedule_free needs"),
        ({"model.filters_per_window": 32, "model.window_stem_filters": 48}, "expected a divisor of 48"),
        ({"model.normalization": "group", "model.window_stem_filters": 12}, "group norm needs a multiple of 8"),
        ({"model.normalization": "group", "init.weights": "auto"}, "config.init.weights needs batch norm"),
        (
            {"model.normalization": "group", "model.batch_norm_images": 200},
            "config.model.batch_norm_images needs batch",
        ),
        ({"model.batch_norm_images": 99}, "config.model.batch_norm_images=99: expected a batch of 100 at least, or 0"),
        ({"model.batch_norm_images": 200, "model.conventions": "as_published"}, "whose blocks share batch norms"),
        ({"data.image_size": (224, 300)}, r"config.data.image_size=.*: smaller than a window of 225x225"),
        (
            {"init.weights": "w.h5", "model.conventions": "as_published"},
            "set config.model.conventions to official or torch",
        ),
        (
            {"checkpoint.patience": 2, "checkpoint.best_metric": "seconds"},
            "unlike config.checkpoint.best_metric='seconds'",
        ),
        ({"data.source": "tfds", "data.labels": "l.csv"}, "config.data.labels must be ''"),
    ],
)
def test_values_that_do_not_fit_each_other(keys, words):
    config_conflicts.check_together(check(data__image_size=(225, 225)))
    with pytest.raises(config_rules.BadValue, match=words):
        config_conflicts.check_together(DEFAULTS | keys)


@pytest.mark.parametrize(
    "message, expected",
    [
        ("`fold`='7/5': no such fold", "config.data.fold='7/5': no such fold"),
        ("no room: lower `num_workers`, or `seed`", "no room: lower config.prepare.num_workers, or config.data.seed"),
        ("`variant`='b9' is unknown", "config.model.variant='b9' is unknown"),  # the only key of this name
        ("no column `target`, nor `output`", "no column `target`, nor `output`"),  # no key, and a key of other sections
    ],
)
def test_an_argument_in_a_message_becomes_its_config_key(message, expected):
    assert config.name_keys(message, ["prepare", "data"]) == expected


def test_a_config_file_may_set_what_the_command_line_may():
    settings = quickstart.get_config()
    settings.data.image_size, settings.model.merge_after = 512, 2
    checked = config.checked(settings.to_dict())
    assert checked.data.image_size == (512, 512) and checked.model.merge_after == "2" and checked.is_locked
    settings.num_epochs = "many"
    with pytest.raises(config_rules.BadValue, match=r"^config.num_epochs='many': expected a whole number, 1 or more$"):
        config.checked(settings.to_dict())


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(config_rules.BadValue, match="unknown config key 7"):
        config_rules.check(DEFAULTS | {7: ""})
    with pytest.raises(config_rules.BadValue, match=r'own.py: unknown config key data.pth. Did you mean "data.path"'):
        config_rules.check(DEFAULTS | {"data.pth": ""}, "own.py")
    with pytest.raises(config_rules.BadValue, match=r"config.seed is missing"):
        config_rules.check({key: value for key, value in DEFAULTS.items() if key != "seed"})
    settings = quickstart.get_config()
    settings.data = 3
    with pytest.raises(config_rules.BadValue, match="unknown config key data"):
        config.checked(settings.to_dict())


def test_a_saved_config_is_checked_too():
    saved = default.get_config().to_dict()
    assert config.complete(saved, "run").to_dict() == saved
    saved["loss"]["label_smoothing"] = -1.0
    with pytest.raises(ValueError, match=r"^run: config.loss.label_smoothing=-1.0: expected a share"):
        config.complete(saved, "run")


def test_of_a_saved_config_a_key_that_says_nothing_of_training_may_be_mended(caplog):
    saved = default.get_config().to_dict()
    saved["show"]["passes"] = 1
    assert config.complete(saved, "run").show.passes == default.get_config().show.passes
    assert "run: config.show.passes=1: expected a whole number, 8 or more; its default, 256, is used" in caplog.text
