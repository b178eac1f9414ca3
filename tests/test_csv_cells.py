"""No cell that is written is a formula, and every text is read back as it was."""

import csv

import numpy as np

from stochconv_jax import csv_cells
from stochconv_jax.atomic_files import write_csv
from stochconv_jax.data import table_reader
from stochconv_jax.run_folder import RunFolder

FORMULAS = ["=1+1", "+1", "@SUM(A1)", "-1+1|cmd", "-x", "-", "\t=1", "\r=1", "'=1", "''@x", '=HYPERLINK("http://x")']
TEXTS = ["", "a", "i00.png", "-1", "-0.5", "-1e-05", "-.5", "-inf", "nan", "'", "'quoted'", "it's", "a=b", "1-2", "é"]


def test_what_a_spreadsheet_would_run_is_marked_and_all_else_is_not():
    for text in FORMULAS:
        assert csv_cells.guard(text) == f"'{text}" and csv_cells.unguard(f"'{text}") == text
    for value in (*TEXTS, -1, -0.5, None, float("-inf")):
        assert csv_cells.guard(value) is value
    for text in TEXTS:
        assert csv_cells.unguard(text) == text


def test_every_text_comes_back():
    random, letters = np.random.default_rng(0), list("'=+-@\t\r\n1.ea")
    for _ in range(2000):
        text = "".join(random.choice(letters, random.integers(0, 6)))
        written = csv_cells.guard(text)
        assert csv_cells.unguard(written) == text
        assert not written or written[0] not in "=+@\t\r\n"
        if written.startswith("-"):
            float(written)


def test_every_table_that_is_written_is_guarded_and_read_back(tmp_path):
    cells = [text for text in FORMULAS + TEXTS if text == text.strip()]
    write_csv(tmp_path / "table.csv", ["image", "=note"], [{"image": cell, "=note": -0.5} for cell in cells])
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as lines:
        header, *raw = csv.reader(lines)
    assert header == ["image", "'=note"]
    assert not any(cell[:1] in tuple("=+@") for row in raw for cell in row) and {row[1] for row in raw} == {"-0.5"}
    table = table_reader.read(tmp_path / "table.csv")
    assert table.columns["image"] == cells and "=note" in table.columns
    assert [row["image"] for row in RunFolder(tmp_path).read_table("table.csv")] == cells


def test_a_name_that_is_not_utf_8_loses_nothing(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_csv(tmp_path / "table.csv", ["image"], [{"image": name}, {"image": "café.png"}])
    assert table_reader.read(tmp_path / "table.csv").columns["image"] == ["caf\\udce9.png", "café.png"]
