"""A run as a real process that a signal comes to at a certain moment."""
import signal

from stochconv_jax.training import checksums
from tests.modes.conftest import signal_in
from tests.modes.test_main import assert_same_run, rows


def test_a_signal_at_any_moment_leaves_a_run_that_goes_on_bit_for_bit(main, finished, tmp_path):
    """While data is opened, the first step compiled, an epoch evaluated, and its evaluation saved."""

    def interrupted(*where, code=0):
        output = main(tmp_path, before=signal_in(*where), code=code)
        table = rows(tmp_path / "metrics.csv") if (tmp_path / "metrics.csv").exists() else []
        saved = {path.name for path in tmp_path.glob("checkpoints/step_*") if checksums.fault(path) is None}
        return output.splitlines()[-1][9:], [row["step"] for row in table], saved

    assert interrupted("modes.build.data_sources", code=-signal.SIGTERM)[1:] == ([], set())
    assert interrupted("training.steps.train_step") == ("stopped and saved at step 1", [], {"step_1"})
    assert interrupted("training.steps.eval_step") == ("stopped and saved at step 7", [], {"step_1", "step_7"})
    killed = interrupted("training.checkpoints.write_text", signal.SIGKILL, code=-signal.SIGKILL)
    assert killed[1:] == (["7"], {"step_1", "step_7"})
    last = interrupted("training.evaluation.predict", signal.SIGTERM, 3)
    assert last[:2] == ("stopped and saved at step 20", ["7", "13"]) and "step_20" in last[2]
    assert "finished at step 20" in main(tmp_path)
    assert_same_run(tmp_path, finished)
