"""A run as a real process that a signal comes to at a certain moment."""
import re
import signal

from stochconv_jax.training import checksums
from tests.modes.conftest import HANG, SIGKILL, SIGTERM, when
from tests.modes.test_main import assert_same_run, rows


def test_a_signal_at_any_moment_leaves_a_run_that_goes_on_bit_for_bit(main, finished, tmp_path):
    """While data is opened, the first step compiled, an epoch evaluated, and its evaluation saved."""

    def interrupted(function, action=SIGTERM, call=1, code=0):
        output = main(tmp_path, before=when(function, action, call), code=code)
        table = rows(tmp_path / "metrics.csv") if (tmp_path / "metrics.csv").exists() else []
        saved = {path.name for path in tmp_path.glob("checkpoints/step_*") if checksums.fault(path) is None}
        return output.splitlines()[-1][9:], [row["step"] for row in table], saved

    assert interrupted("modes.build.data_sources", code=-signal.SIGTERM)[1:] == ([], set())
    assert interrupted("training.steps.train_step") == ("stopped and saved at step 1", [], {"step_1"})
    assert interrupted("training.steps.eval_step") == ("stopped and saved at step 7", [], {"step_1", "step_7"})
    killed = interrupted("training.checkpoints.write_text", SIGKILL, code=-signal.SIGKILL)
    assert killed[1:] == (["7"], {"step_1", "step_7"})
    assert "finished at step 20" in main(tmp_path)
    assert_same_run(tmp_path, finished)


def test_a_run_that_cannot_save_ends_in_time_and_says_what_it_waits_for(main, finished, tmp_path):
    hanging = when("training.checksums.write", HANG, call=2) + when("training.evaluation.predict", SIGTERM, call=2)
    output = main(tmp_path, before=hanging, code=1, checkpoint__grace_seconds=3)
    last = output.splitlines()[-1]
    assert "not ended within 3 s of SIGTERM (config.checkpoint.grace_seconds)" in last and "Traceback" not in output
    assert re.search(r"checkpoints\.py, line \d+, for self\._manager\.close\(\)", last)
    assert [path.name for path in tmp_path.glob("checkpoints/*") if "tmp" not in path.name] == ["step_7"]
    assert "step 7 of 20" in main(tmp_path)
    assert_same_run(tmp_path, finished)
