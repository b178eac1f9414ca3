"""What the pages say of files, keys, messages and versions is true, and README is short."""

import ast
import json
import re
import tomllib

import pytest
import yaml

import stochconv_jax
from stochconv_jax.config_rules import RULES
from tests.conftest import ROOT
from tests.docs.pages import PAGES, blocks, name

SECTIONS = {key.partition(".")[0] for key in RULES if "." in key}
ENDINGS = "csv|html|json|md|onnx|png|py|safetensors|stablehlo|txt"
KEY = re.compile(rf"(?<![-./\w])(?:config\.)?((?:{'|'.join(SECTIONS)})\.(?!(?:{ENDINGS})\b)[a-z_]+[a-z])\b(?![.(/])")
# What stands between the fixed parts of a message, on the page or in the code.
GAPS = re.compile(
    r"\.\.\.\.?|, and ROC|config\.[\w.]+\w=?|\); |/dev/shm|0\.\.1|=skip|cannot (?=write)|Read-only file system"
)
LINK = re.compile(r"\[[^]]*\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_name_files_and_headings(page):
    for match in LINK.finditer(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" in match["target"]:
            continue
        target = page.parent / match["target"]
        assert target.exists(), match[0]
        if match["anchor"] and target.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert match["anchor"][1:] in anchors, match[0]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_exist(page):
    words = re.findall(r"`([^`\n]+)`", page.read_text()) + [block.text for block in blocks(page)]
    named = {key for text in words for key in KEY.findall(text)}
    assert named <= RULES.keys(), named - RULES.keys()


def test_every_page_is_in_the_navigation():
    navigation = re.findall(r"[\w/-]+\.md", json.dumps(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(navigation) == len(set(navigation))
    made = {"index.md", "contributing.md", "changes.md"} | {
        f"notebooks/{file.stem}.md" for file in (ROOT / "docs" / "notebooks").glob("*.ipynb")
    }
    assert set(navigation) == made | {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}


def constants():
    """Returns every text in the package, with those that stand side by side joined and gaps for values."""
    texts = []
    for file in (ROOT / "stochconv_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_messages_are_those_of_the_program():
    """Compares the fixed parts of each message of the page; keys are written differently in the code."""
    texts = constants()
    page = ROOT / "docs" / "troubleshooting.md"
    messages = [block.text.strip() for block in blocks(page) if block.language == "text"]
    assert len(messages) > 20
    for message in messages:
        for part in GAPS.split(message):
            assert part.strip(" ?;") in texts, (message, part)


def test_citation_and_badges_are_those_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == stochconv_jax.__version__ and citation["license"] == "Apache-2.0"
    assert f"version = {{{stochconv_jax.__version__}}}" in (ROOT / "README.md").read_text()
    assert f"## {stochconv_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    from docs.draw_pictures import badges

    assert badges(project) == (ROOT / "docs" / "pictures" / "badges.svg").read_text()


def test_notebooks_have_outputs_and_install_first():
    notebooks = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 3
    for notebook in notebooks:
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        assert "pip" in "".join(cells[0]["source"]) and sum(bool(cell["outputs"]) for cell in cells) >= 3, notebook


def test_issue_templates_ask_for_the_config():
    for name_of in ("bug", "question"):
        form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name_of}.yml").read_text())
        assert any("config.json" in part["attributes"].get("label", "") for part in form["body"])
