"""What mkdocs needs to show files that lie outside its folder: pages of them, and links to them."""

from __future__ import annotations

import argparse
import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "readme.md": "README.md",
    "model_card.md": "models/MODEL_CARD.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
MATH = "method.md"  # the page with formulas, which a browser shows by itself as MathML
OPTIONS = "commands.md"  # the page of every command and its options, and where on it they go
LISTED = "<!-- every command and its options, from the parser, by docs/hooks.py -->"
FETCHED = re.compile(
    r"""<(?:script|img|iframe|link(?! rel="canonical"))[^>]*\s(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page's text: of a file from outside it is that file's, with links as they are on the site."""
    place = page.file.src_uri
    file = PurePosixPath(PAGES.get(place, f"docs/{place}"))
    text = (ROOT / file).read_text(encoding="utf-8") if place in PAGES else markdown
    text = LINK.sub(lambda found: linked(found, file.parent), text)
    if place == OPTIONS:
        text = text.replace(LISTED, commands())
    return formulas(text) if place == MATH else text


def commands() -> str:
    """Return a section for every command: what it does, and a table of its options, as its parser has them.

    An option that says the same as that of `superres` is named without its words.
    """
    from bida.cli import parser as shell

    subs = shell.parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr, index]
    parts, of_superres = [], {}
    for name, text in shell.COMMANDS.items():
        rows = rows_of(subs[name])  # type: ignore[index]
        own = {option: row for option, row in rows.items() if of_superres.get(option) != row}
        shared = [f"`{option}`" for option in rows if option not in own]
        parts += [
            f"### bida {name}",
            "",
            f"{text[0].upper()}{text[1:]}.",
            "",
            "| | |",
            "| --- | --- |",
            *own.values(),
            "",
        ]
        parts += [f"As those of `bida superres`: {', '.join(shared)}.", ""] if shared else []
        of_superres = of_superres or {option: row for option, row in rows.items() if option.startswith("-")}
    return "\n".join(parts)


def rows_of(command: argparse.ArgumentParser) -> dict[str, str]:
    """Return a command's options by their longest names, each as a row of a table: how it is given, what it does."""
    formatter, found = command._get_formatter(), {}
    for action in command._actions:
        given = formatter._format_action_invocation(action)
        does = formatter._expand_help(action)
        for mark, shown in (("|", "&#124;"), ("{", "&#123;"), ("<", "&lt;")):  # which Markdown would take for its own
            does = does.replace(mark, shown)
        name = next((one for one in action.option_strings if one.startswith("--")), given)
        found[name] = f"| `{given}` | {does} |"
    found.pop("--help")
    return found


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn of what a page would fetch from elsewhere: the site is read without a network, too."""
    for found in FETCHED.findall(output):
        logging.getLogger("mkdocs.hooks").warning(f"{page.file.src_uri}: must fetch nothing, it has {found}")
    return output


def formulas(text: str) -> str:
    """Return a text with its LaTeX, between dollars, as MathML; code is left as it is."""
    from latex2mathml.converter import convert

    def shown(one: re.Match[str]) -> str:
        display = one[1] is not None
        tag, latex = (
            ("div", one[1]) if display else ("span", one[2])
        )  # else a line that begins with one is no paragraph
        return f"<{tag}>{convert(latex.strip(), display='block' if display else 'inline')}</{tag}>"

    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"\$\$(.+?)\$\$|\$([^$]+?)\$", shown, parts[i], flags=re.DOTALL)
    return "".join(parts)


def linked(found: re.Match[str], folder: PurePosixPath) -> str:
    """Return a link as the site has it; what it does not hold, such as source files, is named without one."""
    mark, text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    path, hash_, anchor = target.partition("#")
    file = os.path.normpath(folder / path)
    if not (ROOT / file).exists():
        return found[0]  # mkdocs says that it leads nowhere
    on_site = {source: page for page, source in PAGES.items()}
    if file in on_site:
        return f"{mark}[{text}]({on_site[file]}{hash_}{anchor})"
    if file.startswith("docs/") and (ROOT / file).is_file():
        return f"{mark}[{text}]({file.removeprefix('docs/')}{hash_}{anchor})"
    return text if "`" in text or text == file else f"{text} (`{file}`)"
