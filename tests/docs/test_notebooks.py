"""The notebooks run to their end on a CPU, in small sizes."""

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {
    "ablation": {
        "seeds=0,1,2": "seeds=0,1",
        "num_epochs=8": "num_epochs=2",
        "num_train=320": "num_train=48",
        "num_validation=120": "num_validation=24",
    }
}


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Jupyter's packages have warnings of their own
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path, monkeypatch):
    from docs.execute_notebooks import execute

    text = file.read_text()
    for written, smaller in SMALL.get(file.stem, {}).items():
        assert written in text
        text = text.replace(written, smaller)
    (tmp_path / file.name).write_text(text)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = execute(tmp_path / file.name)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
