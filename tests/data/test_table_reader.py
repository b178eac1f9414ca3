"""Tables as people and programs write them: training, prediction and preparation read the same of each."""

import numpy as np
import PIL.Image
import pytest

from stochconv_jax.data import requested, table_reader
from stochconv_jax.data.isic import labels
from stochconv_jax.data.sources import FolderSource

COUNT = 6
NAMES = [f"i{number}" for number in range(COUNT)]
TARGETS = [number % 2 for number in range(COUNT)]


@pytest.fixture
def folder(tmp_path):
    """Images in a folder `images`, beside which tables are written."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def text(separator=",", head=("image", "target"), name="{}", target="{}", end="\n"):
    """Returns the text of a table of all images."""
    rows = [(name.format(image), target.format(number)) for image, number in zip(NAMES, TARGETS)]
    return "".join(separator.join(row) + end for row in (head, *rows))


DIALECTS = {
    "plain": text().encode(),
    "semicolon": text(";").encode(),
    "tab": text("\t").encode(),
    "spaces": text(", ").encode(),
    "CR LF": text(end="\r\n").encode(),
    "CR": text(end="\r").encode(),
    "byte order mark": text().encode("utf-8-sig"),
    "UTF-16": text().encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + text("\t").encode("utf-16-be"),
    "UTF-16 without a mark": text(";").encode("utf-16-le"),
    "quotes": text(name='"{}"', target='"{}"', head=('"image"', '"target"')).encode(),
    "a quoted header with another separator": text(head=("image", "target"), end=',"x;y"\n')
    .replace('target,"x;y"', 'target,"a;b;c;d"', 1)
    .encode(),
    "capitals": text(head=("Image", "TARGET")).encode(),
    "spaces in the header": text(head=(" image ", " target ")).encode(),
    "floats": text(target="{}.0").encode(),
    "floats with a comma": text(";", target="{},0").encode(),
    "endings": text(name="{}.png").encode(),
    "paths": text(name="images/{}.png").encode(),
    "paths of Windows": text(name="images\\{}.png").encode(),
    "paths from elsewhere": text(name="C:\\Users\\me\\images\\{}").encode(),
    "image_name": text(head=("image_name", "target")).encode(),
    "isic_id": text(head=("isic_id", "target")).encode(),
    "pandas' index": ("\ufeff," + text().replace("\n", "\n0,", COUNT)).encode(),
    "columns without a name": text(end=",,\n").encode(),
    "empty cells beyond the header": text(end=",,\n").replace(",,", "", 1).encode(),
    "a line for Excel": ("sep=;\n" + text(";")).encode(),
    "empty lines": ("\n" + text() + "\n,\n").encode(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_mode_reads_every_dialect(folder, dialect):
    file = folder / "table.csv"
    file.write_bytes(DIALECTS[dialect])
    source = FolderSource.from_csv(str(folder / "images"), str(file), num_classes=2)
    assert source.names == [f"{name}.png" for name in NAMES] and source.labels.tolist() == TARGETS
    found = requested.find(str(file), "predict.images")
    assert [path.name for path in found.files] == source.names and list(found.texts) == source.texts
    rows = labels.read(file).records
    assert [row.image for row in rows] == NAMES and [row.target for row in rows] == TARGETS


def test_the_text_of_the_cell_is_kept_beside_the_name_of_the_file(folder):
    (folder / "table.csv").write_bytes(DIALECTS["paths of Windows"])
    source = FolderSource.from_csv(str(folder / "images"), str(folder / "table.csv"), num_classes=2)
    assert source.texts == [f"images\\{name}.png" for name in NAMES]


def test_columns_are_named_by_key(folder):
    file, columns = folder / "table.csv", {"image_column": "File", "target_column": "label 1"}
    file.write_text(text(head=("file", "Label 1"), end=",7,x\n").replace(",7,x", ",target,image", 1))
    source = FolderSource.from_csv(str(folder / "images"), str(file), num_classes=2, **columns)
    assert source.names == [f"{name}.png" for name in NAMES] and source.labels.tolist() == TARGETS
    rows = labels.read(file, **columns).records
    assert [row.image for row in rows] == NAMES and [row.target for row in rows] == TARGETS
    assert list(requested.find(str(file), "predict.images", "FILE").texts) == NAMES
    for key, right in columns.items():
        with pytest.raises(ValueError, match=rf"table\.csv: no column colour; .*with `{key}`$"):
            wrong = columns | {key: "colour"}
            FolderSource.from_csv(str(folder / "images"), str(file), num_classes=2, **wrong)
        assert right


def test_kaggles_table_of_2020_as_it_is(folder):
    head = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    rows = [f"{n},IP_{n},male,45.0,head/neck,unknown,{('benign', 'malignant')[t]},{t}" for n, t in zip(NAMES, TARGETS)]
    (folder / "train.csv").write_text("\n".join([head, *rows]))
    source = FolderSource.from_csv(str(folder / "images"), str(folder / "train.csv"), num_classes=2)
    assert source.names == [f"{name}.png" for name in NAMES] and source.labels.tolist() == TARGETS
    assert source.columns["patient_id"][1] == "IP_i1"
    contents = labels.read(folder / "train.csv")
    assert contents.format == "2020" and [row.malignant for row in contents.records] == list(map(bool, TARGETS))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"image,target,image\ni1,0,i2\n", r"two columns are called 'image'"),
        (b"image,target,Target\ni1,0,1\n", r"two columns are called 'target'"),
        ("image,target\nä,0\n".encode("latin-1"), r"is not in UTF-8.*save it as UTF-8"),
        (text().encode("utf-16")[:-1], r"is not in UTF-16"),
        (b'image,target\n"i1,0\n', r"row 2: not a CSV file"),
        (b"image,target\ni1\n", r"row 2: 1 cells, and the header has 2"),
        (b"image,target\ni1,0\n\ni2,0,x\n", r"row 4: 3 cells, and the header has 2"),
        (b"", r"is empty"),
        (b"\n,,\n", r"is empty"),
    ],
)
def test_what_is_no_table_is_named_in_every_mode(folder, content, message):
    file = folder / "table.csv"
    file.write_bytes(content)
    for read in (
        lambda: FolderSource.from_csv(str(folder / "images"), str(file), num_classes=2),
        lambda: requested.find(str(file), "predict.images"),
        lambda: labels.read(file),
    ):
        with pytest.raises(ValueError, match=rf"table\.csv.*{message}"):
            read()


def test_what_a_class_is():
    written = {"0": 0, "12": 12, "1.0": 1, "1.": 1, "2.000": 2, "1,0": 1, "007": 7}
    assert {cell: table_reader.class_number(cell) for cell in written} == written
    for none in ("", "-1", "+1", "0.5", "1.5", "1e0", "nan", "benign", "1 0", "1_0", ".0", "½", "²"):
        assert table_reader.class_number(none) is None, none


def test_random_tables_come_back_whatever_separates_them(folder):
    """Compares with csv's own writer: cells with separators, quotes, line breaks and letters of any kind."""
    import csv

    random, letters = np.random.default_rng(0), list(" ,;\t\n\"'=+-@ab1é\u0301日")
    for trial in range(60):
        cells = [["".join(random.choice(letters, random.integers(1, 6))).strip() for _ in range(3)] for _ in range(4)]
        cells = [row for row in cells if not any(cell.startswith("'") for cell in row) and any(row)]
        separator = ",;\t"[trial % 3]
        with (folder / "table.csv").open("w", newline="", encoding=("utf-8", "utf-16")[trial % 2]) as file:
            csv.writer(file, delimiter=separator).writerows([["a", "b", "c"], *cells])
        assert [row for _, row in table_reader.read_rows(folder / "table.csv")][1:] == cells
