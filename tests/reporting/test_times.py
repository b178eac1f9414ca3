"""The report's table of wall time, from goodput.json as training writes it and from what others may have put there."""

import pytest

from stochconv_jax.reporting import collect, times
from tests.reporting.folders import SPLIT, THUMBNAIL, write


def spent(hours, starts=1, **shares):
    seconds = {part: 3600 * hours * share for part, share in shares.items()}
    return {"goodput": {"wall_seconds": sum(seconds.values()), "seconds": seconds, "starts": [{}] * starts}}


def test_the_shares_are_of_all_hours_of_a_model(tmp_path):
    write(tmp_path / "b0" / "seed_0", [0.6], config=THUMBNAIL, **spent(1, start=0.5, steps=0.5))
    again = spent(3, starts=2, start=0.1, steps=0.7, repeated=0.2)
    write(tmp_path / "b0" / "seed_1", [0.6], config=THUMBNAIL, seed=1, **again)
    write(tmp_path / "split", [0.6], config=SPLIT)
    groups, remarks = collect.collect(tmp_path)
    table = times.table(groups)
    assert table.columns == ["model", "runs", "starts", "hours", "start", "steps", "repeated"] and not remarks
    assert table.rows == [["b0", "2", "3", "4", "20.0%", "65.0%", "15.0%"]]  # 0.5 + 0.3, 0.5 + 2.1 and 0.6 hours of 4


@pytest.mark.parametrize("content", [{}, {"seconds": 3}, {"wall_seconds": 1.0, "seconds": {}}])
def test_what_is_no_record_of_goodput_is_left_out(tmp_path, content):
    write(tmp_path / "b0", [0.6], config=THUMBNAIL, goodput=content)
    groups, remarks = collect.collect(tmp_path)
    assert times.table(groups) is None
    assert len(remarks) == ("seconds" in content and content["seconds"] == 3)


def test_seconds_that_are_no_number_are_left_out_by_name(tmp_path):
    content = {"wall_seconds": 4.0, "seconds": {"steps": 4.0, "start": "x"}, "starts": [{}]}
    write(tmp_path / "b0", [0.6], config=THUMBNAIL, goodput=content)
    groups, remarks = collect.collect(tmp_path)
    assert times.table(groups).rows == [["b0", "1", "1", "0.00111", "100.0%"]]
    assert "goodput.json: start is not used" in remarks[0]
