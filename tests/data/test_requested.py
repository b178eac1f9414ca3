"""Finds the images that a user asks predict and show for."""

import pytest

from stochconv_jax.data import requested


def find(path, **keys):
    return requested.find(str(path), "predict.images", **keys)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt", "x/1.png", "x/2.png", "y/1.png", "images[1]/in.png", "images1/no.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_names_are_relative_to_the_folder_or_to_where_the_pattern_begins(folder):
    assert find(folder).texts == ["a.jpg", "b.png"]
    assert find(folder / "*").texts == ["a.jpg", "b.png"]
    assert find(folder / "[xy]" / "*.png").texts == ["x/1.png", "x/2.png", "y/1.png"]
    assert find(folder / "x" / "*").texts == ["1.png", "2.png"]
    assert find(folder / "**" / "1.*").texts == ["x/1.png", "y/1.png"]
    assert find(folder / "b.png").texts == ["b.png"]
    for found in (find(folder), find(folder / "[xy]" / "*.png")):
        assert all(file.is_file() for file in found.files) and not any(found.reasons)


def test_what_is_there_goes_before_a_pattern(folder, monkeypatch):
    assert find(folder / "images[1]").texts == ["in.png"]
    assert find(folder / "images[1]" / "*.png").texts == ["in.png"]
    assert find(folder / "images[0-9]" / "*").texts == ["images1/no.png"]
    (folder / "i[1].png").touch()
    assert find(folder / "i[1].png").texts == ["i[1].png"]
    monkeypatch.chdir(folder)
    assert find("images[1]").texts == ["in.png"] and find("*.jpg").texts == ["a.jpg"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("nowhere", "there is no such file or folder"),
        ("nowhere.csv", "there is no such file or folder"),
        ("empty", "there is no image in a supported format"),
        ("*.bmp", "no file matches this pattern"),
        ("*.txt", "there is no image in a supported format"),
    ],
)
def test_what_is_missing_is_told_from_what_is_empty(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"config\.predict\.images='.*{message}"):
        find(folder / name)


def test_a_table_gives_every_row_in_its_order_with_the_reason_where_there_is_no_image(folder):
    (folder / "list.csv").write_text("age,image\n1,y/1\n2,gone.png\n3,b\n4,1.png\n5,\n6,y\\1.png\n")
    found = find(folder / "list.csv")
    assert found.texts == ["y/1", "gone.png", "b", "1.png", "", "y\\1.png"]
    assert [file and file.relative_to(folder).as_posix() for file in found.files] == [
        *("y/1.png", None, "b.png", None, None, "y/1.png")
    ]
    assert found.columns == {"age": list("123456")} and found.found.tolist() == [0, 2, 5]
    why = {1: "there is no image 'gone.png'", 3: "'1.png' may be any of x/1.png, y/1.png", 4: "no image is named"}
    for place, reason in enumerate(found.reasons):
        assert reason.startswith(why.get(place, "")) and bool(reason) == (place in why)
    assert found.source().names == ["1.png", "b.png", "1.png"]


def test_tables_together_have_the_columns_that_all_of_them_have(folder):
    (folder / "one.csv").write_text("age,site,image\n1,x,b\n2,y,gone\n")
    (folder / "two.csv").write_text("image,AGE,sex\nx/1,3,f\n")
    parts = [find(folder / name) for name in ("one.csv", "two.csv")]
    source = (both := requested.joined(parts)).source()
    assert both.texts == ["b", "gone", "x/1"] and both.columns == {"age": ["1", "2", "3"]}
    assert source.names == ["b.png", "1.png"] and source.columns == {"age": ["1", "3"]}
    assert [source.where(k) for k in range(2)] == [f"{folder}/one.csv, row 2", f"{folder}/two.csv, row 2"]
    assert source.origin == f"{folder}/one.csv and {folder}/two.csv"
    mixed = requested.joined([*parts, find(folder / "y")])
    assert mixed.texts[-1] == "1.png" and not mixed.columns and mixed.source().names == ["b.png", "1.png", "1.png"]


def test_tables_that_are_of_no_use(folder):
    (folder / "list.tsv").write_text("file\tage\nb.png\t1\n")
    with pytest.raises(ValueError, match=r"list\.tsv: .*column `image`, found \['file', 'age'\].*`image_column`"):
        find(folder / "list.tsv", image_column="name")
    assert find(folder / "list.tsv", image_column="file").texts == ["b.png"]
    (folder / "list.csv").write_text("image\ngone\n")
    with pytest.raises(ValueError, match="none of the 1 images can be used: there is no image 'gone'"):
        find(folder / "list.csv").source()


def test_a_picture_of_a_format_that_is_not_read_is_no_table(folder, monkeypatch):
    (folder / "photo.heic").write_bytes(b"ftyp")
    monkeypatch.setattr(requested.image_files, "images_of", lambda files: [])
    with pytest.raises(ValueError, match=r"predict\.images='.*photo\.heic': its format, HEIC, is not read"):
        find(folder / "photo.heic")
