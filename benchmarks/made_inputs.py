"""The scans, stacks and data sets that `same_bytes.py` runs on: made from fixed seeds, without bida."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
import tifffile
from nibabel import Nifti1Image as Nifti
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

MOUSE, HEAD = ((48, 9, 40), (0.15, 0.75, 0.15)), ((44, 9, 44), (0.2, 0.8, 0.2))  # R, A, S: voxels, mm
Sizes = Sequence[float]


def make_inputs(folder: Path) -> None:
    """Write the scans, the BIDS data set and the stack that the runs take."""
    folder.mkdir()
    mouse, head = phantom(*MOUSE, 1), phantom(*HEAD, 2, True)
    integers = Nifti(head.get_fdata(), head.affine)
    integers.set_data_dtype(np.int16)  # which nibabel then scales
    scans = {"mouse": mouse, "head": head, "integers": integers, "oblique": phantom(*MOUSE, 3, True, (12, -7))}
    scans["like"] = turned(phantom((48, 45, 40), (0.15, 0.15, 0.15), 4), "LPS")
    scans["sagittal"] = turned(phantom((9, 56, 40), (0.75, 0.15, 0.15), 5, True), "LPI")
    for name, scan in scans.items():
        nib.save(scan, folder / f"{name}.nii.gz")
    write_dicom(head, folder / "dicom")
    large = np.diag([10, 10, 10, 1]) @ mouse.affine
    nib.save(Nifti(np.stack([mouse.get_fdata(), mouse.get_fdata()[::-1]], axis=-1), large), folder / "4d.nii")
    for number, split in enumerate(("val", "val", "train"), 1):
        image = phantom((64, 64, 64), (0.2, 0.2, 0.2), 10 + number, share=0.25)  # the priors take no smaller field
        brain = image.get_fdata() > 0
        labels = brain * (1 + (np.arange(64) < 32)[:, None, None] + 2 * (np.arange(64) < 30)[:, None])
        name = f"sub-{number:02d}"
        for place, values in (
            (f"{name}/anat/{name}_T2w", image.get_fdata()),
            (f"derivatives/masks/{name}/anat/{name}_desc-brain_mask", brain),
            (f"derivatives/labels/{name}/anat/{name}_dseg", labels),
        ):
            path = folder / "bids" / f"{place}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(Nifti(values.astype(np.float32), image.affine), path)
        with (folder / "bids" / "participants.tsv").open("a", encoding="utf-8") as file:
            file.write(("participant_id\tgenotype\tsplit\n" if number == 1 else "") + f"{name}\tG{number}\t{split}\n")
    cells = gaussian_filter(np.random.default_rng(6).standard_normal((25, 56, 52)), 1.5)
    stack = np.clip(2000 + 900 * cells / cells.std(), 0, 4095).astype(np.uint16)
    sizes = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, resolution=(2, 2), metadata=sizes)


def phantom(
    shape: Sequence[int],
    spacing_mm: Sizes,
    seed: int,
    head: bool = False,
    tilt_deg: Sizes = (0, 0),
    share: float = 0.43,
) -> Nifti:
    """Return a folded, textured ellipsoid [R, A, S], zero outside, or of a head with texture over the whole field."""
    rng, spacing = np.random.default_rng(seed), np.array(spacing_mm)
    place = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, spacing)]
    x, y, z = np.meshgrid(*place, indexing="ij")
    a, b, c = share * np.array(shape) * spacing * rng.uniform(0.93, 1.0, 3)
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    texture = gaussian_filter(rng.standard_normal(shape), 0.2 / spacing)
    texture /= texture.std()
    image = 800 + 250 * np.cos(9 * radius + 0.5 * np.sin(1.7 * x)) + 120 * np.sin(1.3 * y + z) + 70 * texture
    image *= 1 + 0.1 * x / a  # a bias field
    outside = 300 + 150 * np.cos(2 * x) * np.cos(2 * z) + 50 * texture if head else 0.0
    image = np.where(radius < 1, image + 25 * rng.standard_normal(shape), outside)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xz", tilt_deg, degrees=True).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + (0.4, -0.3, 0.2)
    return Nifti(np.maximum(image, 0).astype(np.float32), affine)


def turned(image: Nifti, codes: str) -> Nifti:
    """Return an image in RAS with its axes along others."""
    wanted = nib.orientations.axcodes2ornt(codes)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted))


def write_dicom(scan: Nifti, folder: Path) -> None:
    """Write a scan [R, A, S] as a DICOM series of its coronal slices."""
    matrix = (np.diag([-1, -1, 1, 1]) @ scan.affine)[:3]  # RAS to LPS
    sizes = np.linalg.norm(matrix[:, [0, 2]], axis=0)
    folder.mkdir()
    for index, values in enumerate(scan.get_fdata().astype(np.int16).transpose(1, 2, 0)):
        image = SimpleITK.GetImageFromArray(values[None])  # [1, S, R]
        image.SetSpacing([*sizes.tolist(), 0.8])
        place, turn = matrix @ (0, index, 0, 1), (matrix[:, [0, 2]] / sizes).T.ravel()
        tags = {"0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0008|0018": f"1.2.3.4.{index}"}
        tags |= {"0020|0013": str(index), "0018|0050": "0.7", "0020|0032": "\\".join(map(str, place))}
        tags["0020|0037"] = "\\".join(map(str, turn))
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{index:03d}.dcm"))
        writer.Execute(image)
