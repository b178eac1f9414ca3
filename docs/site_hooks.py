"""Hooks of mkdocs: pages from files of the repository and from notebooks, and links between all of them.

Pages link to each other as files of the repository do, so that the links also work where the repository is read.
"""

import json
import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(?P<before>\[(?P<text>[^]\[]*)\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
PICTURE = re.compile(r"<picture>.*?</picture>", re.DOTALL)


def on_files(files, config):
    """Adds a page for each file of `PAGES` and for each notebook."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=notebook_page(notebook)))
    return files


def on_page_markdown(markdown, page, **_):
    """Returns the page with its links as the site needs them, and its theme's picture for light and for dark."""
    source = next((name for name, made in PAGES.items() if made == page.file.src_uri), f"docs/{page.file.src_uri}")
    markdown = PICTURE.sub(_both_pictures, markdown)

    def relink(match):
        target, anchor = match["target"], match["anchor"] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        path = path.removesuffix("ipynb") + "md" if path.endswith(".ipynb") else path
        if path in PAGES:
            path = f"docs/{PAGES[path]}"
        if path == "docs/notebooks":
            path = "docs/notebooks/windows.md"
        if not path.startswith("docs/"):
            return match["text"]  # a file of the repository that is no page
        return f"{match['before']}{posixpath.relpath(path, posixpath.dirname('docs/' + page.file.src_uri))}{anchor})"

    return LINK.sub(relink, markdown)


def _both_pictures(match):
    """Returns the two pictures of a <picture> of README, each shown in one of the theme's palettes."""
    alt = re.search(r'alt="([^"]*)"', match[0])[1]
    dark, light = (re.search(rf'{name}="([^"]*)"', match[0])[1] for name in ("srcset", "src"))
    return f"![{alt}]({light}#only-light)\n![{alt}]({dark}#only-dark)"


def notebook_page(file: pathlib.Path) -> str:
    """Returns a notebook as Markdown with its outputs, and with a link to the file below its first cell."""
    parts = []
    for cell in json.loads(file.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        else:
            parts.append(f"```python\n{text}\n```")
            parts += [_output(output) for output in cell["outputs"]]
    download = f'<a href="{file.name}" download>Download this notebook</a>'
    parts.insert(1, f"{download} to run it in Jupyter or in Colab, see [Notebooks](../start.md#notebooks).")
    return "\n\n".join(parts)


def _output(output: dict) -> str:
    """Returns an output of a cell as Markdown: a picture if there is one, else its Markdown or its text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="the figure that this cell draws" src="data:image/png;base64,{picture}">'
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{''.join(text).rstrip()}\n```"
