"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from bida.errors import SettingsError
from bida.io.files import check_output, sidecar_path
from bida.mri.settings import Settings


def plan_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that say how the scan was made and what grid is wanted."""
    sub.add_argument("--spacing", metavar="auto|inplane|MM", type=_spacing,
                     help="voxel size of the result; auto: the finer in-plane size, within 0.1-0.25 mm")  # fmt: skip
    sub.add_argument("--factor", type=float, metavar="F", help="slice spacing over voxel size, instead of --spacing")
    sub.add_argument("--axis", choices=["R", "A", "S"], help="through-plane axis; default: the coarsest")
    sub.add_argument("--thickness", type=float, metavar="MM", dest="thickness_mm",
                     help="slice thickness (FWHM); default: the sidecar's, else the slice spacing")  # fmt: skip
    sub.add_argument("--gap", type=float, metavar="MM", dest="gap_mm", help="gap between slices; negative: overlap")
    sub.add_argument("--profile", metavar="slr|gaussian|box|FILE", help="slice profile; FILE: columns mm, amplitude")
    sub.add_argument("--like", metavar="FILE", help="put the result on this file's grid")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--scale-header", type=float, metavar="F", help="divide the header's voxel sizes and origin by F")
    sub.add_argument("--preset", choices=["paper"], help="settings as published; other options change them")
    sub.add_argument("--no-n4", dest="n4", action="store_false", help="leave the bias field where it is")
    sub.add_argument("--device", metavar="NAME", help="auto, cpu, cuda ...")
    sub.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], help="arithmetic of the network")
    sub.add_argument("--model", metavar="FILE", help="other weights than the released ones")


def prior_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that say what the priors are shown and asked for."""
    sub.add_argument("--steps", type=int, metavar="N", help="sampling steps (4)")
    sub.add_argument("--samples", type=int, metavar="K", help="draws to average (1); more: less error, more time")
    sub.add_argument("--guided", action=argparse.BooleanOptionalAction,
                     help="show the priors the interpolated scan (yes; as published: no)")  # fmt: skip
    sub.add_argument("--grain", action=argparse.BooleanOptionalAction,
                     help="draw the grain of scans, too (no; as published: yes)")  # fmt: skip


def _spacing(text: str) -> str | float:
    """Return a name as it is, a number as a number."""
    if text in ("auto", "inplane"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto, inplane or a number of mm, got {text!r}") from None


def training_options(sub: argparse.ArgumentParser, output: str, config: str) -> None:
    """Add the options of every training."""
    sub.add_argument("--output", default=output, metavar="DIR", help="checkpoints, logs, weights; resumes there")
    sub.add_argument("--config", action="append", default=[], metavar="FILE", help=f"a configuration over {config}")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                     help=f"override a value of {config}, as in --set epochs=100")  # fmt: skip


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the given options make, over a preset where one is named."""
    given = vars(arguments)
    options = {field.name: given[field.name] for field in fields(Settings) if field.name in given}
    if "self_check" in options:
        options["self_check"] = options["self_check"] == "on"
    return Settings.of(given.get("preset"), **options)


def check_outputs(
    scan: str, output: str, overwrite: bool, uncertainty: str | None = None, picture: str | None = None
) -> Path:
    """Check before any work that every file can be written and none is another or the scan's; return the first.

    Raises:
        ScanError: See ``bida.io.files.check_output``.
        SettingsError: Two of the files are one, or a file is the scan or its sidecar.
    """
    files = [check_output(output, overwrite=overwrite)]
    files.append(check_output(sidecar_path(output), overwrite=overwrite, suffixes=(".json",)))
    if uncertainty is not None:
        files.append(check_output(uncertainty, overwrite=overwrite))
    if picture is not None:
        files.append(check_output(picture, overwrite=overwrite, suffixes=(".png",)))
    source = Path(scan).resolve()
    taken = {source, sidecar_path(source)} if source.name else {source}  # the root folder has no name
    for file in files:
        if file.resolve() in taken:
            raise SettingsError(
                f"{file}: output must be a file of its own, not the scan's or another output's; rename it"
            )
        taken.add(file.resolve())
    return files[0]
