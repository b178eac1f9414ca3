"""Which changes of a config continue a run, and what config.json then says."""

import json

import pytest

from configs import quickstart
from stochconv_jax.config import checked
from stochconv_jax.experiment import runs
from stochconv_jax.run_folder import RunFolder


def claim(folder, schedule="constant", **keys):
    """Claims the run in `folder` with these keys, in which '__' stands for a dot."""
    config = quickstart.get_config()
    config.optimizer.schedule = schedule
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    sides = {"train": {"images": 5}, "validation": {"images": 3}}
    runs.claim(RunFolder(folder), checked(config.to_dict()), size={}, data=sides, classes=("cat", "dog"))


@pytest.fixture
def run(tmp_path):
    """A run of two epochs, one of which is done."""
    claim(tmp_path, num_epochs=2, checkpoint__patience=2)
    RunFolder(tmp_path).write_metrics([{"epoch": 1, "step": 4}])
    return tmp_path


def saved(run):
    return json.loads((run / "config.json").read_text())


@pytest.mark.parametrize(
    ("changes", "before"),
    [
        ({"num_epochs": 3}, {"num_epochs": 2}),
        ({"checkpoint__patience": 5}, {"checkpoint.patience": 2}),
        ({"checkpoint__patience": 0}, {"checkpoint.patience": 2}),
        ({"num_epochs": 9, "checkpoint__patience": 3}, {"num_epochs": 2, "checkpoint.patience": 2}),
    ],
)
def test_what_makes_a_run_longer_continues_it_and_is_recorded(run, changes, before):
    keys = {"num_epochs": 2, "checkpoint__patience": 2} | changes
    claim(run, **keys)
    config = saved(run)["config"]
    assert (config["num_epochs"], config["checkpoint"]["patience"]) == (
        keys["num_epochs"],
        keys["checkpoint__patience"],
    )
    assert saved(run)["before"] == [before] and config["data"]["classes"] == ["cat", "dog"]
    claim(run, **keys)  # the same command again
    assert saved(run)["before"] == [before]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_epochs": 1},
        {"checkpoint__patience": 1},
        {"num_epochs": 3, "seed": 1},
        {"num_epochs": 3, "optimizer__learning_rate": 0.1},
    ],
)
def test_another_change_is_another_run(run, changes):
    before = saved(run)
    with pytest.raises(ValueError, match=r"holds another run; choose another --workdir\. What differs:"):
        claim(run, **{"num_epochs": 2, "checkpoint__patience": 2} | changes)
    assert saved(run) == before


def test_a_cosine_is_not_made_longer(tmp_path):
    claim(tmp_path, "cosine", num_epochs=2)
    RunFolder(tmp_path).write_metrics([{"epoch": 1, "step": 4}])
    words = "The cosine schedule depends on the number of epochs: .*start from the weights of this one with"
    with pytest.raises(ValueError, match=rf"{words} --config\.init\.run={tmp_path}\. What differs"):
        claim(tmp_path, "cosine", num_epochs=3)


def test_a_run_that_ended_before_its_first_checkpoint_is_no_run_yet(tmp_path):
    claim(tmp_path, seed=7)
    claim(tmp_path, seed=8)
    assert saved(tmp_path)["config"]["seed"] == 8


@pytest.mark.parametrize(("epochs", "evaluated"), [(1, True), (3, False)])
def test_a_run_whose_checkpoints_are_gone_is_not_made_again(run, epochs, evaluated):
    RunFolder(run).write_metrics([{"epoch": epoch, "step": 4 * epoch} for epoch in range(1, epochs + 1)])
    if evaluated:
        (run / runs.EVALUATION).write_text("{}")
    before = saved(run)
    with pytest.raises(ValueError, match=rf"{run} holds another run.*\n  seed: 0 there, 7 now"):
        claim(run, num_epochs=2, checkpoint__patience=2, seed=7)
    with pytest.raises(ValueError, match=f"the checkpoints of {run} are gone"):
        claim(run, num_epochs=2, checkpoint__patience=2)
    assert saved(run) == before


def test_the_names_of_classes_are_those_that_were_found_and_may_be_left_out_later(run):
    assert saved(run)["config"]["data"]["classes"] == ["cat", "dog"]
    claim(run, num_epochs=2, checkpoint__patience=2, data__classes=("a", "b"))
    assert saved(run)["config"]["data"]["classes"] == ["cat", "dog"]
