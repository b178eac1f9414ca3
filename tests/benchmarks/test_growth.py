"""The benchmark of growth measures the networks that it names, and does not run what would not fit."""

import json

import pytest

from benchmarks import growth


def test_what_does_not_fit_is_planned_and_not_run(monkeypatch):
    planned = {"train": {"total": 2000}, "evaluate": {"total": 1000}}

    class Case:
        memory = planned

        def evaluate(self):
            pass

    monkeypatch.setattr(growth.cases, "case", lambda config, only: Case())
    got = growth.measure(growth.WHOLE, rounds=2, limit=1500, only=("train", "evaluate"), variant="b0", side=512)
    assert got["train"] == {"milliseconds": None, "bytes": 2000}
    assert got["evaluate"]["milliseconds"] >= 0 and got["evaluate"]["bytes"] == 1000


def test_the_networks_differ_in_what_they_see():
    thumbnail, split, whole = (
        growth.config_of(network, "b0", side=2048) for network in (growth.THUMBNAIL, growth.SPLIT, growth.WHOLE)
    )
    assert thumbnail.model.branches == whole.model.branches == ("thumbnail",) != split.model.branches
    assert thumbnail.data.thumbnail_size == split.data.thumbnail_size == (224, 224)
    assert whole.data.thumbnail_size == (2048, 2048) == split.data.image_size


def test_points_that_axes_share_are_measured_once(tmp_path, monkeypatch):
    measured = []

    def measure(network, *, rounds, limit, only, **arguments):
        measured.append((network, *sorted(arguments.items())))
        return {step: {"milliseconds": 1.0, "bytes": 1} for step in only}

    monkeypatch.setattr(growth, "measure", measure)
    paths = f"--json {tmp_path / 'growth.json'} --figure {tmp_path / 'growth.png'}"
    growth.main(f"--sides 512 1024 --batches 1 4 --passes 1 4 --filters 16 32 {paths}".split())
    rows = json.loads((tmp_path / "growth.json").read_text())["results"]["rows"]
    assert len(rows) == 2 * (3 * 2 + 3 * 2 + 2 * 2) + 2  # two steps of each point, one of several passes
    assert len(set(measured)) == len(measured) == 3 + 5 + 3  # thumbnail, split, whole
    assert sum(name == growth.THUMBNAIL for name, *_ in measured) == 3  # it does not depend on the side


@pytest.mark.slow
def test_every_axis_is_measured_and_drawn(tmp_path):
    paths = {name: tmp_path / f"growth.{name}" for name in ("json", "png")}
    axes = "--size 240 --sides 240 --batches --passes 1 --filters 8"
    growth.main(f"--variant two_blocks {axes} --rounds 2 --json {paths['json']} --figure {paths['png']}".split())
    rows = json.loads(paths["json"].read_text())["results"]["rows"]
    assert {(row["axis"], row["network"]) for row in rows} >= {
        ("side", growth.WHOLE),
        ("passes", growth.SPLIT),
        ("filters", growth.THUMBNAIL),
    }
    assert all(row["milliseconds"] > 0 and row["bytes"] > 0 for row in rows)
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
