"""Runs notebooks of docs/notebooks and keeps their outputs.   python -m docs.execute_notebooks [NAME...]"""

import pathlib
import sys

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "notebooks"
SECONDS = 3600  # that a cell may take, also on a busy machine


def execute(file: pathlib.Path) -> nbformat.NotebookNode:
    """Returns the notebook with the outputs of this run, which begins in the folder of the checkout.

    Raises CellExecutionError, with the cell and its traceback, if a cell fails.
    """
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ in every run
    notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec",)}
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(file.stem for file in FOLDER.glob("*.ipynb")):
        nbformat.write(execute(FOLDER / f"{name}.ipynb"), FOLDER / f"{name}.ipynb")
