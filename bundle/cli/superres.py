"""`bida superres`: restore a scan."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bida.cli.many import add_many_options, refuse, run_many
from bida.cli.options import PLAN, SCANS, add_settings, check_outputs, preset_option, settings_of
from bida.errors import SettingsError
from bida.io.checkpoints import discard_used
from bida.io.claim import claimed, will_write
from bida.io.files import check_output, discard, make_folder, recorded, result_path, sidecar_path, stem
from bida.io.find import SCANS as SUFFIXES
from bida.mri.settings import EVERY, Settings
from bida.options import options_of
from bida.progress import adapt_progress, console_progress, note, say

if TYPE_CHECKING:
    from bida.mri.result import Result


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument(
        "words",
        nargs="*",
        metavar="SCAN ... OUT",
        help=f"SCAN: {SCANS}; OUT: NIfTI file to write (.nii or .nii.gz), a .json beside it records the run. Many "
        "scans, or a folder of them, go to a folder: SCAN SCAN -o DIR",
    )
    sub.add_argument(
        "--combine",
        nargs="+",
        metavar="SCAN",
        help="make one volume of several scans of one animal and contrast, on the grid of the first; with -o OUT",
    )
    sub.add_argument("-o", "--output", dest="out", metavar="OUT", help="the file to write; of many scans the folder")
    add_settings(sub, Settings)
    preset_option(sub)
    sub.add_argument(
        "--uncertainty", metavar="FILE", help="write the error's standard deviation; of a single draw there is none"
    )
    sub.add_argument(
        "--keep-draws", action="store_true", help="write each draw, too, beside the result: NAME_draw-1.nii.gz ..."
    )
    sub.add_argument("--keep-dtype", action="store_true", help="write the scan's integer type instead of float32")
    sub.add_argument("--preview", metavar="FILE.png", help="draw scan, cubic interpolation and result")
    sub.add_argument(
        "--labels",
        action="store_true",
        help="SCAN is a label map or a mask: put it on the grid of the result by nearest neighbour",
    )
    add_many_options(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> int | None:
    """Restore a scan, and write the volume, its record and what else was asked for; or many scans."""
    settings = settings_of(arguments)
    if is_folder(arguments):
        return run_folder(arguments, settings)
    refuse(arguments, ("workers", "scheduler", "json", "dry_run"), "is for many scans, got one; -o DIR takes many")
    scans, out = scans_and_output(arguments)
    first = scans[0]
    if arguments.labels:
        put_labels(first, out, settings, arguments)
        return None
    if settings.volume == EVERY:
        words = ("combine", "keep_draws", "preview", "report")
        refuse(arguments, words, f"is for one volume, got --volume {EVERY}")
    with claimed(*outputs_of(out, arguments, settings)):
        restore_and_write(scans, out, settings, arguments)
    return None


def outputs_of(out: str, arguments: argparse.Namespace, settings: Settings) -> list[Path]:
    """Return the files that a run writes, but those whose folder can't be written, which checks tell later.

    Raises:
        SettingsError: See ``draw_paths``.
    """
    named = [Path(one) for one in (out, arguments.uncertainty, arguments.preview) if one is not None]
    named += draw_paths(out, settings) if arguments.keep_draws else []
    named += [page_of(out)] if arguments.report else []
    return [file for file in named if file.parent.is_dir() and os.access(file.parent, os.W_OK)]


def restore_and_write(scans: list[str], out: str, settings: Settings, arguments: argparse.Namespace) -> None:
    """Restore a scan, or several, and write all files; no other run writes them meanwhile."""
    first = scans[0]
    overwrite, uncertainty, picture = arguments.overwrite, arguments.uncertainty, arguments.preview
    kept = draw_paths(out, settings) if arguments.keep_draws else []
    if arguments.report:
        check_output(page_of(out), overwrite=overwrite, suffixes=(".html",))
    output = Path(out)
    checkpoint = output.with_name(f"{stem(output)}_adapt.ckpt")  # of an adaptation that is cut off
    discard_used(checkpoint, sidecar_path(output))
    for scan in scans:
        output = check_outputs(scan, out, overwrite, uncertainty, picture, kept, files_read(settings))
    if uncertainty is not None:
        check_uncertainty(settings)
    dtype = integer_type(first, settings) if arguments.keep_dtype else np.dtype(np.float32)

    from bida.io.nifti import write_volume
    from bida.io.own_results import description
    from bida.mri.memory import bound_freed_blocks
    from bida.mri.pipeline import restore

    bound_freed_blocks()
    if settings.adapt is not None:
        check_output(checkpoint, overwrite=True, suffixes=(".ckpt",))
    draws: list[NDArray[np.float32]] = []
    on_draw = draws.append if kept else None
    hooks = (console_progress(), on_draw, adapt_progress(), checkpoint)
    if arguments.combine is None:
        result = restore(first, settings, *hooks)
    else:
        from bida.mri.combine import restore_combined

        result = restore_combined(scans, settings, *hooks)
    for warning in result.warnings:
        note(warning)
    will_write(output, [sidecar_path(output), *outputs_of(out, arguments, settings)])
    result.save(output, dtype, overwrite=overwrite)
    if uncertainty is not None and result.std is not None:
        said = description("uncertainty")
        write_volume(uncertainty, result.std, result.affine, result.header, overwrite=overwrite, says=said)
    for path, draw in zip(kept, draws):
        write_volume(path, draw, result.affine, result.header, dtype, overwrite=overwrite, says=description())
    discard(checkpoint)
    if picture is not None:
        draw_preview(picture, first, settings, result)
    if arguments.report:
        from bida.mri.qc import write_page

        write_page(page_of(output), first, settings, result, overwrite=overwrite)
    elif os.path.isfile(page_of(output)):
        from bida.report.viewer import is_own_page

        if is_own_page(page_of(output)):  # it shows the result that was there before
            page_of(output).unlink()
    say(summary(output, result, settings, result.record_as(dtype)))


def page_of(output: str | Path) -> Path:
    """Return the page beside a result."""
    return Path(output).with_name(f"{stem(output)}.html")


def is_folder(arguments: argparse.Namespace) -> bool:
    """Return whether results are to go to a folder: it is there, or its name is no image's."""
    out = arguments.out
    if out is None or arguments.combine:
        return False
    return Path(out).is_dir() or not out.lower().endswith((*SUFFIXES, ".img"))


