"""The brain mask of a scan as a file, on the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bida.eval.skullstrip.mask import Mask, Stripper
from bida.io.files import recorded
from bida.io.nifti import write_volume
from bida.io.scan import Scan, read_scan
from bida.provenance import versions


@dataclass(frozen=True)
class Stripped:
    """A scan's brain.

    Attributes:
        scan: as it was read.
        mask: [X, Y, Z], in the scan's orientation.
        volume_mm3: of the brain.
        edges: faces of the field of view that the brain reaches, such as ``P`` and ``I``.
    """

    scan: Scan
    mask: Mask
    volume_mm3: float
    edges: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, a sentence each."""
        cut = f"the brain reaches the end of the field of view ({', '.join(self.edges)}): its volume is a part's"
        return (*self.scan.warnings, *([cut] if self.edges else []))


def strip_file(source: str | Path, output: str | Path, stripper: Stripper, *, overwrite: bool = False,
               **read: Any) -> Stripped:  # fmt: skip
    """Write the brain mask of a scan as NIfTI, 1 in the brain, with a JSON record beside it.

    Args:
        source: any scan that `bida.io.scan.read_scan` reads.
        output: NIfTI file to write, on the scan's grid.
        stripper: of `bida.eval.skullstrip.strippers.make_stripper`.
        overwrite: replace existing files.
        read: ``volume``, ``scale_header``, ``series``, ``echo``, ``position``, ``subject`` of `read_scan`.

    Raises:
        ScanError: The scan cannot be used, holds no brain, or the mask cannot be written.
        ExternalError, StripperError: A stripper from outside fails.
    """
    scan = read_scan(source, labels=False, **read)
    mask = stripper(scan.data, scan.affine)
    found = Stripped(scan, mask, float(mask.sum()) * float(np.prod(scan.spacing_mm)), edges_of(mask, scan.affine))
    record = {
        "Type": "Brain",
        "source": str(source),
        "stripper": stripper.name,
        "weights_sha256": getattr(stripper, "weights_sha256", None),
        "volume_mm3": round(found.volume_mm3, 3),
        "settings": {name: value for name, value in read.items() if value is not None},
        "warnings": list(found.warnings),
        "versions": versions(),
    }
    with recorded(output, record, overwrite=overwrite) as temporary:
        write_volume(temporary, mask.astype(np.uint8), scan.affine, _plain(scan), dtype=np.uint8)
    return found


def _plain(scan: Scan) -> Any:
    """Return the scan's header without the scaling of its voxels, which is none of the mask's."""
    if scan.header is None:
        return None
    header = scan.header.copy()
    header.set_slope_inter(1, 0)
    return header


def edges_of(mask: Mask, affine: np.ndarray) -> tuple[str, ...]:
    """Return the faces of the field of view [X, Y, Z] at which more than a tenth of the voxels are brain.

    Doctest:
        >>> edges_of(np.arange(8).reshape(2, 2, 2) < 4, np.eye(4))
        ('L', 'P', 'A', 'I', 'S')
    """
    import nibabel as nib

    ends = [("L", "R"), ("P", "A"), ("I", "S")]
    codes = nib.aff2axcodes(affine)
    found = set()
    for axis, code in enumerate(codes):
        pair = next(pair for pair in ends if code in pair)
        low, high = pair if code == pair[1] else pair[::-1]
        found |= {name for name, at in ((low, 0), (high, -1)) if np.take(mask, at, axis).mean() > 0.1}
    return tuple(name for pair in ends for name in pair if name in found)
