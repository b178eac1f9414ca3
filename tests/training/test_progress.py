"""Progress lines have the rate and the time left."""

import pytest

from stochconv_jax.training.progress import Progress, duration

pytestmark = pytest.mark.smoke


def test_progress_says_rate_and_time_left():
    lines, now = [], iter([0.0, 1.0, 10.0, 12.0, 20.0])
    progress = Progress(400, every=10, clock=lambda: next(now), emit=lines.append)
    for done in (10, 100, 150, 400):
        progress.update(done, note="step: ")
    assert lines == [
        "step: 100/400 images (25 %), 10.0 images/s, 0:30 left",
        "step: 400/400 images (100 %), 30.0 images/s, 0:00 left",
    ]


def test_durations_read_like_a_clock():
    assert [duration(seconds) for seconds in (5, 65, 3600 + 61.4)] == ["0:05", "1:05", "1:01:01"]
