"""`bida volumes`: measure the structures of a scan by labels that registration carries over from other animals."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bida.errors import SettingsError
from bida.io.bids import check_data_set
from bida.io.files import check_exists, check_output
from bida.progress import bar, note, say

if TYPE_CHECKING:
    from bida.eval.volumetry import Atlas, Volumetry
    from bida.io.scan import Scan


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="SCAN", help="the scan; a thick-slice one is better restored first")
    sub.add_argument("--atlas", required=True, metavar="DIR", help="BIDS data set with the atlases' images")
    sub.add_argument("--labels", required=True, metavar="DIR", help="BIDS data set with their label maps (dseg)")
    sub.add_argument("-o", "--output", required=True, metavar="TSV", help="table to write")
    sub.add_argument("--atlases", type=int, default=3, metavar="N", help="how many atlases, at most (3)")
    sub.add_argument("--names", metavar="TSV", help="index and name of the structures; default: the labels' dseg.tsv")
    sub.add_argument("--labels-out", metavar="FILE", help="write the labels on the scan's grid as NIfTI")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--scale-header", type=float, metavar="F", help="divide the header's voxel sizes and origin by F")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Measure the structures of a scan and write them as a table.

    Args:
        arguments: ``input`` SCAN; ``atlas``, ``labels`` folders; ``output`` TSV; ``atlases`` their number; ``names`` a
            lookup table or None; ``labels_out`` NIfTI or None; ``volume``, ``scale_header`` as in `read_scan`;
            ``overwrite``.

    Raises:
        ScanError: The scan cannot be read, or a file not written.
        SettingsError: No atlas is left, an atlas or a table cannot be used, or a registration fails.
    """
    start = time.monotonic()
    table = check_output(arguments.output, overwrite=arguments.overwrite, suffixes=(".tsv",))
    if arguments.labels_out is not None:
        check_output(arguments.labels_out, overwrite=arguments.overwrite)
    if Path(arguments.labels_out or "").resolve() == Path(arguments.input).resolve():
        raise SettingsError(f"{arguments.labels_out}: --labels-out must not be the scan; choose another name")
    check_exists(arguments.input)
    check_data_set(Path(arguments.atlas))

    import numpy as np

    from bida.eval.volumetry import volumetry
    from bida.io.bids import find_names, read_names, subjects_of
    from bida.io.nifti import write_volume
    from bida.io.scan import read_scan
    from bida.mri.atlases import read_atlases, write_table

    scan = read_scan(arguments.input, arguments.volume, arguments.scale_header)
    names = read_names(arguments.names) if arguments.names is not None else find_names(Path(arguments.labels))
    own = subjects_of(arguments.input)
    atlases = read_atlases(Path(arguments.atlas), arguments.atlases, own, Path(arguments.labels))
    for line in notes(scan, arguments.atlas, own, atlases):
        note(line)
    shown = bar(total=len(atlases), desc="registering", unit="atlas")

    def progress(done: int, total: int) -> None:
        shown.update(done - shown.n)

    with shown:
        found = volumetry(scan.data, scan.affine, atlases, progress=progress)
    write_table(table, found.structures, names, overwrite=arguments.overwrite)
    if arguments.labels_out is not None:
        write_volume(arguments.labels_out, found.labels, scan.affine, dtype=np.int32, overwrite=arguments.overwrite)
    say(summary(table, found, atlases, time.monotonic() - start))


def notes(scan: Scan, data: str, own: Sequence[str], atlases: Sequence[Atlas]) -> list[str]:
    """Return what a user should know before the run, a sentence each."""
    from bida.io.bids import has_splits
    from bida.mri.atlases import THICK

    found = list(scan.warnings)
    if max(scan.spacing_mm) > THICK * min(scan.spacing_mm):
        sizes = " x ".join(f"{size:.4g}" for size in scan.spacing_mm)
        found.append(f"the scan has thick slices ({sizes} mm): restore it first with bida superres")
    split = "animals of the split train" if has_splits(Path(data)) else "the data set has no splits"
    left_out = f"; {', '.join(own)}, the scan's own subject, is left out" if own else ""
    found.append(f"atlases: {', '.join(atlas.name for atlas in atlases)} ({split}{left_out})")
    return found


def summary(path: Path, found: Volumetry, atlases: Sequence[Atlas], seconds: float) -> str:
    """Return the line that ends a run."""
    import numpy as np

    total = sum(one.volume_mm3 for one in found.structures)
    relative = [100 * one.spread_mm3 / one.volume_mm3 for one in found.structures if one.volume_mm3 > 0]
    spread = f"; the atlases differ by {np.median(relative):.1f}% (median SD)" if len(atlases) > 1 and relative else ""
    return (
        f"{path}: {len(found.structures)} structures, {total:.1f} mm3, from {len(atlases)} atlas(es) in "
        f"{seconds:.0f} s{spread}"
    )
