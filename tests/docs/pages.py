"""The pages of the documentation, and the commands and examples on them."""

import dataclasses
import re
import textwrap

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r'^ *```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^ *```', re.MULTILINE | re.DOTALL
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block. `title`: the file that it shows; '' if none."""

    language: str
    title: str
    text: str


def blocks(page) -> list[Block]:
    """Returns the fenced blocks of a page, in order, without those that include a file."""
    matches = FENCE.finditer(page.read_text())
    found = [Block(match["language"], match["title"] or "", textwrap.dedent(match["text"])) for match in matches]
    return [block for block in found if not block.text.startswith("--8<--")]


def shell_commands(page) -> list[str]:
    """Returns the commands of all blocks of shell of a page."""
    return [command for block in blocks(page) if block.language == "sh" for command in commands(block.text)]


def example(page) -> str:
    """Returns the Python of a page as one program, without the files that it shows."""
    return "\n".join(block.text for block in blocks(page) if block.language == "python" and not block.title)


def commands(text: str) -> list[str]:
    """Returns the commands of a block of shell, each with its continued lines, without comments."""
    lines = text.replace("\\\n", "\0").splitlines()
    return [re.sub(r"\s+# .*", "", line).replace("\0", "\\\n") for line in lines if line.strip()]


def name(page) -> str:
    """Returns the page's path in the repository."""
    return page.relative_to(ROOT).as_posix()
