"""The notebooks run to their end on a CPU, in under three minutes together on two idle cores."""

import pytest

nbclient = pytest.importorskip("nbclient")
from docs.execute_notebooks import FOLDER, execute  # noqa: E402

pytestmark = [pytest.mark.docs, pytest.mark.filterwarnings("default")]  # Jupyter's packages have warnings of their own


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs(name, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    notebook = execute(FOLDER / f"{name}.ipynb")
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
