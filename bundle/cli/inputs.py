"""What a command takes, read off its parser, for programs that call it: Boutiques, Nipype."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any

from bida.cli.options import on_or_off
from bida.cli.parser import COMMANDS, parser
from bida.errors import SettingsError

# by their name in the namespace: what must be there before a run, and what a run writes
READ = ("words", "like", "bids_dir", "bids_filter_file")
WRITTEN = ("out", "uncertainty", "preview", "out_dir")
FLAG, SWITCH, NUMBER, WHOLE, MIXED, TEXT, FILE = "flag", "switch", "number", "whole", "mixed", "text", "file"


@dataclass(frozen=True)
class Input:
    """An argument of a command.

    Attributes:
        name: In the namespace, or of an option that stands for one value its own, as ``quiet``.
        flag: Its long form, such as ``--no-n4``; None where its place says which it is.
        kind: `FLAG`, `SWITCH` (on or off behind the flag), `NUMBER`, `WHOLE` (a number), `MIXED` (a number, or a word
            as auto), `TEXT` or `FILE` (that is read).
        help: What it means.
        off: The flag that says no, where there is one.
        many: Whether it takes several values.
        choices: The only values there are; any when empty.
        required: Whether it must be given.
        written: Whether it names what the command writes.
    """

    name: str
    flag: str | None
    kind: str
    help: str
    off: str | None = None
    many: bool = False
    choices: tuple[str, ...] = ()
    required: bool = False
    written: bool = False


def inputs_of(command: str) -> list[Input]:
    """Return what a command takes, in the order of its help.

    Raises:
        SettingsError: There is no such command.
    """
    if command not in COMMANDS:
        raise SettingsError(f"{command}: must be a command, got none of {', '.join(COMMANDS)}; correct it")
    return [_input(action) for action in of_command(command)._actions if action.dest != "help"]


def exclusive(command: str) -> list[tuple[str, ...]]:
    """Return the names of inputs of which one alone may be given."""
    groups = of_command(command)._mutually_exclusive_groups
    return [tuple(_input(action).name for action in group._group_actions) for group in groups]


def of_command(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command alone."""
    commands = parser([command])._subparsers
    assert commands is not None
    return commands._group_actions[0].choices[command]  # type: ignore[index, return-value]


def _input(action: argparse.Action) -> Input:
    long = [flag for flag in action.option_strings if flag.startswith("--")]
    flag, off = long[0] if long else None, None
    if isinstance(action, argparse.BooleanOptionalAction):
        off = long[1]
    return Input(
        (flag or "").strip("-") if isinstance(action, argparse._StoreConstAction) and action.const not in (True, False)
        else action.dest,
        flag,
        _kind(action),
        action.help or "",
        off,
        action.nargs in ("*", "+"),
        ("on", "off") if action.type is on_or_off else tuple(map(str, action.choices or ())),
        action.required and action.nargs != "*",
        action.dest in WRITTEN,
    )  # fmt: skip


def _kind(action: argparse.Action) -> str:
    kinds: dict[Any, str] = {
        int: WHOLE,
        float: NUMBER,
        str: TEXT,
        None: TEXT,
        on_or_off: SWITCH,
    }
    if action.nargs == 0:
        return FLAG
    if action.dest in READ or (action.dest == "combine" and action.nargs == "+"):
        return FILE
    if isinstance(action.type, partial):  # of word_or_number
        return MIXED
    return kinds[action.type]
