"""The documentation: its commands are ones that bida takes, and its pages are all on the site."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from bida.cli.parser import COMMANDS, main, parser
from bida.io.nifti import write_volume
from bida.mri.synthetic_brain import synthetic_brain

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


@pytest.mark.slow
def test_the_five_minutes_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run = [words_of(command) for command, whole in commands(text) if whole]
    assert {words[0] for words in run} == {"demo", "info", "superres", "simulate", "strip"}
    for words in run:
        assert main(words) == 0, words
    printed = capsys.readouterr().out
    verdict = r"^(?:    )?on this scan: ([\d.]+) dB better than interpolation, by its own slices$"
    (told,) = re.findall(verdict, text, re.MULTILINE)
    gains = re.findall(verdict, printed, re.MULTILINE)
    assert float(gains[0]) == pytest.approx(float(told), abs=0.15)  # a tenth by the processor's arithmetic
    (methods,) = re.findall(r'id="methods">(.*?)</p>', Path("demo/isotropic.html").read_text(encoding="utf-8"))
    (quoted,) = re.findall("^> (.*)$", (ROOT / "docs" / "using.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert without_numbers(methods) == without_numbers(quoted)
    named = re.findall(r"`(demo/[\w./]+)`", text)
    assert len(named) > 3 and all((tmp_path / name).is_file() for name in named)


def without_numbers(text: str) -> str:
    """Return a sentence without its figures and the weights' hash, which differ from release to release."""
    return re.sub(r"\d+(\.\d+)*", "#", re.sub(r"weights \w+", "weights", text.replace("\\", "")))


SAMPLE = ("scan.nii.gz", "cor.nii.gz", "ax.nii.gz", "scans")  # as the pages name scans
WRITTEN = re.compile(r"(both|out|scan_isotropic|brain_mask|std)\.nii\.gz|scan\.png|results")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scans of the built-in brain, named as the pages name them."""
    folder = tmp_path_factory.mktemp("sample")
    write_volume(folder / "truth.nii.gz", *synthetic_brain(0.3))
    made = ["simulate", f"{folder / 'truth.nii.gz'}", f"{folder / 'one.nii.gz'}", "--factor", "2.5", "--axis", "A", "S"]
    assert main(made) == 0
    (folder / "scans").mkdir()
    for name, axis in {"scan": "cor", "cor": "cor", "ax": "ax", "scans/mouse": "cor"}.items():
        for suffix in (".nii.gz", ".json"):
            shutil.copy(folder / f"one_acq-{axis}{suffix}", folder / f"{name}{suffix}")
    return folder


def on_the_sample() -> list[str]:
    """Return the commands of the pages whose files are those of the sample, or are written, each once."""
    found = {}
    for page in PAGES:
        for command, _ in commands(page.read_text(encoding="utf-8")):
            words = [word.rstrip("/") for word in words_of(command)]
            files = [word for word in words if "." in word or word in {"scans", "results"}]
            files = [word for word in files if not re.fullmatch(r"[\d.]+", word)]
            known = all(word in SAMPLE or WRITTEN.fullmatch(word) for word in files)
            if known and words[0] in COMMANDS and "--scheduler" not in words and any(word in SAMPLE for word in files):
                found[shlex.join(words)] = None
    return list(found)


def test_there_are_commands_to_run() -> None:
    assert {shlex.split(command)[0] for command in on_the_sample()} >= {"info", "superres", "strip"}


@pytest.mark.slow
@pytest.mark.parametrize("command", on_the_sample())
def test_what_needs_nothing_else_runs(
    command: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in sample.iterdir():
        (tmp_path / one.name).symlink_to(one)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    cells = [one for one in jupytext.read(ROOT / "docs" / "notebook.md").cells if one.cell_type == "code"]
    assert len(cells) > 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, 1):
        exec(compile(cell.source, f"notebook.md, cell {number}", "exec"), names)
    assert (tmp_path / "brain_isotropic.json").is_file()


def sentences(text: str) -> set[str]:
    """Return a page's sentences and rows of tables of twelve words or more, without what marks them up."""
    plain = re.sub(r"\]\([^)]*\)|[`*\[\]]", "", text)
    found = re.split(r"(?<=[.:])\s+|\n\s*\n|\n(?=[|#-])", plain)
    return {" ".join(one.split()) for one in found if len(re.findall(r"[^\W_]+", one)) >= 12}


def test_no_page_repeats_another() -> None:
    pages = [*PAGES, ROOT / "models" / "MODEL_CARD.md"]
    of: dict[str, set[str]] = {}
    for page in pages:
        for one in sentences(page.read_text(encoding="utf-8")):
            of.setdefault(one, set()).add(page.name)
    assert len(of) > 1000
    assert {one: names for one, names in of.items() if len(names) > 1} == {}


def test_every_page_is_on_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert yaml.safe_load(text)["strict"] is True
