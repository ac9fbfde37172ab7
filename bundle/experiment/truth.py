"""What the experiment takes as true: an isotropic scan, prepared as the paper does, with its brain and structures.

An animal's scan, a template (a folder tpl-*), brain-extracted or with the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.io.bids import Animal, animals_of, derivative, find_animals, group_of, has_splits
from bida.io.files import make_folder
from bida.io.nifti import write_volume
from bida.io.scan import read_scan
from bida.io.weights import sha256
from bida.physics.grid import isotropic_axis, resampled_affine, spacing_of
from bida.physics.interpolation import resample
from bida.transforms.bias import CorrectBias
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS

ISOTROPIC = 1.05  # largest voxel size over the smallest; headers round, and animals are cut to a tenth of a voxel
EXTRACTED = 0.4  # share of voxels that are exactly zero, above which a scan counts as brain-extracted
BEYOND_BRAIN = 0.2  # share of the foreground outside the brain mask, above which a scan counts as a head
HEADS = "heads"  # the group of those that the data set gives no group
PERCENTILES = (1.0, 99.0)  # of the truth; the range between them is the data range of PSNR and SSIM


@dataclass(frozen=True)
class Truth:
    """One animal.

    Attributes:
        subject: BIDS label.
        group: its genotype or group; where the data set names none, ``heads`` for a head, else empty.
        path: the prepared volume, NIfTI in RAS.
        data: [R, A, S] float32.
        affine: 4 x 4, voxel index to mm.
        mask: the data set's own brain mask [R, A, S], None where it has none.
        labels: the data set's own structures [R, A, S], None where it has none.
        files: SHA-256 of the files of ``mask`` and ``labels``, where there are such.
    """

    subject: str
    group: str
    path: Path
    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_] | None
    labels: NDArray[np.int32] | None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel sizes along R, A, S, mm."""
        return spacing_of(self.affine)

    @property
    def data_range(self) -> float:
        """Intensity between the 1st and the 99th percentile."""
        low, high = np.percentile(self.data, PERCENTILES)
        return float(high - low)

    @cached_property
    def foreground(self) -> NDArray[np.bool_]:
        """What is brighter than Otsu's threshold, [R, A, S].

        Source: Otsu, IEEE Trans. Syst. Man Cybern. 9(1):62-66, 1979; computed by scikit-image.
        """
        # imported here: names and words of the experiment come without it
        from skimage.filters import threshold_otsu

        return np.asarray(self.data > threshold_otsu(self.data))

    @cached_property
    def is_head(self) -> bool:
        """Whether the scan shows more than a brain: foreground beyond the brain mask, or, without one, no black air."""
        if self.mask is None:
            return float((self.data == 0).mean()) <= EXTRACTED
        return bool((self.foreground & ~self.mask).sum() > BEYOND_BRAIN * self.foreground.sum())

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """Where noise is measured against, [R, A, S]: a brain-extracted scan's mask, else the foreground."""
        return self.foreground if self.mask is None or self.is_head else self.mask


def choose_animals(data: Path, subjects: list[str] | None, split: str | None) -> list[Animal]:
    """List the isotropic scans of a BIDS data set: those named, else those of a split, ``val`` where it has splits.

    A subject is named as ``sub-08`` or ``08``.

    Raises:
        SettingsError: A subject is not there, or has several images, or nothing is left.
    """
    if subjects is None and split is None and data.is_dir():
        split = "val" if has_splits(data) else None
    found = {name for animal in animals_of(data, split, subjects) for name in animal.names}
    missing = sorted(set(subjects or []) - found)
    if missing:
        there = sorted({animal.subject for animal in find_animals([data], split=split)})
        raise SettingsError(
            f"{data}: --subjects must be among {', '.join(there)}, got {', '.join(missing)}; correct them"
        )
    animals = find_animals([data], split=split, include=subjects)
    names = [animal.subject for animal in animals]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SettingsError(
            f"{data}: each subject must have one image, {', '.join(double)} has more; remove the others"
        )
    return animals


def prepare(animal: Animal, data: Path, folder: Path, spacing_mm: float | None, n4: bool) -> Truth:
    """Read an isotropic scan, turn it to RAS, divide its bias field out, resample it, and write it.

    Args:
        animal: the scan.
        data: its BIDS data set, whose ``derivatives/masks`` and ``derivatives/labels`` are read too; a brain mask may
            also lie beside the scan, as templates have it (``tpl-x_desc-brain_mask.nii.gz``).
        folder: where the prepared volume goes, as ``<subject>.nii.gz``; one that is there is read instead.
        spacing_mm: voxel size to come to; its own when None.
        n4: divide the bias field out (N4), as the paper does.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: It is not isotropic, and no spacing is given.
    """
    path = make_folder(folder) / f"{animal.subject}.nii.gz"
    if not path.exists():
        image, _ = OrientRAS().forward(LoadScan()(animal.path))
        if n4:
            image, _ = CorrectBias(levels=4, converged=0.001).forward(image)  # N4's own, as published
        volume: NDArray[Any] = image.numpy()
        affine = image.affine
        sizes = spacing_of(affine)
        if spacing_mm is None and max(sizes) > ISOTROPIC * min(sizes):
            found = " x ".join(f"{size:.4g}" for size in sizes)
            raise SettingsError(
                f"{animal.path}: truth must be isotropic, got {found} mm; give --spacing to resample it"
            )
        if spacing_mm is not None:
            grids = [isotropic_axis(n, size, spacing_mm) for n, size in zip(volume.shape, sizes)]
            volume, affine = resample(volume, sizes, grids), resampled_affine(affine, volume.shape, sizes, grids)
        write_volume(path, volume, affine)
    scan = read_scan(path)
    files = {"mask": _mask_file(data, animal), "labels": derivative(data, animal, "labels", "dseg")}
    arrays = {
        name: whole_numbers(file, scan.data.shape, scan.affine) for name, file in files.items() if file is not None
    }
    truth = Truth(
        animal.subject,
        group_of(data, animal.subject),
        path,
        scan.data,
        scan.affine,
        arrays["mask"] > 0 if "mask" in arrays else None,
        arrays.get("labels"),
        {name: sha256(file) for name, file in files.items() if file is not None},
    )
    return truth if truth.group or not truth.is_head else replace(truth, group=HEADS)


def _mask_file(data: Path, animal: Animal) -> Path | None:
    """Return the file of an animal's own brain mask, among the derivatives or beside the scan; None for none."""
    beside = sorted(animal.path.parent.glob(f"{animal.subject}_*desc-brain_mask.nii*"))
    return derivative(data, animal, "masks", "mask") or next(iter(beside), None)


def whole_numbers(file: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return a file's whole numbers on a grid, by the nearest voxel."""
    image: Any = nib.as_closest_canonical(nib.load(file))
    values = np.asarray(image.dataobj)
    if image.shape != shape or not np.allclose(image.affine, affine, atol=1e-3):
        plain = nib.Nifti1Image(values.astype(np.float64), image.affine)  # exact for 32-bit labels
        values = np.asarray(resample_from_to(plain, (shape, affine), order=0).dataobj)
    return np.rint(values).astype(np.int32)
