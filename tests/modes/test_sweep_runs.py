"""The runs that a sweep plans, and the shares of them: what is refused, and what each share gets."""
import pytest

from configs import quickstart
from stochconv_jax.modes import sweep_runs
from tests.modes.test_sweep import ablation


@pytest.mark.parametrize(
    ("variants", "overrides", "words"),
    [
        ({}, {}, "sweep.. returns no variant"),
        ({"a": {"model.sampeling": "shared"}}, {}, r"\['a'\]: unknown config key .*Did you mean \"model.sampling\""),
        ({"a": {"model.merge_after": 5}}, {}, r"\['a'\]: config.model.merge_after='5': tiny has 0..4, or 'head'"),
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