def run_folder(arguments: argparse.Namespace, settings: Settings) -> int:
    """Restore many scans into a folder; return the exit code."""
    from bida.cohort.job import Job
    from bida.io.find import find_scans, name_results, passed_over

    words = ("uncertainty", "keep_draws", "keep_dtype", "preview", "labels")
    refuse(arguments, words, f"is for one scan, got a folder of results, {arguments.out}")
    if settings.volume == EVERY:
        refuse(arguments, ("report",), f"is for one volume, got --volume {EVERY}")
    scans = find_scans(arguments.words)
    for line in passed_over(arguments.words):
        note(line)
    folder = Path(arguments.out) if arguments.dry_run else make_folder(arguments.out)
    given = {"overwrite": arguments.overwrite, "report": arguments.report}
    pairs = zip(scans, name_results(scans, folder))
    return run_many([Job((str(scan),), str(output), settings, **given) for scan, output in pairs], folder, arguments)


def put_labels(source: str, out: str, settings: Settings, arguments: argparse.Namespace) -> None:
    """Put a label map on the grid of the result.

    Raises:
        SettingsError: An option is given that labels have no use for.
    """
    given = vars(arguments)
    words = ("preset", "combine", "uncertainty", "keep_draws", "keep_dtype", "preview", "report")
    unused = [name for name in options_of(Settings) if name in given and name not in PLAN]
    unused += [name for name in words if given[name] not in (None, False)]
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise SettingsError(f"--labels: takes the options of the grid alone, got {names}; leave them out")
    output = check_outputs(source, out, arguments.overwrite, read=files_read(settings))
    from bida.io.nifti import write_volume
    from bida.mri.labels import labels_on_grid

    found = labels_on_grid(source, settings)
    for warning in found.warnings:
        note(warning)
    with recorded(output, found.record, overwrite=arguments.overwrite) as temporary:
        write_volume(temporary, found.data, found.affine, found.header, found.data.dtype)
    say(f"{output}: {' x '.join(map(str, found.data.shape))} voxels, labels by nearest neighbour")


def scans_and_output(arguments: argparse.Namespace) -> tuple[list[str], str]:
    """Return the scans, of which several are to be combined, and the file to write.

    Raises:
        SettingsError: One is missing, or is named twice.
    """
    words, combined = arguments.words, arguments.combine
    if combined is not None:
        if words:
            raise SettingsError(f"--combine: must name every scan, got {words[0]} beside it; write it behind --combine")
        if arguments.out is None:
            raise SettingsError("--combine: the file to write must be named, got none; give -o OUT")
        return combined, arguments.out
    if not words:
        raise SettingsError("superres: a scan must be named, got none; give SCAN OUT, or --combine SCAN SCAN -o OUT")
    files = words[1:] if arguments.out is None else [*words[1:], arguments.out]
    if len(files) != 1:
        found = " and ".join(files) or "none"
        raise SettingsError(f"superres: one file to write must be named, got {found}; give SCAN OUT, or many -o DIR")
    if Path(files[0]).is_dir():  # perhaps a second scan's, into which nothing must be written
        name = result_path(files[0], words[0])
        raise SettingsError(f"{files[0]}: must be a file to write, it is a folder; -o {files[0]} writes {name}")
    return [words[0]], files[0]


