"""The stem's benchmark prints and writes every table."""

import json

from benchmarks import stem


def test_the_benchmark_prints_and_writes_every_table(tmp_path, capsys):
    path = tmp_path / "stem.json"
    stem.main(f"--batch 1 --size 240 --features 2 --rounds 2 --json {path}".split())
    results = json.loads(path.read_text())["results"]
    assert list(results) == [f"batch 1, 240x240 uint8, {way}" for way in ("forward", "forward + backward")]
    printed = capsys.readouterr().out
    for title, timings in results.items():
        assert title in printed and list(timings) == ["ordinary stem", *stem.SAMPLINGS]
