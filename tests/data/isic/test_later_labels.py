"""The tables of ISIC 2024 and of the ISIC archive itself."""

import pytest

from stochconv_jax.data.isic import labels, merge, rules
from tests.data.isic.files import FILES, LATER_FILES

REPORT = rules.parse("report")


@pytest.fixture
def read(tmp_path):
    """Returns a function that reads a label file with this content."""

    def read_content(content: bytes):
        (file := tmp_path / "labels.csv").write_bytes(content)
        return labels.read(file)

    return read_content


@pytest.mark.parametrize(
    "name, form, year, targets",
    [
        ("2024.csv", "2024", "2024", [0, 1, 0]),
        ("2024_truth.csv", "2024", "2024", [0, 1]),
        ("2024_test.csv", "2024 metadata", "2024", [None]),
        ("archive.csv", "ISIC archive", "", [0, 1, None, None]),
        ("archive_words.csv", "ISIC archive", "", [0, 1, None]),
        ("archive_bare.csv", "ISIC archive metadata", "", [None]),
    ],
)
def test_format(read, name, form, year, targets):
    contents = read(LATER_FILES[name])
    assert contents.format == form and {row.year for row in contents.records} == {year}
    assert [REPORT.target(row) for row in contents.records] == targets
    assert [row.labelled for row in contents.records] == [target is not None for target in targets]


def test_what_a_row_says_besides_its_class(read):
    mole, melanoma, atypical = read(LATER_FILES["2024.csv"]).records
    assert (mole.image, mole.patient_id, mole.age, mole.site, mole.diagnosis, mole.category) == (
        *("ISIC_0015670", "IP_1235828", "60.0", "lower extremity", "Benign", "UNK"),
    )
    assert (melanoma.diagnosis, melanoma.category, melanoma.lesion_id) == ("Melanoma in situ", "MEL", "IL_6727506")
    assert atypical.malignant is False  # the challenge itself says so
    nevus, carcinoma, *others = read(LATER_FILES["archive.csv"]).records
    assert (nevus.diagnosis, nevus.category, nevus.lesion_id, nevus.sex) == ("Nevus", "NV", "IL_1641012", "male")
    assert (carcinoma.diagnosis, carcinoma.category, carcinoma.patient_id) == ("Basal cell carcinoma", "BCC", "IP_9")
    assert [row.sex for row in others] == ["", "female"]
    assert [row.diagnosis for row in read(LATER_FILES["archive_words.csv"]).records] == ["benign", "melanoma", ""]


@pytest.mark.parametrize(
    "diagnosis, category",
    [
        ("Melanoma Invasive", "MEL"),
        ("Nevus, Atypical, Dysplastic, or Clark", "NV"),
        ("Squamous cell carcinoma in situ", "SCC"),
        ("Solar or actinic keratosis", "AK"),
        ("Seborrheic keratosis", "BKL"),
        ("Pigmented benign keratosis", "BKL"),
        ("Dermatofibroma", "DF"),
        ("Scar", "UNK"),
        ("Nevus::Nevus, Spitz::Of some new kind", "NV"),  # the most specific level that has a category
    ],
)
def test_levels_of_a_diagnosis_have_the_categories_of_2019(read, diagnosis, category):
    (row,) = read(f'isic_id,target,iddx_full\nISIC_1,0,"Benign::{diagnosis}"\n'.encode()).records
    assert row.category == category


def test_a_class_of_ones_own_goes_before_the_archives(read):
    (row,) = read(b"isic_id,target,benign_malignant,attribution,copyright_license\nISIC_1,1,benign,x,CC-0\n").records
    assert row.target == 1 and row.malignant is None


def test_a_challenge_goes_before_the_archive_where_they_disagree(tmp_path):
    """The archive's rows are of no year; of 2019's image they add what 2019 does not have."""
    archive = b"isic_id,attribution,patient_id,diagnosis_1,diagnosis_2\nISIC_0025030,x,IP_1,Benign,Nevus\n"
    for name, content in {"2019.csv": FILES["2019.csv"], "archive.csv": archive}.items():
        (tmp_path / name).write_bytes(content)
    entries, conflicts = merge.merge(map(labels.read, sorted(tmp_path.iterdir())), REPORT)
    entry = entries["ISIC_0025030"]
    assert entry.target == 1 and entry.record.year == "2019" and entry.metadata["patient_id"] == "IP_1"
    assert [conflict.other.file.name for conflict in conflicts] == ["archive.csv"]


@pytest.mark.parametrize(
    "content, words",
    [
        (LATER_FILES["2024.csv"].replace(b",1,IP", b",2,IP"), "row 3: target is '2': expected 0 or 1"),
        (LATER_FILES["2024_truth.csv"] + b"ISIC_9,yes\n", "row 4: malignant is 'yes'"),
        (LATER_FILES["2024_test.csv"].replace(b"tbp_tile_type", b"mel"), "but for mel, which would not be read"),
    ],
)
def test_refused(read, content, words):
    with pytest.raises(ValueError, match=words):
        read(content)
