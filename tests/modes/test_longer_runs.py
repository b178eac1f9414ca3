"""Runs that go on for more epochs, that stop early, and that start from another run, as real processes."""

import json

import jax
import numpy as np
import pytest

from tests.modes.conftest import SIGTERM, when
from tests.modes.runs import assert_same_run, restored, rows, steps, variables

CONSTANT = {"optimizer__schedule": "constant"}


@pytest.mark.slow
def test_more_epochs_of_a_run_are_those_of_a_longer_run(main, tmp_path):
    straight, grown = tmp_path / "straight", tmp_path / "grown"
    main(straight, num_epochs=3, **CONSTANT)
    main(grown, num_epochs=2, **CONSTANT)
    assert len(rows(grown / "metrics.csv")) == 2
    assert "config.num_epochs: 3, before 2" in main(grown, num_epochs=3, **CONSTANT)
    assert_same_run(straight, grown)
    about = json.loads((grown / "config.json").read_text())
    assert about["config"]["num_epochs"] == 3 and about["before"] == [{"num_epochs": 2}]
    output = main(grown, code=1, num_epochs=2, **CONSTANT)
    assert "num_epochs: 3 there, 2 now" in output and "init.run" not in output
    output = main(grown, code=1, num_epochs=4, seed=1, **CONSTANT)
    assert "seed: 0 there, 1 now" in output


@pytest.mark.slow
def test_a_run_stops_early_at_the_same_epoch_after_a_resume(main, tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    settings = {"num_epochs": 50, "checkpoint__patience": 2, "optimizer__learning_rate": 1e-9, **CONSTANT}
    output = main(straight, **settings)
    assert "stopped early: val_roc_auc has not improved for 2 epochs" in output, output
    found = [float(row["val_roc_auc"]) for row in rows(straight / "metrics.csv")]
    assert len(found) - 1 - int(np.argmax(found)) == 2 < len(found) < 50
    main(resumed, code=75, before=when("training.loop._validation", SIGTERM, call=len(found) - 1), **settings)
    main(resumed, **settings)
    assert_same_run(straight, resumed)
    before = steps(straight)
    assert "finished at step" in main(straight, **settings) and steps(straight) == before
    main(straight, **settings | {"checkpoint__patience": 3})
    assert len(rows(straight / "metrics.csv")) > len(found)


@pytest.mark.slow
def test_a_frozen_branch_from_another_run_stays_as_it_was_there(main, finished, tmp_path):
    """The branches of the other run meet after the stem, those of this one after the first stage."""
    workdir, settings = tmp_path / "run", {"model__merge_after": 1, "num_epochs": 1, **CONSTANT}
    output = main(workdir, init__run=finished, optimizer__freeze="thumbnail", **settings)
    assert "initialised at random" in output and "thumbnail/stage1/block1/" in output
    there, here = jax.tree.map(np.asarray, restored(finished, "best").variables), variables(workdir)
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, here[kind]["thumbnail_stem"], there[kind]["thumbnail_stem"])
        for part, name in (("windows_stem", "norm"), ("merged", "head")):
            pairs = zip(jax.tree.leaves(here[kind][part][name]), jax.tree.leaves(there[kind][part][name]), strict=True)
            distances = [np.abs(one - other).max() for one, other in pairs]
            assert 0 < max(distances) < 0.5  # trained, from the other run's values
    output = main(tmp_path / "other", code=1, init__run=tmp_path / "nowhere", **settings)
    assert "no run in" in output.splitlines()[-1]
