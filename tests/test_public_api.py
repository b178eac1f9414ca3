"""What `import stochconv_jax` offers, what it costs, and the README's examples of it."""

import re
import subprocess
import sys

import pytest

import stochconv_jax
from tests.conftest import ROOT

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_public_names_are_those_listed_and_have_docstrings():
    assert dir(stochconv_jax) == stochconv_jax.__all__ == sorted(stochconv_jax.__all__)
    for name in stochconv_jax.__all__:
        assert getattr(stochconv_jax, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'StochasticConvolution'"):
        _ = stochconv_jax.StochasticConvolution


def test_reading_images_needs_no_jax():
    code = "import sys, stochconv_jax.data.sources; assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_the_readme_s_examples_run(example):
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["logits"].shape == (4, 2)


def test_the_readme_has_an_example():
    assert EXAMPLES
