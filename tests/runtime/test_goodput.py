"""Where the time of a run went: every second in one part, over starts that ended, were killed or failed."""

import itertools
import json

import pytest

from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import goodput
from stochconv_jax.runtime.goodput import Goodput


class Clock:
    """Goes on only when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def after(self, seconds, result=None):
        """A function that takes so long."""

        def function(*_):
            self.now += seconds
            return result

        return function


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def measured(folder, clock, **settings):
    settings = {"writes": True, "timeout_seconds": 9.0, "advice": "read faster", "began": clock.now} | settings
    return Goodput(folder, clock=clock, **settings)


def train(clock, spent, first, last, waits=1.0, save_every=4, dies_at=None):
    """Steps of 10 s after waits for input; every fourth is evaluated in 5 s and saved in 2 s. The first compiles."""
    clock.now += 7.0
    spent.go_on_at(first)
    step = spent.compiled(clock.after(10.0))
    batches = spent.batches(map(clock.after(waits), itertools.count()))
    evaluate, save = (spent.timed(part, clock.after(s)) for part, s in (("evaluation", 5.0), ("saves", 2.0)))
    asked = spent.recording(lambda: False)
    spent.begin(goodput.STEPS)
    for number in range(first + 1, last + 1):
        asked()
        if spent._writer.ident:
            spent._writer.join()
        next(batches)
        step()
        if number % save_every == 0:
            evaluate()
            save()
        if number == dies_at:
            raise KeyboardInterrupt


def written(folder):
    return json.loads((folder.path / goodput.FILE).read_text())


def test_every_second_of_all_starts_is_in_one_part(folder, clock):
    began = clock.now
    with pytest.raises(KeyboardInterrupt), measured(folder, clock) as spent:
        train(clock, spent, 0, 10, dies_at=6)
    first = written(folder)
    assert first["seconds"] == {
        "start": 7, "compilation": 10, "input": 6, "steps": 50, "evaluation": 5, "saves": 2, "repeated": 0,
    }  # fmt: skip
    assert first["wall_seconds"] == clock.now - began and first["starts"][0]["state"] == "failed"
    with measured(folder, clock) as spent:  # from the last save, so steps 5 and 6 are made again
        train(clock, spent, 4, 8)
        spent.state = "finished"
    both = written(folder)
    assert both["wall_seconds"] == sum(both["seconds"].values()) == clock.now - began
    assert both["starts"][0] == first["starts"][0] and both["starts"][1]["state"] == "finished"
    assert both["starts"][1]["seconds"] == {
        "start": 7, "compilation": 10, "input": 2, "steps": 20, "evaluation": 5, "saves": 2, "repeated": 12,
    }  # fmt: skip
    assert [(start["first_step"], start["step"]) for start in both["starts"]] == [(0, 6), (4, 8)]


def test_a_start_that_is_killed_has_left_its_last_record(folder, clock):
    spent = measured(folder, clock).__enter__()
    train(clock, spent, 0, 3)
    left = written(folder)  # of when the third step was about to begin
    assert left["starts"][0]["state"] == "running" and left["starts"][0]["step"] == 2
    assert left["wall_seconds"] == 7 + 2 * 11


def test_no_part_within_another_counts_twice(folder, clock):
    with measured(folder, clock) as spent:
        spent.begin("steps")
        with spent.during("evaluation"):
            clock.now += 1
            spent.compiled(clock.after(20.0))()
            clock.now += 3
    assert written(folder)["seconds"] | {"compilation": 20, "evaluation": 4} == written(folder)["seconds"]
    assert written(folder)["wall_seconds"] == 24


@pytest.mark.parametrize(("waits", "warned"), [(2.0, False), (2.6, True)])
def test_long_waits_for_input_are_warned_of_once_and_short_ones_not(folder, clock, caplog, waits, warned):
    with measured(folder, clock, writes=False) as spent:
        train(clock, spent, 0, 40, waits=waits)
    assert not (folder.path / goodput.FILE).exists()
    assert [record.message.partition(" % ")[2] for record in caplog.records if record.levelname == "WARNING"] == [
        "of the training time waits for images: read faster"
    ] * warned


def test_a_record_that_cannot_be_written_is_named_and_ends_nothing(folder, clock, caplog):
    (folder.path / goodput.FILE).mkdir()
    spent = measured(folder, clock)
    train(clock, spent, 0, 3)
    spent.__exit__(None, None, None)
    assert f"cannot write {folder.path / goodput.FILE}: Is a directory" in caplog.text


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"starts": 3}', '{"starts": [{}]}', '{"starts": [{"step": 9, "seconds": {"steps": "x"}}]}']
)
def test_a_record_that_cannot_be_read_is_named_and_ends_nothing(folder, clock, caplog, text):
    (folder.path / goodput.FILE).write_text(text)
    with measured(folder, clock) as spent:
        train(clock, spent, 0, 3)
    assert f"{folder.path / goodput.FILE} is not used, and begins anew" in caplog.text
    assert len(written(folder)["starts"]) == 1 and written(folder)["seconds"]["repeated"] == 0


def test_the_line_of_the_log_has_the_parts_that_took_time():
    content = {"wall_seconds": 10.0, "seconds": {"start": 2.5, "steps": 7.5, "repeated": 0.0}, "starts": [1, 2]}
    assert goodput.in_words(content) == "10.0 s in 2 starts: start 2.5 s (25%), steps 7.5 s (75%)"
