"""The runs that a sweep plans, and the shares of them: what is refused, and what each share gets."""

import pytest

from configs import quickstart
from stochconv_jax.experiment import runs, sweep_processes, sweep_runs
from stochconv_jax.run_folder import METRICS, RunFolder, locked
from stochconv_jax.runtime.watchdog import STOPPED
from tests.modes.runs import ablation


@pytest.mark.parametrize(
    ("variants", "overrides", "words"),
    [
        ({}, {}, "sweep.. returns no variant"),
        ({"a": {"model.sampeling": "shared"}}, {}, r"\['a'\]: unknown config key .*Did you mean \"model.sampling\""),
        (
            {"a": {"model.merge_after": 5}},
            {},
            r"\['a'\]: config.model.merge_after='5': tiny has stages 0..4, or choose 'head'",
        ),
        ({"a": {"seed": 3}}, {}, "seeds are config.sweep.seeds"),
        ({"../a": {}}, {}, "the name becomes a folder's"),
        ({"a": {"eval.batch_size": 7}, "b": {}}, {}, "the same run twice, as a/seed_0 and as b/seed_0"),
        ({"a": {"model.dropout": 0.1}}, {"model.dropout": 0.2}, "and the command line both set config.model.dropout"),
        ({"a": {}}, {"seed": 3}, "and the command line both set config.seed"),
        ({"a": {"model.dropout": "much"}}, {}, r"\['a'\]: config.model.dropout='much': expected a share"),
    ],
)
def test_a_sweep_whose_runs_cannot_be_told_apart_or_made_is_refused(variants, overrides, words, tmp_path):
    file = ablation(tmp_path, variants).removeprefix("--config=")
    config = quickstart.get_config()
    config.update_from_flattened_dict(overrides)
    with pytest.raises(ValueError, match=words):
        sweep_runs.plan(config, overrides, file, tmp_path)


def test_variants_are_chosen_by_name_and_take_the_argument_of_the_config_file(tmp_path):
    file = tmp_path / "ablation.py"
    file.write_text(
        "def sweep(rates):\n    return {rate: {'model.dropout': float(rate)} for rate in rates.split(',')}\n"
    )
    config = quickstart.get_config()
    config.sweep.seeds = (0,)

    def names(variants):
        config.sweep.variants = variants
        return [run.name for run in sweep_runs.plan(config, {}, f"{file}:0.1,0.2,0.3", tmp_path)]

    assert names(()) == ["0.1/seed_0", "0.2/seed_0", "0.3/seed_0"]
    assert names(("0.3", "0.1")) == ["0.1/seed_0", "0.3/seed_0"]  # in the order of the file
    with pytest.raises(ValueError, match=r"config\.sweep\.variants=.*has no variant '0\.4', only 0\.1, 0\.2, 0\.3"):
        names(("0.1", "0.4"))


@pytest.mark.parametrize("count", range(1, 9))
def test_shares_are_a_partition_and_each_has_a_fair_part_of_every_variant(count, tmp_path):
    file = ablation(tmp_path, {name: {"model.merge_after": k} for k, name in zip("0123", "dacb")})
    config = quickstart.get_config()
    config.sweep.seeds = tuple(range(6))
    planned = sweep_runs.plan(config, {}, file.removeprefix("--config="), tmp_path)
    names = [run.name for run in planned]
    shares = [[run.name for run in sweep_runs.share(planned, k, count)] for k in range(1, count + 1)]
    assert sorted(name for part in shares for name in part) == sorted(names)
    for part in shares:
        assert part == sorted(part, key=names.index)
        assert all(abs(sum(name[0] == variant for name in part) - 6 / count) < 1 for variant in "abcd")


