"""What the training mode writes by itself; main.py's tests run it."""
import pytest

from stochconv_jax.modes.train import MetricsLog
from stochconv_jax.run_folder import METRICS, RunFolder


def test_events_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    log = MetricsLog(RunFolder(tmp_path), first_step=1)

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._events, "flush", full)
    with pytest.raises(OSError, match=rf"cannot write into {tmp_path / 'events'}: No space left on device; make room"):
        log(dict.fromkeys(METRICS, 1.0))
    log._events.close()
