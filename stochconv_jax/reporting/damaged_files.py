"""What is in the files of a run, as far as it can be used: they may be damaged or another program's."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax.run_folder import RunFolder


def of_kinds(kinds: Mapping[str, type], folder: RunFolder, name: str, remarks: list[str]) -> dict[str, Any]:
    """The content of a JSON file, as far as it can be used: it may be damaged or another program's."""
    try:
        content = folder.read_json(name) or {}
    except ValueError as error:
        remarks.append(f"not used: {error}")
        content = {}
    return drop_odd(kinds, content, folder.path / name, remarks)


def drop_odd(
    kinds: Mapping[str, type], content: Mapping[str, Any], file: pathlib.Path, remarks: list[str]
) -> dict[str, Any]:
    """`content` without what is not of its kind, which is remarked."""
    wrong = [key for key, kind in kinds.items() if key in content and not isinstance(content[key], kind)]
    remarks += [f"{file}: {key} is not used: {content[key]!r} is not what it should be" for key in wrong]
    return {key: value for key, value in content.items() if key not in wrong}


def numbers(rows: Sequence[Mapping[str, str]], column: str, file: pathlib.Path) -> np.ndarray:
    """The column as float64, NaN where it is missing or empty. ValueError where a cell is no number."""
    values = []
    for number, row in enumerate(rows, start=2):
        text = row.get(column) or "nan"
        try:
            values.append(float(text))
        except ValueError:
            raise ValueError(f"{file}, line {number}, column {column}: {text!r} is not a number") from None
    return np.array(values)
