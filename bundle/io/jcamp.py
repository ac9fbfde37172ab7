"""ParaVision's parameter files, which are JCAMP-DX, as brukerapi parses them; every value is checked when asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

_REPEATED = re.compile(r"@\s*(\d+)\s*\*")  # how ParaVision 360 shortens arrays
_MOST_VALUES = 1_000_000  # of a parameter that is written so


@dataclass(frozen=True)
class ParameterFile:
    """A file of parameters.

    Attributes:
        file: where it is.
        values: brukerapi's parameters by name.
    """

    file: Path
    values: Any

    def error(self, text: str) -> ScanError:
        """Return an error that names the file, and the cure."""
        return ScanError(f"{self.file}: {text}; copy the study again, or export it as NIfTI")

    def value(self, name: str, default: Any = None) -> Any:
        """Return a parameter as brukerapi reads it."""
        if name not in self.values:
            return default
        try:
            return self.values[name].value
        except Exception as error:  # of a damaged text it raises nearly anything
            raise self.error(f"{name} must be readable, got '{' '.join(str(error).split())[:200]}'") from error

    def text(self, name: str) -> str:
        """Return a parameter as one line of text, empty where it is missing."""
        return " ".join(str(self.value(name, "")).split())[:80]

    def words(self, name: str, default: str) -> list[str]:
        """Return a parameter as a list of words."""
        value = self.value(name, default)
        several = value.ravel().tolist() if isinstance(value, np.ndarray) else value
        return [str(one)[:80] for one in several] if isinstance(several, list) else [str(several)[:80]]

    def numbers(self, name: str, width: int, least: float | None = None) -> NDArray[np.float64]:
        """Return the finite numbers of a parameter, a multiple of `width` of them, whole ones where there is a least.

        Raises:
            ScanError: it is missing or something else.
        """
        value = self.value(name)
        try:
            found = np.asarray([] if value is None else value, dtype=np.float64).ravel()
        except (ValueError, TypeError):
            found = np.array([np.nan])
        if not found.size or found.size % width or not np.isfinite(found).all():
            shown = "none" if value is None else " ".join(str(value).split())[:60]
            raise self.error(f"{name} must be {width if width > 1 else 'a'} finite number(s) each, got {shown}")
        if least is not None and (found.size != width or (found < least).any() or (found != np.floor(found)).any()):
            raise self.error(f"{name} must be whole numbers from {least:g} on, got {found.tolist()}")
        return found


def parser(path: Path) -> Any:
    """Return what parses a parameter file.

    Raises:
        ScanError: brukerapi is not installed.
    """
    try:
        from brukerapi.jcampdx import JCAMPDX
    except ImportError as error:
        raise ScanError(
            f"{path}: reading ParaVision needs brukerapi, it is not installed; pip install 'bida-mri[bruker]'"
        ) from error
    return JCAMPDX


def parsed(file: Path) -> Any:
    """Return the parameters of a file by name, as brukerapi reads them.

    Raises:
        ScanError: brukerapi is not installed, or the file is missing or damaged.
    """
    parse = parser(file)
    if not file.is_file():
        raise ScanError(f"{file}: a reconstruction must have its parameters, got none; copy the study again")
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        if max((int(count) for count in _REPEATED.findall(text)), default=0) > _MOST_VALUES:
            raise ValueError("a parameter of more than a million values")
        return parse(file)
    except Exception as error:  # of a damaged text it raises nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ScanError(f"{file}: must be a whole parameter file, got '{reason}'; copy the study again") from error
