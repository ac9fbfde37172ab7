"""Options described once: a dataclass's fields hold name, type, default and meaning; commands are made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from bida.errors import SettingsError

Class = TypeVar("Class", bound=type)


YES, NO = ("true", "on", "yes", "1"), ("false", "off", "no", "0")


def yes_or_no(value: Any, name: str) -> bool:
    """Return whether a value says yes, at every door: a command, a configuration, MONAI's command line, Python.

    Args:
        value: True or False, 1 or 0, or one of the words of `YES` and `NO` in any case.
        name: what an error calls it.

    Raises:
        SettingsError: It says neither.
    """
    word = str(value).strip().lower()
    if isinstance(value, str | bool | int | np.bool_ | np.integer) and word in (*YES, *NO):
        return word in YES
    words = ", ".join(f"{yes}/{no}" for yes, no in zip(YES, NO))
    raise SettingsError(f"{name}: must be yes or no ({words}), got {value!r}; correct it")


@dataclass(frozen=True)
class Option:
    """What a field means to a user.

    Attributes:
        help: One phrase, with the unit.
        value: What stands for its value in the help of a command, such as ``MM``.
        choices: The only values there are; any when empty.
        words: Names that stand beside numbers, as ``auto`` does for a spacing.
        flag: Its name in a command, without dashes, where that is not the field's.
    """

    help: str
    value: str = ""
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    flag: str = ""

    def allowed(self) -> str:
        """Return the values that there are, where they are names."""
        names = self.choices or tuple(part for part in self.value.split("|") if part.islower())
        return f"; one of {', '.join(names)}{' or a file' if 'FILE' in self.value else ''}" if names else ""


def option(
    default: Any,
    help: str,
    value: str = "",
    *,
    choices: Sequence[str] = (),
    words: Sequence[str] = (),
    flag: str = "",
) -> Any:
    """Return a dataclass's field that knows what it means to a user, see `Option`."""
    return field(default=default, metadata={"option": Option(help, value, tuple(choices), tuple(words), flag)})


def options_of(described: Any) -> dict[str, Option]:
    """Return the options among a dataclass's fields, by the name of the field."""
    return {one.name: one.metadata["option"] for one in fields(described) if "option" in one.metadata}


def documented(described: Class) -> Class:
    """Add the meaning of every option, with its default, to the docstring of a dataclass."""
    defaults = {one.name: one.default for one in fields(described)}
    options = options_of(described)
    lines = [f"    {name}: {one.help}{one.allowed()} ({defaults[name]!r})." for name, one in options.items()]
    described.__doc__ = "\n".join([(described.__doc__ or "").rstrip(), "", "Options, each with its default:", *lines])
    return described
