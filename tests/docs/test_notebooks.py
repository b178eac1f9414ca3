"""The notebooks run to their end on a CPU."""

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Jupyter's packages have warnings of their own
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, monkeypatch):
    from docs.execute_notebooks import execute

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    notebook = execute(file)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
