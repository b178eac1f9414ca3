"""The public names of `stochconv_jax`, the cost of its import, and the README's examples."""

import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

import stochconv_jax
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
RUN = ROOT / "tests" / "fixtures" / "jax_0_10_2" / "run"


def run_example(heading):
    """Runs the Python of a section of the README and returns its names."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(example, f"README.md: {heading}", "exec"), names)
    return names


def test_the_public_names_are_those_listed_and_have_docstrings():
    assert dir(stochconv_jax) == stochconv_jax.__all__ == sorted(stochconv_jax.__all__)
    for name in stochconv_jax.__all__:
        assert getattr(stochconv_jax, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'StochasticConvolution'"):
        _ = stochconv_jax.StochasticConvolution


def test_each_public_name_is_found_before_the_others_are_imported():
    """The order is such that no name is found only because an earlier one has imported its module."""
    code = "import stochconv_jax; [getattr(stochconv_jax, name) for name in reversed(stochconv_jax.__all__)]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_reading_images_needs_no_jax():
    code = "import sys, stochconv_jax.data.sources; assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_readme_s_layer_runs():
    assert run_example("The layer in your own network")["logits"].shape == (4, 2)


def test_the_readme_s_predictions_run(tmp_path, monkeypatch, capsys):
    shutil.copytree(RUN, tmp_path / "runs" / "mine")
    (tmp_path / "OTHER_IMAGES").mkdir()
    cv2.imwrite(str(tmp_path / "OTHER_IMAGES" / "mole.png"), np.full((100, 120, 3), 90, np.uint8))
    (tmp_path / "OTHER_IMAGES" / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    found = run_example("Your own images")["found"]
    assert list(found.names) == ["broken.png", "mole.png"] and 0 < found.probability[1, 1] < 1
    assert re.search(r"^broken.png .*broken\.png: .+\nmole\.png 0\.\d{3} \+- 0\.\d{3}$", capsys.readouterr().out, re.M)


def test_every_example_of_the_readme_is_run():
    assert README.count("\n```python\n") == 2
