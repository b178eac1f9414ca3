"""The benchmarks of whole steps run on a small network; what they print and write is of the steps they name."""

import importlib.util
import json
import math

import jax
import numpy as np
import pytest

from benchmarks import cases, eval_passes, train_step


@pytest.fixture
def small(monkeypatch):
    """Every config is the quickstart's with two blocks and images of 96 pixels."""
    named = cases.config_named

    def config_named(name, batch_size):
        config = named(name, batch_size)
        config.model.variant = "two_blocks"
        config.data.update({"image_size": (96, 96), "thumbnail_size": (32, 32)})
        return config

    monkeypatch.setattr(cases, "config_named", config_named)


@pytest.mark.slow
def test_a_case_is_the_configs_own_training(small):
    case = cases.case(cases.config_named("quickstart", 8))
    (first, metrics), (second, again) = jax.device_get(case.train()), jax.device_get(case.train())
    losses = [one.compute()["steps"]["loss"].item() for one in (metrics, again)]
    assert int(first.step) == 1 and int(second.step) == 2 and losses[0] != losses[1]
    logits = (case.evaluate().compute()["rows"]["logits"] for _ in range(2))
    np.testing.assert_array_equal(*logits)  # not of the state that is trained
    assert set(case.seconds) == set(case.memory) == {"train", "evaluate"}


@pytest.mark.slow
def test_the_table_has_a_line_a_step_and_ratios_to_the_first(small, tmp_path, capsys):
    path = tmp_path / "steps.json"
    train_step.main(f"--configs quickstart:control quickstart --batch_size 8 --rounds 2 --json {path}".split())
    results, printed = json.loads(path.read_text())["results"], capsys.readouterr().out
    assert list(results) == [f"{n}, {s}" for s in train_step.STEPS for n in ("quickstart:control", "quickstart")]
    assert results["quickstart:control, train"]["ratio"] == 1
    for title, result in results.items():
        assert title in printed and math.isclose(result["images_per_second"], 8e3 / result["median"])
    assert results["quickstart, train"]["memory"]["total"] > results["quickstart:control, train"]["memory"]["total"]


@pytest.mark.slow
def test_passes_are_compared(small, tmp_path, capsys):
    path = tmp_path / "passes.json"
    eval_passes.main(f"--config quickstart --passes 1 2 --batch_size 8 --rounds 2 --json {path}".split())
    (results,) = json.loads(path.read_text())["results"].values()
    assert list(results) == ["1 passes", "2 passes"] and "| 2 passes |" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_it_is_named():
    with pytest.raises(SystemExit, match="pip install torch"):
        train_step.torch_steps(cases.config_named("b0", 1), threads=1)


def test_pytorch_s_network_is_of_the_same_size():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks import torch_efficientnet
    from stochconv_jax.models import variants

    for name, parameters in (("b0", 4_008_829), ("b0_wide_stem", 4_012_197), ("b4", 17_550_409)):
        network = torch_efficientnet.EfficientNet(variants.get(name), dropout=0.0, stochastic_depth=0.0)
        assert sum(p.numel() for p in network.parameters()) == parameters
