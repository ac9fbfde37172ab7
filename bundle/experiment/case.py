"""A method's volume of one animal in one condition beside what it is compared with; masks and labels are made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bida.eval import make_stripper
from bida.eval.skullstrip.mask import Stripper, check_mask
from bida.eval.skullstrip.network import WEIGHTS
from bida.eval.volumetry import volumetry
from bida.experiment.methods import TRUTH, ThickScan
from bida.experiment.truth import Truth
from bida.io.files import make_folder
from bida.io.nifti import write_volume
from bida.io.weights import released_path, sha256
from bida.mri.atlases import AtlasFiles, find_atlases, read_atlas


@dataclass(frozen=True)
class Case:
    """One method's volume of one animal in one condition, with all that it is compared with.

    Attributes:
        method: its name, or `TRUTH` for the truth itself.
        volume: [R, A, S] on the truth's grid.
        truth: the animal.
        thick: what the method was given; None for the truth.
        strippers: names of skull strippers.
        timeout_s: limit of an external stripper, seconds.
        data: BIDS data set, whose training animals' labels are carried over.
        atlas_count: how many of them, at most.
        folder: where masks and carried labels are kept.
    """

    method: str
    volume: NDArray[np.float32]
    truth: Truth
    thick: ThickScan | None
    strippers: Sequence[str]
    timeout_s: float
    data: Path
    atlas_count: int
    folder: Path

    @cached_property
    def atlases(self) -> list[AtlasFiles]:
        """Return the other animals whose labels are carried over, none where the data set has no such labels."""
        return find_atlases(self.data, self.atlas_count, self.truth.subject)

    @cached_property
    def atlas_hashes(self) -> dict[str, list[str]]:
        """Return subject to SHA-256 of image and labels of the atlases."""
        return {files.animal.subject: [sha256(files.animal.path), sha256(files.labels)] for files in self.atlases}

    @cached_property
    def regions(self) -> dict[str, NDArray[np.bool_] | None]:
        """Return the regions of PSNR and SSIM: the whole field of view, the brain where its mask is known, the tissue.

        The tissue of a brain-extracted scan with a mask is its brain, and not told twice.
        """
        found: dict[str, NDArray[np.bool_] | None] = {"whole": None}
        if self.truth.mask is not None:
            found["brain"] = self.truth.mask
        return found if self.truth.tissue is self.truth.mask else {**found, "tissue": self.truth.tissue}

    def kept(self, name: str, make: Callable[[], NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of whole numbers that was made before, or make it and keep it as NIfTI of a type."""
        path = make_folder(self.folder) / f"{name}.nii.gz"
        if not path.exists():
            write_volume(path, make(), self.truth.affine, dtype=dtype)
        image: Any = nib.load(path)
        return np.asarray(image.dataobj)


def case_of_truth(case: Case) -> Case:
    """Return the truth's own case beside a method's: its masks and labels are made once an animal."""
    return replace(case, method=TRUTH, volume=case.truth.data, thick=None, folder=case.folder.parent / TRUTH)


def stripper_of(name: str, timeout_s: float) -> Stripper:
    """Return a skull stripper by its name; one that is a program, and may hang, with a limit of time, seconds.

    Raises:
        SettingsError: See ``bida.eval.make_stripper``.
    """
    return make_stripper(name) if name in ("builtin", "threshold") else make_stripper(name, timeout_s=timeout_s)


def brain_mask(case: Case, stripper: str) -> NDArray[np.bool_]:
    """Return the brain that a skull stripper finds in a case's volume."""

    def strip() -> NDArray[np.bool_]:
        return check_mask(stripper_of(stripper, case.timeout_s)(case.volume, case.truth.affine), case.volume, stripper)

    return case.kept(f"mask_{fingerprint(stripper)}", strip, np.int16) > 0


def carried_labels(case: Case) -> NDArray[np.int32]:
    """Return the structures that the atlases' labels show in a case's volume, as ``bida volumes`` finds them."""

    def carry() -> NDArray[np.int32]:
        return volumetry(case.volume, case.truth.affine, [read_atlas(*files) for files in case.atlases]).labels

    # int32: numbers of the Allen atlas reach 614454277
    return case.kept(f"labels_{short_hash(json.dumps(case.atlas_hashes))}", carry, np.int32)


def fingerprint(stripper: str) -> str:
    """Return what tells a stripper's masks from another's, as part of a file's name."""
    weights = sha256(released_path(WEIGHTS)) if stripper == "builtin" else ""
    return short_hash(f"{stripper}{weights}")


def short_hash(text: str) -> str:
    """Return eight digits that tell a text from another's."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
