"""Registration with antspyx: one brain's labels carried onto another's image.

First an affine map (mutual information), then a diffeomorphism (SyN, local cross-correlation), both on a coarse grid;
the labels then go to the image's own grid. ITK's world is LPS, a NIfTI's RAS: `itk_grid` and `affine_of` go from one
to the other.

Source: Avants et al., Med. Image Anal. 12(1):26-41, 2008 (SyN).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.io.claim import scratch

Volume = NDArray[np.float32]
Affine = NDArray[np.float64]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHEAR = 1e-4  # largest cosine between two axes that still counts as the rounding of a float32 header

# Tuned on pairs of training animals (in vivo mice, T2w, 0.15 mm, 37 structures) by the mean Dice of carried labels with
# the animal's own. On the hardest pair these gave 0.78 when they were chosen, and 0.75 with the crop and the mask as
# they are here; a third, coarser level 0.76, radius 2 in place of 1 0.77 in twice the time, 0.2 mm 0.71,
# 0.4 mm 0.69, mutual information in place of correlation 0.59.
WORKING_MM = 0.3  # voxel of the coarse grid; the finest voxel of the images where that is larger
AFFINE_ITERATIONS = (200, 100, 50, 10)  # at 6, 4, 2 and 1 times the coarse voxel
SYN_ITERATIONS = (40, 20)  # at 2 and 1 times the coarse voxel
SYN_RADIUS = 1  # of the correlation's window, coarse voxels
FOREGROUND = 0.1  # of the 99th percentile: above the noise of air, below tissue
BRIGHT = 2.0  # intensities are clipped at so many times the foreground's median
MARGIN = 4  # coarse voxels kept around the foreground
LARGEST_RATIO = 2.5  # of the two foregrounds' volumes; brains of a species differ by less
LEAST_OVERLAP = 0.7  # Dice of the two foregrounds after registration; one that worked has 0.9

_THREADS, _SEED = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "ANTS_RANDOM_SEED"


def itk_grid(affine: ArrayLike, place: str = "affine") -> tuple[tuple[float, ...], tuple[float, ...], Affine]:
    """Return origin (mm), spacing (mm) and direction cosines (3 x 3), in LPS, of a RAS affine.

    Raises:
        SettingsError: not an invertible 4 x 4 matrix, or one with shears, which ITK's grids do not hold.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-15:
        raise SettingsError(f"{place}: the affine must be an invertible 4 x 4 matrix, got shape {matrix.shape}")
    lps = RAS_TO_LPS @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    shear = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if shear > SHEAR:
        raise SettingsError(
            f"{place}: axes must be at right angles, got some with cosine {shear:.2g} (a shear); resample it first"
        )
    return tuple(lps[:3, 3].tolist()), tuple(spacing.tolist()), direction


def affine_of(origin: ArrayLike, spacing: ArrayLike, direction: ArrayLike) -> Affine:
    """Return the RAS affine, 4 x 4, of an ITK grid: the inverse of `itk_grid`."""
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(direction, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)
    lps[:3, 3] = origin
    return RAS_TO_LPS @ lps


def check_volume(volume: ArrayLike, place: str) -> Volume:
    """Return a volume as float32.

    Raises:
        SettingsError: not three-dimensional, not finite, or nothing in it is above 0.
    """
    values = np.asarray(volume, dtype=np.float32)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise SettingsError(f"{place}: a volume must be finite and have 3 dimensions, got shape {values.shape}")
    if not values.max() > 0:
        raise SettingsError(f"{place}: a volume must have intensities above 0, its largest is {values.max():g}")
    return values


def carry(
    labels: NDArray[np.integer[Any]],
    image: ArrayLike,
    image_affine: ArrayLike,
    volume: ArrayLike,
    affine: ArrayLike,
    seed: int = 1,
    place: str = "registration",
) -> NDArray[np.int32]:
    """Register an image to a volume and return its labels on the volume's grid.

    It runs on one thread, and the same input then gives the same labels. ITK fixes its number of threads when it is
    first used: where the caller has used antspyx before in this process, single voxels may differ.

    Args:
        labels: [X, Y, Z] on the image's grid.
        image: [X, Y, Z]. It and the volume must show the same: both the brain alone, or both the head.
        image_affine: 4 x 4, voxel index of image and labels to mm (RAS+).
        volume: [X', Y', Z'].
        affine: 4 x 4, voxel index of the volume to mm (RAS+).
        seed: of the points at which mutual information is estimated.
        place: what an error calls the registration.

    Raises:
        SettingsError: a volume or affine cannot be used, one shows much more than the other, or registration fails.
    """
    moving_values, fixed_values = check_volume(image, place), check_volume(volume, place)
    mm = max(WORKING_MM, min(*itk_grid(image_affine, place)[1], *itk_grid(affine, place)[1]))
    known, compact = np.unique(labels, return_inverse=True)  # small numbers, exact in any type of voxel
    with _reproducible(seed) as ants, scratch("register") as folder:
        fixed, moving = _coarse(ants, fixed_values, affine, mm), _coarse(ants, moving_values, image_affine, mm)
        _compare(fixed, moving, place)
        with _plain_errors(place):
            transforms, warped = _register(ants, fixed, moving, folder)
            _check_overlap(fixed, warped, place)
            found = ants.apply_transforms(
                _to_ants(ants, fixed_values, affine),
                _to_ants(ants, compact.reshape(labels.shape), image_affine),
                transforms,
                interpolator="genericLabel",
            ).numpy()
    return known[np.rint(found).astype(np.intp)].astype(np.int32)


