"""Alternatives are timed in turn and compared within a round, by a clock that the test moves."""

import json
import types

import pytest

from benchmarks import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds, which stands still unless a test moves it."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def alternative(name, durations, clock, calls):
    durations = iter(durations)

    def run():
        calls.append(name)
        clock.now += next(durations)

    return run


def test_alternatives_are_timed_in_turn_after_two_calls_each(clock):
    calls = []
    runs = {name: alternative(name, [9, 9, *times], clock, calls) for name, times in {"a": (1, 2), "b": (3, 5)}.items()}
    assert timing.times_in_turn(runs, rounds=2) == {"a": [1e3, 2e3], "b": [3e3, 5e3]}
    assert calls == ["a", "a", "b", "b", "a", "b", "a", "b"]


def test_summaries_compare_within_a_round():
    slow_rounds = {"a": [1.0, 2.0, 10.0], "b": [3.0, 6.0, 30.0]}
    summary = timing.summaries(slow_rounds)
    assert summary["a"]["ratio"] == 1 and summary["b"]["ratio"] == 3 and summary["b"]["median"] == 6
    assert "| b | 6.00 | 27.00 | 3.00 |" in timing.table("title", summary)


def test_results_are_written_with_the_machine(tmp_path):
    timing.write(str(tmp_path / "results.json"), {"a": 1})
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results"] == {"a": 1} and content["machine"]["jax"] and "cpu" in content["machine"]["device"]
