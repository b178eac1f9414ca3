"""Texts in the cells of CSV files, so that no spreadsheet runs them: it would take '=1+1' for a formula."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

_NUMBER = r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan"
# A mark before what begins a formula; marks that are there already get one more, so that reading gives them back.
_FORMULA = re.compile(rf"'*([=+@\t\r\n]|-(?!({_NUMBER})$))", re.IGNORECASE)


def guard(value: object) -> object:
    """A value as it is written: a text that a spreadsheet would run gets a ' before it, all else is as it was."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unguard(text: str) -> str:
    """The text that `guard` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def as_text(name: str) -> str:
    """A file's name with the bytes that are not UTF-8, which Python has as surrogates, written as \\udcXX.

    What is drawn or written cannot hold them otherwise.
    """
    return name.encode("utf-8", "backslashreplace").decode()


def write(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Writes a header and rows by `columns`, guarded."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writerow({name: guard(name) for name in columns})
    writer.writerows({name: guard(value) for name, value in row.items()} for row in rows)