@dataclass(frozen=True)
class _Coarse:
    """An antspyx image on the coarse grid, intensities relative to its foreground's median, and where that is.

    Attributes:
        image: ANTsImage.
        shown: boolean array, the foreground.
        level: what is above is foreground.
    """

    image: Any
    shown: NDArray[np.bool_]
    level: float

    @property
    def volume_mm3(self) -> float:
        """Volume of the foreground."""
        return float(self.shown.sum() * np.prod(self.image.spacing))


@contextmanager
def _reproducible(seed: int) -> Iterator[Any]:
    """Give antspyx, with one thread and a seed as long as the block runs."""
    wanted = {_THREADS: "1", _SEED: str(seed)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        import ants

        yield ants
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _plain_errors(place: str) -> Iterator[None]:
    """Turn what antspyx raises into an error of one line."""
    try:
        yield
    except SettingsError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(
            f"{place}: must work, got '{reason}'; look at both images, or leave the atlas out"
        ) from error


def _to_ants(ants: Any, values: ArrayLike, affine: ArrayLike) -> Any:
    """Return the antspyx image, float32, of an array [X, Y, Z] and its RAS affine."""
    origin, spacing, direction = itk_grid(affine)
    return ants.from_numpy(np.asarray(values, np.float32), origin=origin, spacing=spacing, direction=direction)


def _coarse(ants: Any, values: Volume, affine: ArrayLike, mm: float) -> _Coarse:
    """Crop a volume to its foreground, divide it by the foreground's median and resample it to voxels of `mm`."""
    from scipy.ndimage import gaussian_filter

    spacing = np.array(itk_grid(affine)[1])
    shown = values > FOREGROUND * max(float(np.percentile(values, 99)), 0.0)
    median = float(np.median(values[shown]))
    margin = np.ceil(MARGIN * mm / spacing).astype(int)
    corners = np.argwhere(shown)
    low = np.maximum(corners.min(axis=0) - margin, 0)
    box = tuple(slice(a, b) for a, b in zip(low, corners.max(axis=0) + margin + 1))
    cropped = np.asarray(affine, dtype=np.float64).copy()
    cropped[:3, 3] += cropped[:3, :3] @ low
    # half a coarse voxel, so that what the coarse grid cannot hold is gone before it is sampled
    smooth = gaussian_filter(np.clip(values[box] / median, 0, BRIGHT), np.where(spacing < mm, mm / 2 / spacing, 0))
    image = ants.resample_image(_to_ants(ants, smooth, cropped), (mm,) * 3, use_voxels=False, interp_type=0)
    level = FOREGROUND * float(np.percentile(values, 99)) / median
    return _Coarse(image, image.numpy() > level, level)


def _compare(fixed: _Coarse, moving: _Coarse, place: str) -> None:
    """Refuse to register a head to a brain."""
    ratio = fixed.volume_mm3 / moving.volume_mm3
    if not 1 / LARGEST_RATIO < ratio < LARGEST_RATIO:
        raise SettingsError(
            f"{place}: scan and atlas must show the same, brain or head, got {fixed.volume_mm3:.0f} and "
            f"{moving.volume_mm3:.0f} mm3 of tissue; extract the brain first, or choose another atlas"
        )


def _register(ants: Any, fixed: _Coarse, moving: _Coarse, folder: Path) -> tuple[list[str], Any]:
    """Return the files of the transforms, and the moving image as it lies on the fixed one."""
    from scipy.ndimage import binary_dilation

    mask = fixed.image.new_image_like(binary_dilation(fixed.shown, iterations=2).astype(np.float32))
    affine = ants.registration(
        fixed.image,
        moving.image,
        "Affine",
        outprefix=str(folder / "affine"),
        aff_iterations=AFFINE_ITERATIONS,
    )
    found = ants.registration(
        fixed.image,
        moving.image,
        "SyNOnly",
        initial_transform=affine["fwdtransforms"],
        outprefix=str(folder / "syn"),
        syn_metric="CC",
        syn_sampling=SYN_RADIUS,
        reg_iterations=SYN_ITERATIONS,
        mask=mask,
    )
    return found["fwdtransforms"], found["warpedmovout"]


def _check_overlap(fixed: _Coarse, warped: Any, place: str) -> None:
    """Refuse a registration that did not bring the two foregrounds together."""
    shown = warped.numpy() > fixed.level
    overlap = 2 * float((shown & fixed.shown).sum()) / max(float(shown.sum() + fixed.shown.sum()), 1.0)
    if overlap < LEAST_OVERLAP:
        raise SettingsError(
            f"{place}: must bring the atlas over the scan, their Dice is {overlap:.2f} < {LEAST_OVERLAP}; "
            "check the orientation in both headers, or leave the atlas out"
        )
