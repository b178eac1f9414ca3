"""--mode=prepare in a folder that an earlier run has filled, with other libraries or formats than that run had."""
import cv2
import pytest

from stochconv_jax.data.isic import pictures
from tests.modes.isic_archive import run, times, tree


@pytest.mark.parametrize(
    "module, name, words",
    [
        (cv2, "__version__", rf"opencv {cv2.__version__}, which is now next"),
        (pictures, "VERSION", r"preparation 1, which is now next"),
    ],
)
def test_what_other_versions_have_prepared_is_made_again_and_said_once(
    archive, tmp_path, monkeypatch, caplog, module, name, words
):
    """Otherwise a run that goes on after an update would mix two kinds of pixels."""
    workdir = run(tmp_path / "run", raw=archive)
    before = times(workdir)
    monkeypatch.setattr(module, name, "next")
    with caplog.at_level("INFO"):
        run(workdir, raw=archive)
    assert "0 of 25 images are prepared already" in caplog.text
    assert caplog.text.count(f"{workdir} holds images prepared with {words}; it is made again") == 1
    units = {file for file in before if file.startswith("units")}
    assert units and all(times(workdir)[file] > before[file] for file in units)
    caplog.clear()
    with caplog.at_level("INFO"):
        run(workdir, raw=archive)
    assert "25 of 25 images are prepared already" in caplog.text


@pytest.mark.parametrize(
    "first, then, left",
    [
        (("folder",), ("tfds",), "images and .*test of an earlier run with 'folder'"),
        (("tfds",), ("folder",), "tfds of an earlier run with 'tfds'"),
        (("folder", "tfds"), ("folder",), "tfds of an earlier run with 'tfds'"),
    ],
)
def test_a_format_left_out_later_is_refused(archive, tmp_path, first, then, left):
    """Its files would stay as they are while labels.csv changes."""
    workdir = run(tmp_path / "run", raw=archive, formats=first)
    before = tree(workdir), times(workdir)
    with pytest.raises(ValueError, match=rf"config\.prepare\.formats=.*{left}.*remove what is there"):
        run(workdir, raw=archive, formats=then, jpeg_quality=80)
    assert (tree(workdir), times(workdir)) == before


@pytest.mark.parametrize("first", [("folder",), ("tfds",)])
def test_a_format_may_be_added(archive, prepared, tmp_path, first):
    workdir = run(tmp_path / "run", raw=archive, formats=first)
    run(workdir, raw=archive)
    assert tree(workdir) == tree(prepared)
