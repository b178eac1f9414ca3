"""The watchdog in a real process whose main thread waits for ever."""

import subprocess
import sys

from tests.conftest import PATIENCE, ROOT

WAITS = """
import time
from stochconv_jax.runtime import watchdog
with watchdog.within(2, since="what ends in time"):
    pass
time.sleep(3)
print("still there", flush=True)
with watchdog.within(0.5, since="a test"):
    time.sleep(1e6)
"""


def test_what_ends_in_time_is_left_alone_and_what_does_not_ends_the_process_and_says_so():
    settings = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": PATIENCE}
    ended = subprocess.run([sys.executable, "-c", WAITS], **settings)
    assert ended.returncode == 1 and ended.stdout == "still there\n", ended
    start = "stochconv_jax: process 0 has not ended within 0.5 s of a test (`grace_seconds`): it waits in"
    assert ended.stderr.startswith(start) and "the other processes" not in ended.stderr, ended
