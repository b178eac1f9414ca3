"""Each picture is once in the merge of all years; the report has every row; groups are connected."""

import collections
import dataclasses
import itertools
import pathlib

import numpy as np
import pytest

from stochconv_jax.data.isic import labels, merge, output_tables, rules
from tests.data.isic.files import FILES, write_all

REPORT = rules.parse("report")


def read_all(folder: pathlib.Path) -> list[labels.Contents]:
    return [labels.read(file) for file in sorted(folder.rglob("*.csv"))]


@pytest.fixture
def drawn(tmp_path):
    """The contents of small label files of each year."""
    write_all(tmp_path, FILES.keys() - {"own.csv"})
    return read_all(tmp_path)


def test_later_year_wins_and_conflicts_are_listed(drawn):
    entries, conflicts = merge.merge(drawn, REPORT)
    assert list(entries) == sorted(entries)
    assert entries["ISIC_0000003"].record.year == "2017" and entries["ISIC_0000003"].target == 1
    # Benign in 2016, twice, and melanoma in 2017.
    assert [(c.kept.file.name, c.other.file.name) for c in conflicts] == [
        ("2017.csv", "2016_train.csv"),
        ("2017.csv", "2016_words.csv"),
    ]
    assert entries["ISIC_0025030"].record.diagnosis == "squamous cell carcinoma"  # HAM10000 said akiec: the same class
    assert entries["ISIC_0025030"].metadata["lesion_id"] == "HAM_0000118"  # which 2019's row does not know


def test_within_a_year_and_a_file_the_last_row_wins(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"img_id,Label\nISIC_1,benign\nISIC_1,malignant\n")
    entries, conflicts = merge.merge(read_all(tmp_path), REPORT)
    assert entries["ISIC_1"].target == 1
    assert [(c.kept.line, c.other.line) for c in conflicts] == [(3, 2)]


