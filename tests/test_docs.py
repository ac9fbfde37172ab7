"""The documentation: its commands are ones that bida takes, and its pages are all on the site."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from bida.cli.parser import COMMANDS, parser

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?: {4}|)(?:\$ )?(bida [^\n]*?(?:\\\n[^\n]*?)*)$", re.MULTILINE)
INLINE = re.compile(r"`(bida [^`\n]+)`")
MISSING = re.compile("the following arguments are required|expected .* arguments?")
SPOKEN = ("...", "…", "[", "<")  # of a command that stands for many


def commands(text: str) -> list[tuple[str, bool]]:
    """Return the commands of a page, and whether each is whole: one that stands in a sentence may name no files."""
    code = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    indented = "\n".join(line for line in text.splitlines() if line.startswith("    ") or line.startswith("        "))
    whole = [(one, True) for block in (code, indented) for one in BLOCK.findall(block)]
    return [*whole, *((one, False) for one in INLINE.findall(text))]


def words_of(command: str) -> list[str]:
    """Return a command's words, without what a comment, another command or a file behind it adds."""
    line = re.sub(r"\s+#.*$", "", command.replace("\\\n", " "), flags=re.MULTILINE)
    words = shlex.split(re.split(r"\s(?:&&|\||;|>|2>)\s", line)[0].rstrip(";:,."))
    return words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_bida_takes(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = []
    for command, whole in commands(page.read_text(encoding="utf-8")):
        if any(mark in command for mark in SPOKEN):
            continue
        words = words_of(command)
        if not words or words[0] not in COMMANDS:
            continue
        try:
            parser([words[0]]).parse_args(words)
        except SystemExit as left:
            said = capsys.readouterr().err.strip()
            if left.code and (whole or not MISSING.search(said)):
                refused.append(f"{command}: {said}")
    assert refused == []


def test_commands_are_found() -> None:
    block = "\n\n    bida superres a.nii \\\n        b.nii  # done\n\n"
    found = commands(f"In a line, `bida info scan.nii.gz`.{block}```sh\nbida demo\n```\n")
    assert [words_of(one) for one, _ in found] == [["demo"], ["superres", "a.nii", "b.nii"], ["info", "scan.nii.gz"]]
    assert [whole for _, whole in found] == [True, True, False]
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 80


def test_every_page_is_on_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert yaml.safe_load(text)["strict"] is True
