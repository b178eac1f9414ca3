"""Reads files of runs that may be damaged or written by another program, and keeps the values that can be used."""

import pathlib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from stochconv_jax.run_folder import RunFolder

IN_WORDS = {Mapping: "a table", Real: "a number", int: "a whole number", list: "a list", str: "a text"}


def read_json(types: Mapping[str, type], folder: RunFolder, name: str, remarks: list[str]) -> dict[str, Any]:
    """Returns the content of a JSON file without values of a wrong type, see `drop_wrong_types`.

    Returns {} if the file is missing or not valid; in the latter case a sentence about it is added to `remarks`.
    """
    try:
        content = folder.read_json(name) or {}
    except ValueError as error:
        remarks.append(f"not used: {error}")
        content = {}
    return drop_wrong_types(types, content, folder.path / name, remarks)


def drop_wrong_types(
    types: Mapping[str, type], content: Mapping[str, Any], file: pathlib.Path, remarks: list[str]
) -> dict[str, Any]:
    """Returns `content` without the keys whose value is not of the type in `types`; adds a remark for each of them."""
    wrong = [key for key, kind in types.items() if key in content and not isinstance(content[key], kind)]
    remarks += [f"{file}: {key} is not used: {content[key]!r}, expected {IN_WORDS[types[key]]}" for key in wrong]
    return {key: value for key, value in content.items() if key not in wrong}


def numbers(rows: Sequence[Mapping[str, str]], column: str, file: pathlib.Path) -> np.ndarray:
    """Returns a column as float64 `[rows]`, with NaN for missing and empty cells.

    Raises ValueError, naming `file` and the line, for a cell that is not a number.
    """
    values = []
    for line, row in enumerate(rows, start=2):
        text = row.get(column) or "nan"
        try:
            values.append(float(text))
        except ValueError:
            raise ValueError(f"{file}, line {line}, column {column}: {text!r} is not a number") from None
    return np.array(values)
