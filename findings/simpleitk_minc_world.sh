#!/usr/bin/env bash
# SimpleITK's MINC images lie turned by 180 degrees in the world: left is right, and front is back.
#
# Version: SimpleITK 2.5.7 (ITK 5.4), nibabel 5.4.2, h5py 3.16.0, numpy 2.3.5.
# Common belief: a reader of ITK converts the file's world to ITK's (x left, y posterior), as it does for NIfTI, so that
#   an image written in two formats, or an atlas in MINC and a scan in NIfTI, lie in one place.
# Behaviour: MINC's world is x right, y anterior (its definition, and nibabel's reading); SimpleITK copies starts and
#   direction cosines without changing a sign, when it writes and when it reads. Its own round trip agrees; with any other
#   program x and y are negated. The handedness stays, so nothing looks mirrored.
# Output seen:
#   a voxel at 2.1, 3.4, 1.2 mm (right, anterior, superior): NIfTI [2.1 3.4 1.2], MINC [-2.1 -3.4 1.2]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.3.5 nibabel==5.4.2 h5py==3.16.0 SimpleITK==2.5.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import nibabel as nib
import numpy as np
import SimpleITK

voxels = np.zeros((9, 8, 7), np.float32)  # z, y, x
voxels[4, 3, 2] = 1
image = SimpleITK.GetImageFromArray(voxels)
image.SetSpacing((0.2, 0.3, 0.4))
at = image.TransformIndexToPhysicalPoint((2, 3, 4))
wanted = np.array((2.1, 3.4, 1.2))  # right, anterior, superior; ITK's own points are left, posterior, superior
image.SetOrigin([float(place - now) for place, now in zip(wanted * (-1, -1, 1), at)])


def position(path: str) -> np.ndarray:
    read = nib.load(path)
    index = np.unravel_index(np.asarray(read.dataobj).argmax(), read.shape)
    return (read.affine @ [*index, 1])[:3].round(6)


SimpleITK.WriteImage(image, "a.nii")
SimpleITK.WriteImage(image, "a.mnc")
nifti, minc = position("a.nii"), position("a.mnc")
print(f"a voxel at 2.1, 3.4, 1.2 mm (right, anterior, superior): NIfTI {nifti}, MINC {minc}")
own = SimpleITK.ReadImage("a.mnc").TransformIndexToPhysicalPoint((2, 3, 4))
assert np.allclose(nifti, wanted, atol=1e-5), "NIfTI is not where it was put"
assert np.allclose(own, wanted * (-1, -1, 1), atol=1e-5), "SimpleITK no longer reads what it wrote"
assert np.allclose(minc, wanted * (-1, -1, 1), atol=1e-5), "SimpleITK converts MINC's world now"
PYTHON