def test_metadata_joins_by_id(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    assert entries["ISIC_2637011"].metadata == {
        "patient_id": "IP_1",
        "lesion_id": "IL_1",
        "age": "45",
        "sex": "male",
        "site": "head/neck",
    }
    assert entries["ISIC_0000001"].metadata["age"] == "55"
    test = entries["ISIC_0052060"]
    assert test.target is None and test.metadata["patient_id"] == "IP_3"
    assert not merge.find_without_class(entries, REPORT)


def test_official_duplicates(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    pairs = [pair for content in drawn for pair in content.pairs]
    dropped, conflicts = merge.find_duplicates(entries, {}, pairs)
    reason = "on the official list as a duplicate of ISIC_2637011"
    assert dropped == {"ISIC_2637013": merge.Drop(reason, "ISIC_2637011")} and not conflicts


def test_duplicates_of_another_class_and_in_a_chain(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    chain = [("ISIC_0060000", "ISIC_2637012"), ("ISIC_2637012", "ISIC_0027419"), ("ISIC_2637012", "ISIC_nowhere")]
    dropped, conflicts = merge.find_duplicates(entries, {}, [], chain)
    assert dropped.keys() == {"ISIC_0060000", "ISIC_0027419"}  # ISIC_2637012 is of the latest year
    assert sorted(c.other.image for c in conflicts) == ["ISIC_0027419", "ISIC_0060000"]


def test_every_row_is_accounted_for(drawn):
    entries, conflicts = merge.merge(drawn, REPORT)
    dropped, _ = merge.find_duplicates(entries, {}, [("ISIC_2637011", "ISIC_2637013")])
    report = merge.report(drawn, entries, dropped, REPORT)
    assert len(report) == sum(len(content.records) for content in drawn)
    assert all(line["reason"] for line in report if line["status"] != "kept")
    kept = [line["image"] for line in report if line["status"] == "kept"]
    assert sorted(kept) == [name for name in entries if name not in dropped]  # each once
    reasons = {(line["file"], line["row"]): line["reason"] for line in report}
    assert reasons["2016_test.csv", 1] == "the same image as 2019.csv, row 2"
    assert reasons["2019_metadata.csv", 2] == "joined to 2019.csv, row 2"

    table = {line["year"]: line for line in merge.summary(entries, dropped, conflicts, REPORT)}
    assert table["2016"] | {"kept_positives": 0} == {
        "year": "2016",
        "rows": 6,
        "positives": 3,
        "unique_ids": 4,
        "duplicates": 4,  # 1 is in 2019; 3 in 2017, twice; 4 was read twice
        "conflicts": 2,
        "dropped": 0,
        "kept": 2,
        "kept_positives": 0,
    }
    for line in table.values():
        assert line["rows"] == line["duplicates"] + line["dropped"] + line["kept"]
    assert table["all"]["rows"] == 19 and table["all"]["kept"] == len(kept) - 1  # all but the test image


def test_a_diagnosis_without_a_class_is_dropped(drawn):
    rule = rules.parse("MEL=1,NV=0")
    entries, _ = merge.merge(drawn, rule)
    dropped = merge.find_without_class(entries, rule)
    assert dropped["ISIC_0034524"] == merge.Drop("no class for 'basal cell carcinoma' in the rule mapping")
    assert merge.summary(entries, dropped, [], rule)[-1]["dropped"] == len(dropped) == 6


@pytest.mark.parametrize("seed", range(20))
def test_connected_names_are_one_set_and_no_others(seed):
    """Compares with sets that are joined until no two have a name in common."""
    random = np.random.default_rng(seed)
    pairs = [tuple(pair) for pair in random.choice(list("abcdefghijkl"), (random.integers(0, 12), 2)).tolist()]
    sets = [set(pair) for pair in pairs]
    for _ in pairs:
        for one, other in itertools.combinations(sets, 2):
            if one & other:
                sets = [kept for kept in sets if kept not in (one, other)] + [one | other]
                break
    assert {frozenset(names) for names in merge.connected(pairs)} == set(map(frozenset, sets))
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    firsts = [found[0] for found in merge.connected(pairs)]
    assert firsts == sorted(firsts, key=names.index)  # in the order of first appearance


def test_groups(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    group = dict(zip(entries, merge.groups(list(entries.values()), [("ISIC_0000002", "ISIC_0034524")])))
    assert group["ISIC_2637011"] == group["ISIC_2637013"] == "IP_1"
    assert group["ISIC_0027419"] == group["ISIC_0025030"] == "HAM_0000118"
    assert group["ISIC_0000002"] == group["ISIC_0034524"] == "ISIC_0000002"
    assert group["ISIC_0000004"] == "ISIC_0000004"


def test_a_copy_that_was_dropped_ties_the_kept_image_to_its_patient(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    patient = "ISIC_2637011"
    assert entries[patient].metadata["patient_id"] and not entries["ISIC_0000004"].metadata["patient_id"]
    dropped = {patient: merge.Drop(f"{merge.SIMILAR} of ISIC_0000004", "ISIC_0000004")}
    rows = output_tables.label_rows(list(entries.values()), dropped, [(patient, "ISIC_0000004")])
    group = {row["image"]: row["group"] for row in rows}
    assert group["ISIC_0000004.jpg"] == group["ISIC_2637013.jpg"] == "IP_1"
    labelled = [name for name, entry in entries.items() if name not in dropped and entry.target is not None]
    assert list(group) == [f"{name}.jpg" for name in labelled]


@pytest.mark.parametrize("between", ["damaged", "without a class", "in no label file"])
@pytest.mark.parametrize("official", [0, 1, 2])
def test_pairs_tie_through_an_image_that_is_not_in_the_data(drawn, between, official):
    """The pairs A-B and B-C say that A and C show one picture, whatever became of B, from whichever lists."""
    entries, _ = merge.merge(drawn, REPORT)
    middle = "ISIC_9999999" if between == "in no label file" else "ISIC_0060000"
    dropped = {middle: merge.Drop("no image file")} if between == "damaged" else {}
    if between == "without a class":
        entries[middle] = dataclasses.replace(entries[middle], target=None)
    pairs = [("ISIC_0000004", middle), (middle, "ISIC_2637012")]
    duplicates, conflicts = merge.find_duplicates(entries, dropped, pairs[:official], pairs[official:])
    reason = merge.OFFICIAL if official == 2 else merge.SIMILAR
    assert duplicates == {"ISIC_0000004": merge.Drop(f"{reason} of ISIC_2637012", "ISIC_2637012")} and not conflicts


def test_groups_tie_through_an_image_that_is_not_in_the_data(drawn):
    entries, _ = merge.merge(drawn, REPORT)
    dropped = {"ISIC_0060000": merge.Drop("no image file")}
    pairs = [("ISIC_0000004", "ISIC_0060000"), ("ISIC_0060000", "ISIC_2637012")]
    group = {row["image"]: row["group"] for row in output_tables.label_rows(list(entries.values()), dropped, pairs)}
    assert group["ISIC_0000004.jpg"] == group["ISIC_2637012.jpg"] == "IP_2"
    assert "ISIC_0060000.jpg" not in group


# awk, over all ground-truth files with `_downsampled` removed, gives the latest year's class to each id; then a class
# counts for the latest year. It found 60234 ids, 10285 positives and 3 ids whose years disagree:
#   function put(i,y,t){gsub(/_downsampled/,"",i); if(!(i in Y)||y>=Y[i]){if((i in T)&&T[i]!=t)c++; Y[i]=y;T[i]=t}
#                       else if(T[i]!=t)c++}
#   {sub(/\r$/,"")} f~/2016/&&$1~/^ISIC_/{put($1,2016,$2=="malignant"||$2+0==1)} f~/2017/&&FNR>1{put($1,2017,$2+0)}
#   f~/HAM/&&FNR>1{put($2,2018,$3~/^(mel|bcc|akiec)$/)} f~/ISIC2018/&&FNR>1{put($1,2018,$2+$4+$5)}
#   f~/2019/&&FNR>1{put($1,2019,$2+$4+$5+$9)} f~/2020/&&FNR>1{put($1,2020,/,malignant,/)}
#   END{for(i in T){n[Y[i]]++;p[Y[i]]+=T[i]} for(y in n)print y,n[y],p[y]; print c}
KEPT = {
    "2016": (67, 10),
    "2017": (5, 0),
    "2018": (1705, 351),
    "2019": (25331, 9340),
    "2020": (33126, 584),
    "all": (60234, 10285),
}


def test_merge_of_all_years(shared_data):
    contents = read_all(shared_data / "csv")
    entries, conflicts = merge.merge(contents, REPORT)
    table = {line["year"]: line for line in merge.summary(entries, {}, conflicts, REPORT)}
    assert {year: (line["kept"], line["kept_positives"]) for year, line in table.items()} == KEPT
    assert len({conflict.other.image for conflict in conflicts}) == 3
    # grep of the three ids: benign in both training files of 2016, melanoma since.
    assert [(c.kept.year, c.other.year) for c in conflicts] == [("2019", "2016")] * 6
    pairs = [pair for content in contents for pair in content.pairs]
    dropped, between_copies = merge.find_duplicates(entries, {}, pairs)
    assert len(dropped) == 425 and not between_copies
    report = merge.report(contents, entries, dropped, REPORT)
    assert len(report) == sum(len(content.records) for content in contents)
    status = collections.Counter(line["status"] for line in report)
    assert status["kept"] == 60234 - 425 + 10982  # with the test images of 2020
