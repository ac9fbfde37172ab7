"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from bida.errors import SettingsError, WeightsError
from bida.io.files import check_exists, check_output, own_files, sidecar_path
from bida.io.released import weights_file
from bida.mri.settings import PRESETS, Settings
from bida.options import options_of, yes_or_no
from bida.physics.plan import PlanOptions
from bida.physics.slice_profile import measured_thickness

SCANS = (
    "NIfTI, NRRD, MetaImage, MINC, MGH, AFNI, MRtrix, Analyze or GIPL file, folder of a DICOM series, or scan of a "
    "ParaVision study"
)
PLAN = (*options_of(PlanOptions), "volume", "scale_header", "series", "echo", "position", "subject")
PRIOR = ("steps", "samples", "guided", "grain")
STEPS = ("noise", "correct_slices", "n4")  # on the way from a scan to a network's input
MACHINE = ("device", "dtype", "model")


def add_settings(sub: argparse._ActionsContainer, described: type, names: Iterable[str] | None = None) -> None:
    """Add an argument for each option of a dataclass, or for those that are named.

    One that is not given stays out of the namespace: its default is the dataclass's, or a preset's.
    """
    described_by, types = options_of(described), {field.name: field for field in fields(described)}
    for name in described_by if names is None else names:
        one, kind, default = described_by[name], str(types[name].type), types[name].default
        flag = f"--{(one.flag or name).replace('_', '-')}"
        given: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": one.help + shown(default)}
        if kind == "bool" and not one.words:
            given["action"] = argparse.BooleanOptionalAction
        elif kind == "bool":
            on, off = one.words
            given |= {"type": on_or_off, "metavar": f"{on}|{off}", "help": f"{one.help} ({on if default else off})"}
        elif one.choices:
            given["choices"] = one.choices
        elif one.words:
            given |= {"type": partial(word_or_number, words=one.words), "metavar": "|".join((*one.words, one.value))}
        else:
            given |= {"type": {"int": int, "float": float}.get(kind.split(" ")[0], str), "metavar": one.value}
        sub.add_argument(flag, **given)


def shown(default: Any) -> str:
    """Return how the help of an option shows its default; nothing where its absence is the default."""
    if default is None:
        return ""
    return f" ({'yes' if default else 'no'})" if isinstance(default, bool) else f" ({default})"


def on_or_off(text: str) -> bool:
    """Return whether a text says yes."""
    try:
        return yes_or_no(text, "the value")
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def word_or_number(text: str, words: Sequence[str]) -> str | float:
    """Return a word as it is, a number as a number."""
    if text in words:
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {', '.join(words)} or a number, got {text!r}") from None


def preset_option(sub: argparse.ArgumentParser) -> None:
    """Add the option that names settings as published."""
    sub.add_argument("--preset", choices=list(PRESETS), help="settings as published; other options change them")


def training_options(sub: argparse.ArgumentParser, output: str, config: str) -> None:
    """Add the options of every training."""
    sub.add_argument("--output", default=output, metavar="DIR", help="checkpoints, logs, weights; resumes there")
    sub.add_argument("--config", action="append", default=[], metavar="FILE", help=f"a configuration over {config}")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                     help=f"override a value of {config}, as in --set epochs=100")  # fmt: skip


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the given options make, over a preset where one is named, before any heavy import.

    Raises:
        ScanError, SettingsError, WeightsError: An option is out of its range, or names a file that is not there.
    """
    given = {name: value for name, value in vars(arguments).items() if name in options_of(Settings)}
    settings = Settings.of(arguments.preset, **given)
    measured_thickness(str(settings.profile))
    if settings.like is not None:
        check_exists(settings.like)
    if settings.model is not None and not weights_file(settings.model).is_file():
        raise WeightsError(f"{settings.model}: weights must exist, none found; check --model")
    return settings


def check_outputs(
    scan: str,
    output: str,
    overwrite: bool,
    uncertainty: str | None = None,
    picture: str | None = None,
    draws: Sequence[Path] = (),
    read: Sequence[str | Path] = (),
) -> Path:
    """Check before any work that the scan is there, every file can be written and none is another; return the first.

    Raises:
        ScanError: See ``check_exists`` and ``check_output`` of ``bida.io.files``.
        SettingsError: Two of the files are one, or a file is the scan, its sidecar, or one of the others that are read.
    """
    check_exists(scan)
    files = [check_output(output, overwrite=overwrite, with_record=True)]
    files.append(check_output(sidecar_path(output), overwrite=overwrite, suffixes=(".json",)))
    files += [check_output(draw, overwrite=overwrite) for draw in draws]
    if uncertainty is not None:
        files.append(check_output(uncertainty, overwrite=overwrite))
    if picture is not None:
        files.append(check_output(picture, overwrite=overwrite, suffixes=(".png",)))
    taken = {file.resolve() for source in (scan, *read) for file in own_files(source)}
    for file in files:
        if file.resolve() in taken:
            raise SettingsError(
                f"{file}: output must be a file of its own, not the scan's, another that is read or another output's; "
                "rename it"
            )
        taken.add(file.resolve())
    return files[0]
