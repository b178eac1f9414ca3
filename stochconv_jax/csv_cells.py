"""Writes texts into CSV files so that no spreadsheet runs them, as it would run '=1+1', and reads them back."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

_NUMBER = r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan"
# Texts that get a ' before them: formulas, and formulas that have such marks already, so that reading removes one.
_FORMULA = re.compile(rf"'*([=+@\t\r\n]|-(?!({_NUMBER})$))", re.IGNORECASE)


def guard(value: object) -> object:
    """Returns what to write for `value`: a ' before it if it is a text that a spreadsheet would run, else `value`."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unguard(text: str) -> str:
    """Returns the text for which `guard` returned `text`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def escape_surrogates(name: str) -> str:
    """Returns a file's name with each byte that is not UTF-8, which Python holds as a surrogate, written as \\udcXX.

    Text files and figures cannot hold surrogates.
    """
    return name.encode("utf-8", "backslashreplace").decode()


def write(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Writes a header and rows, which are dicts by `columns`; guards every cell."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writerow({name: guard(name) for name in columns})
    writer.writerows({name: guard(value) for name, value in row.items()} for row in rows)