def files_read(settings: Settings) -> list[str | Path]:
    """Return the files beside the scan that a run reads, by its options."""
    named = [settings.like, settings.profile, settings.model]
    return [one for one in named if one is not None and Path(one).exists()]


def check_uncertainty(settings: Settings) -> None:
    """Check that a run will know how large its error is.

    Raises:
        SettingsError: It is for a single draw, or the weights do not tell.
    """
    from bida.diffusion.load import prior_of

    if settings.samples == 1:
        raise SettingsError("--uncertainty: a single draw has none, got --samples 1; leave it out, or give --samples 4")
    if settings.is_mean and not prior_of(settings.model).tells_spread:
        raise SettingsError(
            f"--uncertainty: weights must tell how large their error is, {settings.model} do not; give --samples 4"
        )


def draw_paths(output: str, settings: Settings) -> list[Path]:
    """Return the files of single draws beside a result, ``NAME_draw-1.nii.gz`` and so on.

    Raises:
        SettingsError: There are no draws.
    """
    if settings.is_mean:
        raise SettingsError("--keep-draws: needs draws, got none; give --samples 4")
    path = Path(output)
    suffix = path.name.removeprefix(stem(path))
    return [path.parent / f"{stem(path)}_draw-{number}{suffix}" for number in range(1, settings.samples + 1)]


def integer_type(scan: str, settings: Settings) -> np.dtype:
    """Return the integer type of a scan's voxels on disk.

    Raises:
        SettingsError: They are not integers.
    """
    from bida.io.scan import read_scan
    from bida.mri.series import first_volume
    from bida.transforms.load import OWN

    one = first_volume(scan, settings)
    own = {name: getattr(one, name) for name in OWN}
    dtype = read_scan(scan, one.volume, one.scale_header, **own).dtype
    if dtype.kind not in "iu":
        raise SettingsError(f"--keep-dtype: the scan must hold integers, its voxels are {dtype}; leave it out")
    return dtype


def summary(output: Path, result: Result, settings: Settings, record: Mapping[str, Any]) -> str:
    """Return the lines that end a run, given the record of what is stored."""
    sizes = " x ".join(map(str, result.data.shape))
    spacing = " x ".join(f"{size:.4g}" for size in np.linalg.norm(result.affine[:3, :3], axis=0))
    names = {"sampler_residual": "sampler's space", "scan_residual": "scan's intensities"}
    consistency = record["data_consistency"]
    residuals = [f"{consistency[key]:.1e} ({text})" for key, text in names.items() if consistency[key] is not None]
    left = (record["noise"] or {}).get("residual")
    agreement = f"made thick again it differs from the scan by at most, as a share of its range: {', '.join(residuals)}"
    if left is not None:
        agreement = f"made thick again it differs from the scan by {left['over_noise']:.2f} of the scan's noise"
    scans = record["scans"]
    if scans is not None:
        agreement = "\n".join(scan_line(scan) for scan in scans)
    seconds, verdict = sum(result.record["seconds"].values()), result.record["verdict"]
    return (
        f"{output}: {sizes} voxels of {spacing} mm in {seconds:.0f} s\n"
        f"{'' if settings.is_mean else f'it is {settings.estimate}{chr(10)}'}"
        f"{agreement}"
        f"{'' if verdict is None else chr(10) + verdict}"
    )


def scan_line(scan: Mapping[str, Any]) -> str:
    """Return what became of one of the scans that were combined."""
    if not scan["joined"]:
        return f"{scan['source']}: left out"
    if scan["residual"] is None:
        return f"{scan['source']}: used alone"
    differs = f"differs from it by at most {scan['residual']:.1e} of its range"
    if scan["residual_over_noise"] is not None:
        differs = f"differs from it by {scan['residual_over_noise']:.2f} of its noise"
    return (
        f"{scan['source']}: moved by {scan['shift_mm']:.3f} mm and {scan['degrees']:.2f} degrees; made thick again the "
        f"result {differs}"
    )


def draw_preview(path: str, scan: str, settings: Settings, result: Result) -> None:
    """Draw the scan, its cubic interpolation and the result."""
    from bida.io.nifti import ras
    from bida.mri.preview import preview, restoration_panels

    thick, interpolated = restoration_panels(scan, settings)
    preview(path, {"thick slices": thick, "cubic": interpolated, "bida": ras(result.data, result.affine)})