def test_every_fold_is_trained_with_every_seed_and_validates_once(tmp_path):
    file = ablation(tmp_path, {"a": {}, "b": {"model.dropout": 0.1}}).removeprefix("--config=")
    config = quickstart.get_config()
    config.sweep.update({"folds": 3, "seeds": (0, 5)})
    planned = sweep_runs.plan(config, {}, file, tmp_path)
    assert [run.name for run in planned][:3] == ["a/fold_1/seed_0", "b/fold_1/seed_0", "a/fold_2/seed_0"]
    assert len({run.folder.path for run in planned}) == 2 * 3 * 2
    for run in planned:
        variant, fold, seed = run.name.split("/")
        assert run.config.data.fold == run.flags["data.fold"] == f"{fold.removeprefix('fold_')}/3"
        assert run.config.seed == run.flags["seed"] == int(seed.removeprefix("seed_"))
        assert run.config.model.dropout == (0.1 if variant == "b" else 0.0)
    with pytest.raises(ValueError, match=r"and the command line both set config\.data\.fold: leave it to the sweep"):
        sweep_runs.plan(config, {"data.fold": "1/5"}, file, tmp_path)
    plain = tmp_path / "plain.py"
    plain.write_text("from configs.quickstart import get_config\n")
    assert sweep_runs.plan(config, {}, str(plain), tmp_path)[0].name == "plain/fold_1/seed_0"
    config.sweep.folds = 0
    with pytest.raises(ValueError, match="describes one run and no sweep"):
        sweep_runs.plan(config, {}, str(plain), tmp_path)


@pytest.fixture
def run(tmp_path):
    """A run of a sweep with three passes, whose last step is 20."""
    config = quickstart.get_config()
    config.sweep.passes = 3
    folder = RunFolder(tmp_path).create()
    folder.write_metrics([dict.fromkeys(METRICS, 0.5) | {"epoch": k, "step": 10 * k} for k in (1, 2)])
    return sweep_runs.SweepRun("a/seed_0", folder, config, "", {"eval.labels": "test.csv", "eval.checkpoint": "best"})


@pytest.mark.parametrize(
    ("summary", "counts"),
    [
        ({"checkpoint_step": 20, "passes": 3, "checkpoint_asked_for": "last"}, True),
        ({"checkpoint_step": 20, "passes": 3}, True),  # of an earlier version
        ({"checkpoint_step": 20, "passes": 3, "checkpoint_asked_for": "best"}, False),  # chosen, and by chance the last
        ({"checkpoint_step": 10, "passes": 3, "checkpoint_asked_for": "last"}, False),  # as it was then
        ({"checkpoint_step": 20, "passes": 1, "checkpoint_asked_for": "last"}, False),
        ({"checkpoint_step": 20, "passes": 3, "checkpoint_asked_for": "last", "views": 4}, False),
    ],
)
def test_an_evaluation_of_the_last_checkpoint_as_the_last_counts(run, summary, counts):
    run.folder.write_json("evaluation.json", summary)
    assert run.evaluated() == counts
    asked = run.evaluate_command()
    for key, value in (("checkpoint", "last"), ("labels", ""), ("path", ""), ("output", ""), ("passes", 3)):
        assert [word for word in asked if word.startswith(f"--config.eval.{key}=")] == [f"--config.eval.{key}={value}"]


@pytest.mark.parametrize(("asked", "trained"), [("auto", True), ("bfloat16", True), ("float32", False)])
def test_a_run_whose_dtype_was_chosen_for_its_platform_is_trained(run, asked, trained):
    run.folder.write_json("evaluation.json", {"checkpoint_step": 20, "passes": 3})
    run.config.num_epochs = 2
    saved = runs.with_dtype(run.config, "bfloat16").to_dict()
    run.folder.write_json("config.json", {"config": saved, "data": {}})
    run.config.model.dtype = asked
    assert run.trained() == trained


@pytest.mark.parametrize("name", [".lock", runs.EVALUATE_LOCK])
def test_a_run_that_another_process_trains_or_evaluates_is_in_use(run, name):
    with locked(run.folder.path, name):
        assert sweep_processes._in_use(run)
    assert not sweep_processes._in_use(run)


def test_why_a_process_failed_is_what_it_said_of_itself():
    said = "stochconv_jax: cannot save the checkpoint of step 3\nComplete checkpoints there: none"
    library = "Traceback (most recent call last):\n  File x\nOSError: of a library\n"
    assert sweep_processes._reason(1, library + said) == "cannot save the checkpoint of step 3"
    assert sweep_processes._reason(1, f"12:00:00 begun\n{library}") == "OSError: of a library"
    assert sweep_processes._reason(1, "") == "exit code 1"
    assert sweep_processes._reason(STOPPED, "") == "ended before its last epoch, as on SIGTERM"
