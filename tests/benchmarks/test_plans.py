"""The table of plans: each pair is planned once by main.py, and what is known is not planned again."""

import json
import os
import subprocess

import pytest

from benchmarks import plans
from configs.ablations import quick_sampling
from tests.conftest import ROOT


def run(out, *configs, topologies=("devices",)):
    """Runs the benchmark and returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        plans.main(["--configs", *configs, "--topologies", *topologies, "--out", str(out)])
    return int(ended.value.code)


@pytest.mark.slow
def test_a_real_plan_is_a_row_of_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla"))
    assert run(tmp_path / "plans.json", "quickstart:control") == 0
    (content,) = json.loads((tmp_path / "plans.json").read_text()).values()
    train, printed = content["steps"]["train"], capsys.readouterr().out
    (row,) = (line for line in (tmp_path / "plans.md").read_text().splitlines() if "quickstart" in line)
    assert row in printed and "1 of 1: quickstart:control, devices, its own batch: planned" in printed
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["quickstart:control", "devices"] and cells[3:5] == ["2", "16"] and cells[6] == "?"
    assert cells[2] == f"{content['multiply_adds'] / 1e6:,.1f}"
    gradients = sum(row["bytes"] for row in train["traffic"] if row["purpose"] == "gradients")
    assert gradients > 50_000 and f"gradients {gradients:,}" in cells[11]
    assert cells[5] == f"{train['needed'] / 2**30:.2f}" and cells[7] == f"{train['costs']['flops'] / 1e9:,.1f}"
    assert cells[8] == f"{train['costs']['bytes'] / 2**30:.2f}" and cells[9] == ""


def content(topology, needed=2**30, refusal=""):
    """Returns a plan as --mode=plan writes it."""
    step = {"batch_size": 64, "needed": needed, "refusal": refusal, "seconds": 61.2, "moved": ["all of it"]}
    step |= {"costs": {} if refusal else {"flops": 3e9, "bytes": 2.5 * 2**30}, "launches": 2598}
    step["seconds_by_limit"] = {} if refusal else {"arithmetic": 0.001, "memory traffic": 0.0025}
    sent = [("gradients", 4000), ("batch norm", 10), ("gradients", 500)]
    step["traffic"] = [] if refusal else [{"purpose": purpose, "bytes": size} for purpose, size in sent]
    chip = {"memory": 1.5 * 2**30}
    return {
        "topology": topology,
        "chips": 8,
        "chip": chip,
        "parts": [],
        "steps": {"train": step, "evaluate": step},
        "multiply_adds": 7_260_000,
    }


@pytest.fixture
def commands(monkeypatch):
    """The commands that were run, in place of main.py; `commands.answer` is what it writes, or a text it fails with."""

    class Commands(list):
        answer = content("v5e:2x4")

    def fake(command, **_):
        commands.append(command)
        if isinstance(commands.answer, str):
            return subprocess.CompletedProcess(command, 1, f"much\n{commands.answer}\n")
        (workdir,) = (flag.removeprefix("--workdir=") for flag in command if flag.startswith("--workdir="))
        with open(os.path.join(workdir, "plan.json"), "w") as file:
            json.dump(commands.answer, file)
        return subprocess.CompletedProcess(command, 0, "")

    commands = Commands()
    monkeypatch.setattr(subprocess, "run", fake)
    return commands


def test_what_is_known_is_not_planned_again_and_what_failed_is(tmp_path, commands, capsys):
    out, two = tmp_path / "plans.json", ("v5e:2x4", "v6e:2x4")
    assert run(out, "b0", topologies=two[:1]) == 0 and len(commands) == 1
    commands.answer = "all-gather of u8[16, 96, 80, 3]"
    assert run(out, "b0", topologies=two) == 1 and len(commands) == 2
    assert "--config.plan.topology=v6e:2x4" in commands[1] and "--config.plan.largest_batch=False" in commands[1]
    assert "| b0 | v6e:2x4 | failed: all-gather of u8[16, 96, 80, 3] |" in capsys.readouterr().out
    commands.answer = content("v6e:2x4")
    assert run(out, "b0", topologies=two) == 0 and len(commands) == 3
    assert run(out, "b0", topologies=two) == 0 and len(commands) == 3
    figures = (
        "8 | 8 | 1.00 of 1.50 | yes | 3.0 | 2.50 | 2,598 | 2.5, memory traffic | gradients 4,500, batch norm 10 | 61 |"
    )
    assert f"| b0 | v5e:2x4 | 7.3 | {figures}" in capsys.readouterr().out


def test_variants_are_planned_with_their_own_keys_and_once(tmp_path, commands):
    wanted = ("ablations/quick_real:160,32@thumbnail_large", "ablations/quick_sampling@")
    assert run(tmp_path / "plans.json", *wanted) == 0
    one, *all_of_it = (" ".join(command) for command in commands)
    assert "configs/ablations/quick_real.py:160,32 " in one and "--config.data.thumbnail_size=(80, 80)" in one
    changes = list(quick_sampling.sweep().values())
    for command, keys in zip(all_of_it, changes, strict=True):
        assert all(f"--config.{key}={value}" in command for key, value in keys.items())
    found = [title.partition(",")[0] for title in json.loads((tmp_path / "plans.json").read_text())][1:]
    assert found == [f"ablations/quick_sampling@{name}" for name in quick_sampling.sweep()]
    assert run(tmp_path / "plans.json", *wanted) == 0 and len(commands) == 1 + len(changes)


@pytest.mark.parametrize(
    "name, message",
    [
        ("quickstart@a", "describes one run"),
        ("ablations/real@a", "no variant 'a'"),
        ("nowhere@", "No such file"),
        ("ablations/quick_real:160@", "not enough values"),
        ("ablations/quick_sampling:1@", "argument"),
    ],
)
def test_a_variant_that_is_not_there_is_an_error_with_its_name(tmp_path, commands, capsys, name, message):
    assert run(tmp_path / "plans.json", name) == 2 and not commands
    error = capsys.readouterr().err
    assert f"{name}: " in error and message in error


def test_a_batch_grows_with_the_chips_and_is_another_plan(tmp_path, commands):
    out = tmp_path / "plans.json"
    assert run(out, "b0", topologies=("v5e:2x4",)) == 0
    with pytest.raises(SystemExit):
        plans.main(["--configs", "b0", "--topologies", "v5e:2x4", "v4:2x2x4", "--images", "3", "--out", str(out)])
    batches = [[flag for flag in command if "batch_size" in flag] for command in commands]
    assert batches == [[], ["--config.batch_size=24"], ["--config.batch_size=48"]]
    with pytest.raises(SystemExit):
        plans.main(["--configs", "b0", "--topologies", "devices", "--images", "3", "--out", str(out)])
    assert len(commands) == 3


@pytest.mark.parametrize("needed, refusal", [(2**31, ""), (None, "RESOURCE_EXHAUSTED: too much"), (2**30, "refused")])
def test_what_does_not_fit_is_told(needed, refusal):
    row = plans.table({"b0, v5e:2x4, its own batch": content("v5e:2x4", needed, refusal)}).splitlines()[-1]
    assert "| NO |" in row and row.count("|") == len(plans.HEAD) + 1
