"""Writes the report as Markdown, and as one HTML file that contains its pictures."""

import base64
import dataclasses
import html
import pathlib
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts; `bold` has the (row, column) of cells in bold type."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] | set[tuple[int, int]] = frozenset()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in the files `name`.png and `name`.svg of the folder figures, and its caption."""

    name: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the report: a title, then paragraphs, a table, pictures and a list of items."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    items: Sequence[str] = ()


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 80rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: bottom; }
th { font-weight: 600; border-bottom: 2px solid #555; }
th:first-child, td:first-child, th.words, td.words { text-align: left; }
td { vertical-align: top; white-space: nowrap; }
td.words { white-space: normal; min-width: 14rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
figure img { width: 100%; max-width: 32rem; }
figcaption { font-size: .85rem; color: #444; max-width: 32rem; }
""".strip()

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def to_markdown(title: str, sections: Iterable[Section]) -> str:
    """Returns the report as Markdown, with its pictures as links to figures/NAME.png."""
    blocks = [f"# {_plain(title)}"]
    for section in sections:
        blocks += [f"## {section.title}", *map(_plain, section.paragraphs)]
        if section.table:
            blocks.append(_markdown_table(section.table))
        blocks += [f"![{_plain(p.caption)}](figures/{p.name}.png)\n\n{_plain(p.caption)}" for p in section.pictures]
        if section.items:
            blocks.append("\n".join(f"- {_plain(item)}" for item in section.items))
    return "\n\n".join(blocks) + "\n"


def to_text(table: Table) -> str:
    """Returns the table with aligned columns, for a terminal."""
    lines = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _markdown_table(table: Table) -> str:
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)]]
    for row, cells in enumerate(table.rows):
        cells = map(_plain, cells)
        lines.append([f"**{cell}**" if (row, column) in table.bold else cell for column, cell in enumerate(cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Escapes the characters of Markdown, which may occur in folders' names."""
    for character in "\\`*<|":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def to_html(title: str, sections: Iterable[Section], figures: pathlib.Path) -> str:
    """Returns the report as an HTML page that contains the SVG files of the folder `figures`."""
    body = []
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
        if section.table:
            body.append(_html_table(section.table))
        if section.pictures:
            body.append('<div class="pictures">')
            body += [_html_picture(picture, figures) for picture in section.pictures]
            body.append("</div>")
        if section.items:
            body += ["<ul>", *(f"<li>{html.escape(item)}</li>" for item in section.items), "</ul>"]
    return PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(body))


def _html_table(table: Table) -> str:
    # The column of words is aligned left, numbers are aligned right.
    kinds = [' class="words"' if name == "in words" else "" for name in table.columns]
    lines = ["".join(f"<th{kind}>{html.escape(name)}</th>" for kind, name in zip(kinds, table.columns))]
    for row, cells in enumerate(table.rows):
        texts = [html.escape(cell) for cell in cells]
        texts = [f"<strong>{t}</strong>" if (row, column) in table.bold else t for column, t in enumerate(texts)]
        lines.append("".join(f"<td{kind}>{text}</td>" for kind, text in zip(kinds, texts)))
    rows = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n{rows}\n</table></div>'


def _html_picture(picture: Picture, figures: pathlib.Path) -> str:
    data = base64.b64encode((figures / f"{picture.name}.svg").read_bytes()).decode()
    caption = html.escape(picture.caption)
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{caption}">'
    return f"<figure>{image}\n<figcaption>{caption}</figcaption></figure>"
