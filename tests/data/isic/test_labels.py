"""Official label files have the counts that awk finds; small files test each format and each way to spoil it."""

import pytest

from stochconv_jax.data.isic import labels, rules
from stochconv_jax.data.isic.records import image_id
from tests.data.isic.files import FILES, write_all

REPORT = rules.parse("report")

# Rows and positives under the report's rule, by
#   2016 test        awk -F, '{sub(/\r$/,"")} {n++; p+=($2+0==1)} END{print n,p}' FILE
#   2016 training    awk -F, '{sub(/\r$/,"")} $1~/^ISIC_/{n++; p+=($2=="malignant")} END{print n,p}' FILE
#   2017             awk -F, 'NR>1{n++; p+=$2} END{print n,p}' FILE
#   2018 HAM10000    awk -F, 'NR>1{n++; p+=($3~/^(mel|bcc|akiec)$/)} END{print n,p}' FILE
#   2018             awk -F, 'NR>1{n++; p+=$2+$4+$5} END{print n,p}' FILE
#   2019             awk -F, 'NR>1{n++; p+=$2+$4+$5+$9} END{print n,p}' FILE
#   2020             awk -F, 'NR>1{n++; p+=/,malignant,/} END{print n,p}' FILE
#   metadata, pairs  awk 'NR>1{n++} END{print n}' FILE
OFFICIAL = {
    "2016/ISBI2016_ISIC_Part3_Test_GroundTruth.csv": (379, 75),
    "2016/ISBI2016_ISIC_Part3_Training_GroundTruth.csv": (900, 173),
    "2016/ISIC2016_Task3_Training_GroundTruth.csv": (900, 173),
    "2017/ISIC-2017_Test_v2_Part3_GroundTruth.csv": (600, 117),
    "2017/ISIC-2017_Training_Data_metadata.csv": (2000, 0),
    "2017/ISIC-2017_Training_Part3_GroundTruth.csv": (2000, 374),
    "2017/ISIC-2017_Validation_Data_metadata.csv": (150, 0),
    "2017/ISIC-2017_Validation_Part3_GroundTruth.csv": (150, 30),
    "2018/HAM10000_metadata.csv": (10015, 1954),
    "2018/ISIC2018_Task3_Test_GroundTruth.csv": (1512, 307),
    "2018/ISIC2018_Task3_Validation_GroundTruth.csv": (193, 44),
    "2019/ISIC_2019_Training_GroundTruth.csv": (25331, 9340),
    "2019/ISIC_2019_Training_Metadata.csv": (25331, 0),
    "2020/ISIC_2020_Test_Metadata.csv": (10982, 0),
    "2020/ISIC_2020_Training_Duplicates.csv": (425, 0),
    "2020/ISIC_2020_Training_GroundTruth.csv": (33126, 584),
    "2020/ISIC_2020_Training_GroundTruth_v2.csv": (33126, 584),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_file(shared_data, name):
    contents = labels.read(shared_data / "csv" / name)
    positives = sum(REPORT.target(row) == 1 for row in contents.records)
    assert (len(contents.records) + len(contents.pairs), positives) == OFFICIAL[name]
    if contents.records:
        assert {row.year for row in contents.records} == {name[:4]}
        labelled = "Metadata" not in name and "metadata.csv" not in name.replace("HAM10000_metadata", "")
        assert {row.labelled for row in contents.records} == {labelled}


def test_every_official_file_is_counted(shared_data):
    files = (shared_data / "csv").rglob("*.csv")
    assert {str(file.relative_to(shared_data / "csv")) for file in files} == OFFICIAL.keys()


@pytest.fixture
def read(tmp_path):
    """Returns a function that reads a label file with this content."""

    def read_content(content: bytes):
        file = tmp_path / "labels.csv"
        file.write_bytes(content)
        return labels.read(file)

    return read_content


@pytest.mark.parametrize(
    "name, year, targets",
    [
        ("2016_test.csv", "2016", [0, 1]),
        ("2016_train.csv", "2016", [0, 1]),
        ("2016_words.csv", "2016", [0, 1]),
        ("2017.csv", "2017", [0, 1, 0]),
        ("2017_metadata.csv", "2017", [None, None]),
        ("2018_ham.csv", "2018", [0, 1]),
        ("2018_test.csv", "2018", [1]),
        ("2019.csv", "2019", [0, 1, 0]),
        ("2019_metadata.csv", "2019", [None, None]),
        ("2020.csv", "2020", [0, 1, 0]),
        ("2020_v2.csv", "2020", [0]),
        ("2020_test.csv", "2020", [None]),
        ("own.csv", "", [1]),
    ],
)
def test_format(read, name, year, targets):
    rows = read(FILES[name]).records
    assert [REPORT.target(row) for row in rows] == targets
    assert {row.year for row in rows} == {year}


@pytest.mark.parametrize(
    "header, values",
    [
        ("image,target,patient", "x,1,IP_1"),
        ("image,target,lesion_id,diagnosis_confirm_type", "x,1,IL_1,histopathology"),
        ("image,target,age_approx,anatom_site_general,sex", "x,1,50,torso,male"),
        ("image,patient,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "x,IP_1,1,0,0,0,0,0,0"),
    ],
)
def test_labels_beside_metadata_are_not_passed_over(read, header, values):
    (record,) = read(f"{header}\n{values}\n".encode()).records
    assert REPORT.target(record) == 1


@pytest.mark.parametrize(
    "header, column",
    [
        ("image_name,patient_id,target", "target"),
        ("image_name,patient_id,sex,diagnosis,benign_malignant", "benign_malignant"),
        ("image,patient,label", "label"),
        ("image_id,age_approximate,sex,melanoma", "melanoma"),
        ("image,age_approx,anatom_site_general,sex,dx", "dx"),
    ],
)
def test_metadata_with_a_column_that_says_a_class_is_refused_with_its_header(read, header, column):
    with pytest.raises(ValueError, match=rf"'{header}' is that of 20.. metadata, but for {column}, which would not"):
        read(f"{header}\n{','.join('x' for _ in header.split(','))}\n".encode())


def test_what_else_a_file_says_is_kept(read):
    ham = read(FILES["2018_ham.csv"]).records[1]
    assert (ham.image, ham.lesion_id, ham.category, ham.diagnosis) == (
        "ISIC_0025030",
        "HAM_0000118",
        "AK",
        "actinic keratosis",
    )
    assert (ham.age, ham.sex, ham.site, ham.line) == ("80.0", "male", "scalp", 3)
    v2 = read(FILES["2020_v2.csv"]).records[0]
    assert (v2.patient_id, v2.lesion_id, v2.diagnosis, v2.category) == ("IP_1", "IL_1", "unknown", "UNK")
    assert [row.category for row in read(FILES["2020.csv"]).records] == ["UNK", "MEL", "BKL"]
    assert read(FILES["2017_metadata.csv"]).records[1].sex == ""  # 'unknown' is not known
    assert read(FILES["2019_metadata.csv"]).records[1].lesion_id == "BCN_0000001"
    assert read(FILES["2020_test.csv"]).records[0].patient_id == "IP_3"
    assert read(FILES["2020_duplicates.csv"]).pairs == (("ISIC_2637011", "ISIC_2637013"),)


def test_downsampled_is_the_same_picture(read):
    assert read(FILES["2019.csv"]).records[0].image == "ISIC_0000001"
    assert image_id(" ISIC_0000017_downsampled.JPG ") == "ISIC_0000017"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\r\n\r\n"])
def test_dialects(read, encoding, separator, ending):
    text = FILES["2017.csv"].decode().replace("\r\n", ending).replace(",", separator)
    assert [REPORT.target(row) for row in read(text.encode(encoding)).records] == [0, 1, 0]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"name,colour\nISIC_1,red\n", "header 'name,colour'"),
        (b"", "is empty"),
        (b"image,target\n", "no rows"),
        (b"image,target\nx,\xe4\n", "not in UTF-8-SIG .*save it as UTF-8"),
        (b"image,target\nx,yes\n", "labels.csv, row 2: target is 'yes'"),
        (b"image,target\nx,1,2\n", "row 2: 3 cells"),
        (b"image,target\n,1\n", "row 2: no image"),
        (b"image_name_1,image_name_2\nISIC_1,\n", "row 2: a cell without an image"),
        (b'image,target\n"x,1\n', "not a CSV file"),
        (b"img_id,Label\nISIC_1,bad\n", "row 2: the label is 'bad'"),
        (FILES["2017.csv"] + b"ISIC_9,1.0,1.0\n", "row 5: melanoma and seborrheic_keratosis"),
        (FILES["2018_test.csv"] + b"ISIC_9,1,1,0,0,0,0,0\n", "row 3: expected one category, found MEL and NV"),
        (FILES["2018_test.csv"] + b"ISIC_9,0,0,0,0,0,0,0\n", "row 3: expected one category, found none"),
        (FILES["2018_test.csv"] + b"ISIC_9,0.3,0.7,0,0,0,0,0\n", "row 3: MEL is '0.3'"),
        (FILES["2018_ham.csv"].replace(b"bkl", b"wart"), "row 2: 'wart' is none"),
        (FILES["2020.csv"].replace(b"malignant,1", b"malignant,0"), "row 3: benign_malignant is malignant and target"),
    ],
)
def test_refused(read, content, words):
    with pytest.raises(ValueError, match=words):
        read(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.csv cannot be read: No such file"):
        labels.read(tmp_path / "gone.csv")


def test_rules(tmp_path):
    rows = {row.where: row for file in write_all(tmp_path) for row in labels.read(file).records}

    def targets(rule, where):
        return rules.parse(rule).target(rows[where])

    assert targets("melanoma_only", "2018_test.csv, row 2") == 0  # BCC
    assert targets("melanoma_only", "2016_test.csv, row 2") == 1
    assert targets("melanoma_only", "2016_test.csv, row 1") == 0
    assert targets("categories", "2019.csv, row 3") == labels.CATEGORIES.index("SCC")
    assert targets("categories", "2016_test.csv, row 1") is None  # benign is no category
    assert targets("bkl=0, lentigo NOS=1", "2020.csv, row 4") == 1  # the diagnosis goes before its category
    assert targets("bkl=0, lentigo NOS=1", "2018_ham.csv, row 2") == 0
    assert targets("bkl=0, lentigo NOS=1", "2020.csv, row 3") is None
    assert targets("report", "own.csv, row 2") == 1  # its own target is believed
    assert targets("melanoma_only", "own.csv, row 2") == 0  # its diagnosis is a nevus


@pytest.mark.parametrize("rule", ["", "malignant", "MEL=", "MEL=1", "MEL=2,NV=0", "MEL=a,NV=0", "MEL=1,NV=0,mel=0"])
def test_a_rule_that_is_none(rule):
    with pytest.raises(ValueError, match=r"choose one of report|two classes|without a gap"):
        rules.parse(rule)
