"""Rows of epochs: which are kept, which come back from checkpoints, and what cannot be written."""

import logging

import pytest

from stochconv_jax.run_folder import METRICS, RunFolder
from stochconv_jax.training.metrics_log import MetricsLog


def row(epoch, value=0.1 + 0.2):
    return dict.fromkeys(METRICS, value) | {"epoch": epoch, "step": 10 * epoch}


@pytest.mark.parametrize(
    ("there", "saved", "first_step", "kept", "words"),
    [
        ((), (1, 3, 4), 41, (1, 3, 4), ("lost the row of epoch 1, 3, 4; it is", "lost the row of epoch 2, and no")),
        ((1, 2, 4), (3, 4), 41, (1, 2, 3, 4), ("had lost the row of epoch 3; it is",)),
        ((1, 2, 3, 4, 5), (3, 4), 41, (1, 2, 3, 4), ()),
        ((1, 2), (), 41, (1, 2), ("has lost the row of epoch 3, 4, and no checkpoint",)),
        ((), (), 1, (), ()),
    ],
)
def test_rows_that_metrics_csv_has_lost_come_back_from_checkpoints_or_are_named(
    tmp_path, caplog, there, saved, first_step, kept, words
):
    folder, whole = RunFolder(tmp_path / "run").create(), RunFolder(tmp_path / "whole").create()
    whole.write_metrics([row(epoch) for epoch in kept])
    if there:
        folder.write_metrics([row(epoch) for epoch in there])
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        MetricsLog(folder, first_step, [row(epoch) for epoch in saved], ended=(first_step - 1) // 10)
    assert (folder.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
    assert len(caplog.messages) == len(words) and all(w in m for w, m in zip(words, caplog.messages)), caplog.messages


def test_a_row_of_metrics_csv_that_is_damaged_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step\n1,7\n2,x\n")
    with pytest.raises(ValueError, match=rf"{tmp_path}/metrics\.csv, line 3: expected numbers in the columns epoch"):
        MetricsLog(RunFolder(tmp_path), first_step=8)
