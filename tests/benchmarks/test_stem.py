"""The stem's benchmark runs, times what it says in turn, and writes what it prints."""

import json
import time

from benchmarks import stem, timing


def test_alternatives_are_timed_in_turn_and_compared_within_a_round():
    calls = []

    def alternative(name, seconds):
        def run():
            calls.append(name)
            time.sleep(seconds)

        return run

    results = timing.in_turn({"a": alternative("a", 0.002), "b": alternative("b", 0.008)}, rounds=5)
    assert calls[4:] == ["a", "b"] * 5
    assert results["a"]["ratio"] == 1 and 2 < results["b"]["ratio"] < 6
    assert results["b"]["median"] >= 8


def test_the_benchmark_prints_and_writes_every_table(tmp_path, capsys):
    path = tmp_path / "stem.json"
    stem.main(f"--batch 1 --size 240 --features 2 --rounds 2 --json {path}".split())
    results = json.loads(path.read_text())["results"]
    assert list(results) == [f"batch 1, 240x240 uint8, {way}" for way in ("forward", "forward + backward")]
    printed = capsys.readouterr().out
    for title, timings in results.items():
        assert title in printed and list(timings) == ["ordinary stem", *stem.SAMPLINGS]
