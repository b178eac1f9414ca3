"""Early stopping as a function of the rows of metrics.csv."""

import pytest

from stochconv_jax.early_stopping import is_over

NAN = float("nan")


def rows(values, metric="val_roc_auc"):
    return [{"epoch": str(epoch), metric: str(value)} for epoch, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    [
        ([], 1, False),
        ([0.9], 1, False),
        ([0.9, 0.8], 1, True),
        ([0.9, 0.8], 2, False),
        ([0.9, 0.8, 0.7], 2, True),
        ([0.9, 0.9, 0.9], 2, True),  # equal values improve nothing
        ([0.5, 0.9, 0.8, 0.91], 2, False),
        ([NAN, 0.5, NAN, NAN], 2, True),
        ([0.9, 0.1, 0.1, 0.1], 0, False),  # no patience is set
    ],
)
def test_a_run_is_over_when_patience_is(values, patience, over):
    assert is_over(rows(values), "val_roc_auc", patience) == over


def test_a_loss_improves_when_it_falls():
    assert is_over(rows([0.5, 0.6], "val_loss"), "val_loss", 1)
    assert not is_over(rows([0.6, 0.5], "val_loss"), "val_loss", 1)


def test_epochs_whose_rows_are_lost_count():
    known = rows([0.9, 0.8, 0.7])
    assert is_over([known[0], known[2]], "val_roc_auc", 2)
