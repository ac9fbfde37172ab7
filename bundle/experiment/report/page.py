"""Pieces of a self-contained HTML page; every text that is given is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c1c1c;
  background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin-bottom: 0.3rem; }
h2 { font-size: 1.3rem; margin-top: 2.6rem; border-bottom: 2px solid #0072b2; padding-bottom: 0.2rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
p, li, dd { max-width: 50rem; }
code, pre { font: 0.88em/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: #f3f4f6; border-radius: 3px; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.7em 0.9em; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 0.88rem; margin: 0.6rem 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #444; padding-bottom: 0.3rem; }
th, td { padding: 0.22rem 0.7rem; text-align: right; border-bottom: 1px solid #e3e3e3; vertical-align: top; }
td { white-space: nowrap; }
td.text { white-space: normal; }
thead th { border-bottom: 1.5px solid #777; vertical-align: bottom; }
tbody th { font-weight: 600; }
th:first-child, td.text, th.text { text-align: left; }
.wide { overflow-x: auto; }
.brief { background: #eef6fb; border-left: 4px solid #0072b2; padding: 0.4rem 1.2rem; margin: 1.2rem 0; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: 0.9rem; max-width: 50rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 50rem); gap: 0.2rem 1.4rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: #005a8c; margin: 0.6rem 0; }
@media print { body { max-width: none; margin: 0; } details > * { display: block; } }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def page(title: str, sections: Iterable[str]) -> str:
    """Return a whole document of a title and sections of HTML."""
    return _PAGE.substitute(title=escape(title), body="\n".join(filter(None, sections)))


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>\n"


def paragraph(text: str) -> str:
    """Return a paragraph, nothing for no text."""
    return f"<p>{escape(text)}</p>\n" if text else ""


def code(text: str) -> str:
    """Return a block of code, its line breaks kept."""
    return f"<pre>{escape(text)}</pre>\n"


def brief(content: str) -> str:
    """Return HTML set apart in a coloured box."""
    return f'<div class="brief">{content}</div>\n'


def bullets(items: Iterable[str]) -> str:
    """Return a list, nothing where there is no item."""
    lines = "".join(f"<li>{escape(item)}</li>\n" for item in items)
    return f"<ul>\n{lines}</ul>\n" if lines else ""


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Return names with what they stand for, nothing where there is none."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in items)
    return f"<dl>\n{lines}</dl>\n" if lines else ""


def folded(title: str, content: str) -> str:
    """Return HTML that opens when its title is clicked, without a script; nothing for no content."""
    return f"<details><summary>{escape(title)}</summary>\n{content}</details>\n" if content else ""


def table(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str = "", text_columns: int = 1) -> str:
    """Return a table, nothing where there is no line.

    Args:
        head: Titles of the columns.
        lines: A cell a column; the first names the line.
        caption: Line over the table.
        text_columns: So many columns, from the left, hold words; the others hold numbers, set to the right.
    """

    def cells(tag: str, scope: str, values: Sequence[str], first: int) -> str:
        return "".join(
            f"<{tag}{scope}{' class=text' if number < text_columns else ''}>{escape(value)}</{tag}>"
            for number, value in enumerate(values, first)
        )

    body = "".join(
        f"<tr>{cells('th', ' scope=row', line[:1], 0)}{cells('td', '', line[1:], 1)}</tr>\n" for line in lines
    )
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    names = f"<thead><tr>{cells('th', ' scope=col', head, 0)}</tr></thead>"
    return f'<div class="wide"><table>{top}{names}\n<tbody>\n{body}</tbody></table></div>\n' if body else ""


def image(picture: bytes, description: str, caption: str) -> str:
    """Return a PNG embedded in the page, with what it shows for who cannot see it, and a caption."""
    data = base64.b64encode(picture).decode("ascii")
    source = f'<img src="data:image/png;base64,{data}" alt="{escape(description)}">'
    return f"<figure>{source}<figcaption>{escape(caption)}</figcaption></figure>\n"
