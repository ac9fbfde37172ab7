"""Writers of one volume in every format that is read, by other hands than the readers'."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import netcdf_file

Write = Callable[[Path, NDArray, NDArray], Path]


def mgh(path: Path, data: NDArray, affine: NDArray) -> Path:
    nib.save(nib.MGHImage(data, affine), path.with_suffix(".mgh"))
    return path.with_suffix(".mgh")


def mgz(path: Path, data: NDArray, affine: NDArray) -> Path:
    nib.save(nib.MGHImage(data, affine), path.with_suffix(".mgz"))
    return path.with_suffix(".mgz")


def minc1(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write netCDF as MINC 1: the axes of the file are z, y, x; starts lie along their own directions."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    starts = np.linalg.solve(directions, affine[:3, 3])
    with netcdf_file(path.with_suffix(".mnc"), "w") as file:
        for k, name in reversed(list(enumerate(("xspace", "yspace", "zspace")))):
            file.createDimension(name, data.shape[k])
            axis = file.createVariable(name, "i", ())
            axis.step, axis.start = float(sizes[k]), float(starts[k])
            axis.direction_cosines, axis.spacing = directions[:, k], b"regular__"
        image = file.createVariable("image", "f", ("zspace", "yspace", "xspace"))
        image[:] = data.transpose(2, 1, 0).astype(np.float32)
        image.signtype, image.valid_range = b"signed__", np.array([data.min(), data.max()], np.float64)
        for name, value in (("image-max", data.max()), ("image-min", data.min())):
            file.createVariable(name, "d", ()).data[...] = float(value)
    return path.with_suffix(".mnc")


def minc2(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write HDF5 as MINC 2."""
    h5py = pytest.importorskip("h5py")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    starts = np.linalg.solve(directions, affine[:3, 3])
    with h5py.File(path.with_suffix(".mnc"), "w") as file:
        for k, name in enumerate(("xspace", "yspace", "zspace")):
            axis = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            axis.attrs.update(length=data.shape[k], step=sizes[k], start=starts[k], direction_cosines=directions[:, k])
            axis.attrs["spacing"] = np.bytes_("regular__")
        values = data.transpose(2, 1, 0).astype(np.float32)
        image = file.create_dataset("minc-2.0/image/0/image", data=values, compression="gzip", chunks=values.shape)
        image.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        image.attrs["valid_range"] = np.array([data.min(), data.max()], np.float64)
        file.create_dataset("minc-2.0/image/0/image-max", data=float(data.max()))
        file.create_dataset("minc-2.0/image/0/image-min", data=float(data.min()))
    return path.with_suffix(".mnc")


def afni(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write HEAD and BRIK: the header's matrix is in DICOM's LPS."""
    matrix = (np.diag([-1, -1, 1, 1]) @ affine)[:3].ravel()
    attributes = [
        ("integer", "DATASET_RANK", [3, 1]), ("integer", "DATASET_DIMENSIONS", [*data.shape, 0, 0]),
        ("integer", "BRICK_TYPES", [3]), ("float", "BRICK_FLOAT_FACS", [0.0]),
        ("string", "BYTEORDER_STRING", "'LSB_FIRST~"),
        ("integer", "SCENE_DATA", [0, 11, 1]), ("string", "TYPESTRING", "'3DIM_HEAD_ANAT~"),
        ("string", "TEMPLATE_SPACE", "'ORIG~"),
        ("integer", "ORIENT_SPECIFIC", [0, 3, 4]), ("float", "DELTA", np.linalg.norm(affine[:3, :3], axis=0)),
        ("float", "ORIGIN", [0.0, 0.0, 0.0]), ("float", "IJK_TO_DICOM_REAL", matrix),
    ]  # fmt: skip
    text = ""
    for kind, name, value in attributes:
        shown = value if isinstance(value, str) else " " + " ".join(f"{number:.9g}" for number in value)
        count = len(value) - 1 if isinstance(value, str) else len(value)
        text += f"\ntype = {kind}-attribute\nname = {name}\ncount = {count}\n{shown}\n"
    head = path.with_name("scan+orig.HEAD")
    head.write_text(text)
    path.with_name("scan+orig.BRIK").write_bytes(data.astype("<f4").ravel(order="F").tobytes())
    return head


def mif(layout: str, datatype: str = "Float32LE", scaling: str = "") -> Write:
    def write(path: Path, data: NDArray, affine: NDArray) -> Path:
        words = layout.split(",")
        order = np.argsort([int(word.lstrip("+-")) for word in words])
        stored = np.flip(data, [k for k, word in enumerate(words) if word.startswith("-")]).transpose(order)
        if scaling:
            offset, scale = map(float, scaling.split(","))
            stored = (stored.astype(np.float64) - offset) / scale
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        rows = np.hstack([affine[:3, :3] / sizes, affine[:3, 3:]])
        lines = [
            "mrtrix image", f"dim: {','.join(map(str, data.shape))}", f"vox: {','.join(map(str, sizes))}",
            f"layout: {layout}", f"datatype: {datatype}", *(f"transform: {','.join(map(str, row))}" for row in rows),
            "comments: a: b", *([f"scaling: {scaling}"] if scaling else []),
        ]  # fmt: skip
        kind = {"Float32LE": "<f4", "Float64BE": ">f8"}[datatype]
        voxels = stored.astype(kind).ravel(order="F").tobytes()
        head = "\n".join(lines)
        start = len(head) + 20
        content = f"{head}\nfile: . {start}\nEND\n".encode().ljust(start, b"\0") + voxels
        path.with_suffix(".mif").write_bytes(content)
        return path.with_suffix(".mif")

    return write


def mif_gz(path: Path, data: NDArray, affine: NDArray) -> Path:
    plain = mif("-0,+2,-1")(path, data, affine)
    plain.with_suffix(".mif.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return plain.with_suffix(".mif.gz")


def itk(suffix: str, packed: bool = False) -> Write:
    def write(path: Path, data: NDArray, affine: NDArray) -> Path:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(data.T)
        lps = np.diag([-1.0, -1, 1]) @ affine[:3]
        sizes = np.linalg.norm(lps[:, :3], axis=0)
        image.SetSpacing([float(size) for size in sizes])
        image.SetOrigin([float(x) for x in lps[:, 3]])
        image.SetDirection([float(x) for x in (lps[:, :3] / sizes).ravel()])
        SimpleITK.WriteImage(image, str(path.with_suffix(suffix)), packed)
        return path.with_suffix(suffix)

    return write


WRITERS: dict[str, Write] = {
    "mgh": mgh, "mgz": mgz, "minc1": minc1, "minc2": minc2, "afni": afni, "mif": mif("+0,+1,+2"),
    "mif turned": mif("-2,+0,-1"),
    "mif big": mif("+1,-2,-0", "Float64BE"), "mif scaled": mif("+0,-1,+2", scaling="20,0.5"), "mif.gz": mif_gz,
    "nrrd": itk(".nrrd"), "nrrd packed": itk(".nrrd", True), "mha packed": itk(".mha", True), "nhdr": itk(".nhdr"),
}  # fmt: skip
