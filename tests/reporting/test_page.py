"""The written report is complete, contains all that it needs, and opens in a browser without an error."""

import csv
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from configs import default
from stochconv_jax.modes import report
from tests.conftest import PATIENCE
from tests.reporting.folders import SPLIT, THUMBNAIL, write

pytestmark = pytest.mark.smoke
HARD = "_<b>|`x`$"  # a folder's name may be anything


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns the folder of a report of four models, one without a config, and of a run that is left out."""
    root = tmp_path_factory.mktemp("runs")
    images = [(f"i{k}", k % 2, (k * 7 % 10) / 10 + 0.05 * (k % 2)) for k in range(20)]
    passes = {"evaluation": {"roc_auc_by_passes": [0.7, 0.75, 0.8]}}
    for seed in (0, 1, 2):
        areas = [0.6, 0.7, 0.7 + 0.02 * seed]
        write(root / "b0" / f"seed_{seed}", areas, config=THUMBNAIL, seed=seed, predictions=images)
        better = [0.6, 0.8, 0.85 + 0.01 * seed]
        write(root / HARD / f"seed_{seed}", better, config=SPLIT, seed=seed, predictions=images, **passes)
    write(root / "theirs", [0.6, 0.65], columns=("epoch", "val_roc_auc"))
    write(root / "endless", [0.6, 0.64], seconds=float("inf"))
    write(root / "empty", [], config=SPLIT)
    report.run(default.get_config(), {}, str(root))
    return root


def test_every_file_is_written_and_markdown_names_the_pictures(written):
    pictures = {"curves", "parameters", "time", "passes", "calibration", "roc"}
    files = {file.name for file in (written / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in pictures for kind in ("png", "svg")}
    text = (written / "report.md").read_text()
    assert set(re.findall(r"\(figures/(\w+)\.png\)", text)) == pictures
    for file in (written / "figures").glob("*.png"):
        with Image.open(file) as image:
            low, high = image.convert("L").getextrema()
            assert image.width > 700 and low < 100 and high == 255
    assert r"_\<b>\|\`x\`$" in text and "empty/metrics.csv: no finished epoch" in text
    # A bar in a cell must be escaped, so that every line of the table has the same columns.
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:5]}) == 1
    assert "**0.8600 [0.8352, 0.8848]**" in text  # 0.85, 0.86, 0.87: 4.302653 * 0.01 / sqrt(3) = 0.0248
    assert "better than b0" in text


def test_the_csv_has_the_numbers_with_all_their_digits(written):
    with (written / "results.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert list(rows) == [HARD, "b0", "theirs", "endless"]
    assert float(rows[HARD]["last_value"]) == pytest.approx(0.86) and rows[HARD]["seeds"] == "0 1 2"
    assert float(rows[HARD]["difference_value"]) == pytest.approx(0.14) and rows[HARD]["baseline"] == "b0"
    assert rows["b0"]["baseline"] == "" and rows["theirs"]["parameters"] == rows["theirs"]["last_low"] == ""


def test_the_same_runs_give_the_same_report(written):
    files = [written / "report.html", written / "report.md", written / "results.csv"]
    before = [file.read_bytes() for file in files]
    report.run(default.get_config(), {}, str(written))
    assert before == [file.read_bytes() for file in files]


def test_the_page_needs_nothing_but_itself(written):
    page = (written / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", page) and "<script" not in page
    links = re.findall(r"""(?:src|href|data|action)\s*=\s*["']([^"']*)""", page)
    assert len(links) == 7 and all(link.startswith(("data:", "#")) for link in links)
    assert "<b>" not in page and "&lt;b&gt;" in page


def test_the_page_opens_in_a_browser_without_an_error(written, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium on the PATH: install Debian's package chromium to open the page in it")
    page = (written / "report.html").read_text()
    shown, errors = opened(browser, page, tmp_path)
    assert not errors, errors
    assert shown.count("<figure>") == 6 and "</html>" in shown
    # The test finds a picture that cannot be drawn and one that is not in the page.
    for fault in ("data:image/png;base64,AAAA", "figures/none.png"):
        _, errors = opened(browser, re.sub(r'src="data:[^"]*"', f'src="{fault}"', page, count=1), tmp_path)
        assert any("no picture" in error for error in errors)


def opened(browser, page, folder):
    """Returns the page as a browser shows it, and the lines of the browser's console."""
    # The page has no script of its own; this one reports a picture that was not drawn.
    check = "for(const i of document.images)if(!i.naturalWidth)console.error('no picture')"
    probe = f"<script>onload=()=>{{{check}}}</script>"
    file = folder / "page.html"
    file.write_text(page.replace("</body>", probe + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command = [browser, *flags, f"--user-data-dir={folder}/user", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_report_imports_no_training_code():
    code = "import sys, stochconv_jax.modes.report; print(sorted({'jax', 'flax', 'grain'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
