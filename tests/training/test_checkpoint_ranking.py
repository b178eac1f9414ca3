"""Checkpoints whose ranking metric is not a number, as a ROC AUC of one class."""

import pytest

from tests.training.checkpoint_files import names, restored, save

pytestmark = pytest.mark.smoke


def test_what_cannot_be_ranked_is_never_deleted(tmp_path, caplog):
    undefined = float("nan")
    save(tmp_path, {2: undefined, 4: undefined, 5: None, 6: 0.9, 8: undefined, 10: 0.5, 12: 0.4, 13: None})
    assert names(tmp_path) == {f"step_{step}" for step in (2, 4, 6, 8, 12, 13)}
    assert caplog.text.count("val_roc_auc is not defined at step") == 3
    assert restored(tmp_path, "best") == 6
    save(tmp_path / "none", {2: undefined, 4: undefined, 6: undefined})
    assert names(tmp_path / "none") == {"step_2", "step_4", "step_6"}
    assert restored(tmp_path / "none", "best") == 6 and "defined at none of the steps [2, 4, 6]" in caplog.text
