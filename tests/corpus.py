"""What a lab may have on its disk: inputs by name, how each is made, and what must become of it.

`CASES` is the list. A right result is one whose voxels, brightest voxel's place, slices and thickness are those that
were written; a refusal is one line that names the file or the option, and holds the words that stand here.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bruker_study
import nibabel as nib
import numpy as np
from dicom_files import LPS, oblique, write_enhanced, write_series
from made_formats import WRITERS, itk
from numpy.typing import NDArray

from bida.errors import BidaError
from bida.mri.settings import Settings
from bida.options import yes_or_no
from bida.physics.geometry import SliceGeometry
from bida.physics.plan import PlanOptions
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS
from bida.transforms.plan import PlanScan

SHAPE = (24, 20, 9)
VOXELS = np.random.default_rng(0).integers(1, 3000, SHAPE)
MARK = (17, 4, 6)
VOXELS[MARK] = 30000  # brighter than any other, with any slope below
AFFINE = oblique(SHAPE)  # 0.2 x 0.25 mm, slices 0.8 mm apart
NEAR = 0.05  # voxels that the mark may be off
SLOPES = 1e-3 * (1 + 0.1 * np.arange(9))
FOUR_LEGS = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # of left, back, head

Make = Callable[[Path], Any]


@dataclass(frozen=True)
class Right:
    """What is to be found.

    Attributes:
        data: [X, Y, Z].
        affine: 4 x 4, index to mm, RAS.
        thickness_mm: of the plan.
        notes: words of the notes, a piece of each; the others are not looked at.
        close: largest difference of a voxel over the range.
    """

    data: NDArray[Any] = field(default_factory=lambda: VOXELS)
    affine: NDArray[np.float64] = field(default_factory=lambda: AFFINE)
    thickness_mm: float = 0.8
    notes: tuple[str, ...] = ()
    close: float = 1e-6

    def __str__(self) -> str:
        noted = "".join(f", and a note: {note}" for note in self.notes)
        return f"the voxels at their places, slices {self.thickness_mm:g} mm thick{noted}"


@dataclass(frozen=True)
class Refused:
    """One line with these pieces."""

    pieces: tuple[str, ...]

    def __str__(self) -> str:
        return f"one line: {' ... '.join(self.pieces)}"


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        group, name: what it is.
        make: write it into a folder and return the path; of an option, use it and return what became of it.
        expected: what must come of it; of an option the text of the value.
        options: of the reader.
        plan: how the scan was made, as options.
    """

    group: str
    name: str
    make: Make
    expected: Right | Refused | str
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: PlanOptions = field(default_factory=PlanOptions)

    @property
    def title(self) -> str:
        return f"{self.group}: {self.name}"


def outcome(case: Case, folder: Path) -> tuple[bool, str]:
    """Make an input, read and plan it; return whether what came is what is expected, and that in words."""
    named = ""
    try:
        made = case.make(folder)
        if not isinstance(made, Path):
            return str(made) == case.expected, str(made)
        named = str(made)
        image = LoadScan(**case.options)(made)
        image = PlanScan(case.plan)(OrientRAS().forward(image)[0])
    except BidaError as error:
        line = str(error)
        shown = line.replace(str(folder) + "/", "").replace(str(folder), ".")
        if not isinstance(case.expected, Refused) or "\n" in line:
            return False, shown
        about = not named or str(folder) in line or re.match(r"--?[\w-]+", line) is not None
        return about and all(piece in line for piece in case.expected.pieces), shown
    if not isinstance(case.expected, Right):
        return False, f"read, {' x '.join(map(str, image.shape))} voxels"
    return compared(image, case.expected)


def compared(image: Any, expected: Right) -> tuple[bool, str]:
    """Compare an image [1, R, A, S] with what is expected."""
    found = image.numpy()
    at = np.unravel_index(int(found.argmax()), found.shape)
    wanted = np.unravel_index(int(np.argmax(expected.data)), expected.data.shape)
    place = expected.affine[:3] @ [*wanted, 1]
    off = float(np.linalg.norm(np.linalg.solve(image.affine[:3, :3], image.affine[:3] @ [*at, 1] - place)))
    turn = nib.io_orientation(np.linalg.solve(image.affine, expected.affine))
    data = nib.apply_orientation(expected.data, turn).astype(np.float64)
    geometry = SliceGeometry.from_json(image.meta["slice_geometry"])
    notes = json.loads(image.meta["warnings"])
    missing = [note for note in expected.notes if not any(note in one for one in notes)]
    same = data.shape == found.shape
    error = float(np.abs(found - data).max() / np.ptp(data)) if same else np.inf
    thick = abs(geometry.thickness_mm - expected.thickness_mm) < 1e-3 * expected.thickness_mm
    told = f"mark {off:.4f} voxels off, intensities within {error:.0e}, {geometry.thickness_mm:.3g} mm thick"
    told += "".join(f"; no note of '{note}'" for note in missing)
    return off < NEAR and same and error <= expected.close and thick and not missing, told


def says(*pieces: str) -> Refused:
    return Refused(pieces)


# NIfTI


def nifti(
    data: NDArray[Any] = VOXELS,
    affine: NDArray[np.float64] = AFFINE,
    name: str = "a.nii",
    dtype: Any = np.float32,
    codes: tuple[int, int] = (1, 1),
    kind: Any = nib.Nifti1Image,
    units: str = "mm",
    scaling: tuple[float, float] | None = None,
    sidecar: Mapping[str, Any] | None = None,
    floats: Mapping[int, float] | None = None,
    shorts: Mapping[int, int] | None = None,
    endian: str = "<",
) -> Make:
    """Return a writer: `codes` of qform and sform; `floats` and `shorts` are written over the header at their bytes."""

    def make(folder: Path) -> Path:
        stored = np.asarray(data).astype(dtype)
        image = kind(stored, affine, kind.header_class(endianness=endian)) if endian != "<" else kind(stored, affine)
        image.set_data_dtype(dtype)
        image.set_qform(affine, codes[0], strip_shears=True)
        image.set_sform(affine, codes[1])
        image.header.set_xyzt_units(units)
        if scaling is not None:
            image.header.set_slope_inter(*scaling)
        path = folder / name
        nib.save(image, path)
        if floats or shorts:
            raw = bytearray(path.read_bytes())
            for offset, value in (floats or {}).items():
                raw[offset : offset + 4] = np.float32(value).tobytes()
            for offset, short in (shorts or {}).items():
                raw[offset : offset + 2] = np.int16(short).tobytes()
            path.write_bytes(raw)
        if sidecar is not None:
            path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
        return path

    return make


def turned(codes: str) -> Make:
    now = nib.io_orientation(AFFINE)
    turn = nib.orientations.ornt_transform(now, nib.orientations.axcodes2ornt(codes))
    affine = AFFINE @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    return nifti(nib.apply_orientation(VOXELS, turn), affine)


def orientations() -> list[str]:
    """Return the 48 ways in which voxels may be stored."""
    return ["".join(one) for axes in itertools.permutations(("RL", "AP", "SI")) for one in itertools.product(*axes)]


def tilted(axis: int, degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(4)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    straight = np.diag([-0.2, 0.25, 0.8, 1.0])
    straight[:3, 3] = 2.3, -2.4, -3.1
    return turn @ straight


def block(shape: Sequence[int]) -> NDArray[Any]:
    """Return voxels of a shape with a mark in them."""
    data = np.random.default_rng(1).integers(1, 3000, shape)
    data[shape[0] // 3, shape[1] // 4, shape[2] // 2] = 30000
    return data


def after(make: Make, change: Callable[[Path], Path | None]) -> Make:
    """Return a writer whose file is changed afterwards."""

    def changed(folder: Path) -> Path:
        path = make(folder)
        return change(path) or path

    return changed


def named(name: str) -> Callable[[Path], Path]:
    return lambda path: path.rename(path.with_name(name))


def cut(share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return change


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2 * len(content) // 3] ^= 4
    path.write_bytes(content)


def written(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def with_value(value: float) -> Make:
    data = VOXELS.astype(np.float64)
    data[3, 4, 5] = value
    return nifti(data, dtype=np.float64)


def labels() -> NDArray[Any]:
    """Return four regions in a ball of zeros."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (40, 30, 10)), indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    return inside * (1 + (x > 0) + 2 * (y > 0)).astype(np.int16)


def scale(factor: float) -> NDArray[np.float64]:
    affine = AFFINE.copy()
    affine[:3] *= factor
    return affine


def inherited(folder: Path) -> Path:
    anat = folder / "study" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (folder / "study" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (folder / "study" / "T2w.json").write_text('{"SliceThickness": 0.5}')
    return nifti(name="sub-01_T2w.nii.gz")(anat)


def linked(folder: Path) -> Path:
    """Write a scan into an annex, and its sidecar beside the link."""
    (folder / "annex").mkdir()
    nifti(name="MD5E-s1.nii.gz")(folder / "annex")
    (folder / "sub-1_T2w.nii.gz").symlink_to("annex/MD5E-s1.nii.gz")
    (folder / "sub-1_T2w.json").write_text('{"SliceThickness": 0.5}')
    return folder / "sub-1_T2w.nii.gz"


WHOLE = Right()
THIN = Right(thickness_mm=0.6)
BYTES_Y, BYTES_Z, QFAC, QUATERN_B, QFORM_CODE, SFORM_CODE, SLOPE = 84, 88, 76, 256, 252, 254, 112
FOUR = np.stack([VOXELS, VOXELS // 2, VOXELS // 3], axis=-1)

GEOMETRY = [
    *(Case("48 orientations", codes, turned(codes), WHOLE) for codes in orientations()),
    *(
        Case("oblique slices", f"{degrees} degrees about {name}", nifti(affine=tilted(axis, degrees)),
             Right(affine=tilted(axis, degrees)))
        for axis, name in enumerate("RAS") for degrees in (5, 30, 44, 45, 46)
    ),
    *(
        Case("sizes", " x ".join(map(str, shape)), nifti(block(shape)), Right(block(shape)))
        for shape in ((24, 20, 3), (24, 20, 8), (25, 20, 9), (24, 21, 9), (25, 21, 5), (7, 9, 40), (3, 20, 9))
    ),
    *(
        Case("gap and overlap", f"sidecar says {mm} mm of 0.8", nifti(sidecar={"SliceThickness": mm}),
             Right(thickness_mm=mm))
        for mm in (0.2, 0.4, 0.6, 0.8, 1.0, 1.6)
    ),
    Case("gap and overlap", "--gap 0.2", nifti(), THIN, plan=PlanOptions(gap=0.2)),
    Case("gap and overlap", "--gap -0.4", nifti(), Right(thickness_mm=1.2), plan=PlanOptions(gap=-0.4)),
    Case("gap and overlap", "--thickness against a sidecar", nifti(sidecar={"SliceThickness": 0.5}), THIN,
         plan=PlanOptions(thickness=0.6)),
    Case("gap and overlap", "0.5 mm slices every 0.25 mm", nifti(affine=np.diag([0.25, 0.25, 0.25, 1]),
         sidecar={"SliceThickness": 0.5}), says("give --axis")),
    Case("gap and overlap", "isotropic", nifti(affine=np.diag([0.25, 0.25, 0.25, 1])), says("no super-resolution")),
]  # fmt: skip

HEADERS = [
    Case("NIfTI", "qform alone", nifti(codes=(1, 0)), WHOLE),
    Case("NIfTI", "sform alone", nifti(codes=(0, 1)), WHOLE),
    Case("NIfTI", "big-endian", nifti(dtype=np.int16, endian=">"), WHOLE),
    Case("NIfTI", "NIfTI-2", nifti(kind=nib.Nifti2Image), WHOLE),
    Case("NIfTI", ".hdr and .img", nifti(kind=nib.Nifti1Pair, name="a.img"), WHOLE),
    *(Case("NIfTI", f"voxels of {np.dtype(kind)}", nifti(dtype=kind), WHOLE)
      for kind in (np.int16, np.uint16, np.int32, np.float64)),
    Case("NIfTI", "slope 0.5, offset 10", nifti(dtype=np.int32, scaling=(0.5, 10)), Right(VOXELS * 0.5 + 10)),
    Case("NIfTI", "slope -0.25", nifti(-VOXELS, dtype=np.int32, scaling=(-0.25, 0)), Right(VOXELS * 0.25)),
    Case("NIfTI", "slope 0 is none", nifti(dtype=np.int16, floats={SLOPE: 0.0, SLOPE + 4: 7.0}), WHOLE),
    Case("NIfTI", "intensities of 1e-15", nifti(VOXELS * 1e-15, dtype=np.float64), Right(VOXELS * 1e-15)),
    Case("NIfTI", "intensities of 1e30", nifti(VOXELS * 1e30, dtype=np.float64), Right(VOXELS * 1e30)),
    Case("NIfTI", "negative intensities", nifti(VOXELS - 500), Right(VOXELS - 500)),
    Case("NIfTI", "micrometres", nifti(affine=scale(1000), units="micron"),
         Right(notes=("micrometres",))),
    Case("NIfTI", "no unit", nifti(units="unknown"), Right(notes=("no unit",))),
    Case("NIfTI", "slice pixdim 0, qform alone", nifti(codes=(1, 0), floats={BYTES_Z: 0.0}),
         says("voxel sizes must be above 0, got 0 in pixdim[3]", "correct the header")),
    Case("NIfTI", "slice pixdim NaN, qform alone", nifti(codes=(1, 0), floats={BYTES_Z: np.nan}), says("above 0")),
    Case("NIfTI", "slice pixdim 0, spacing in the sidecar",
         nifti(codes=(1, 0), floats={BYTES_Z: 0.0}, sidecar={"SpacingBetweenSlices": 0.8}),
         Right(notes=("taken from the sidecar",))),
    Case("NIfTI", "slice pixdim 0, sform", nifti(codes=(0, 1), floats={BYTES_Z: 0.0}), WHOLE),
    Case("NIfTI", "two pixdim 0", nifti(codes=(1, 0), floats={BYTES_Y: 0.0, BYTES_Z: 0.0}), says("pixdim[2] and")),
    Case("NIfTI", "pixdim below 0, qform", nifti(codes=(1, 0), floats={BYTES_Z: -0.8}), Right(notes=("negative",))),
    Case("NIfTI", "pixdim below 0, sform", nifti(codes=(0, 1), floats={BYTES_Z: -0.8}), Right(notes=("negative",))),
    Case("NIfTI", "qfac 0 counts as 1", nifti(codes=(1, 0), floats={QFAC: 0.0}), WHOLE),
    Case("NIfTI", "quaternion that can't be", nifti(floats={QUATERN_B: 1.7}), says("no longer than 1", "qform_code")),
    Case("NIfTI", "that quaternion without a code", nifti(codes=(0, 1), floats={QUATERN_B: 1.7}), WHOLE),
    Case("NIfTI", "sform_code -31487", nifti(shorts={SFORM_CODE: -31487}), says("sform_code must be from 0 to 5")),
    Case("NIfTI", "qform_code 9", nifti(shorts={QFORM_CODE: 9}), says("qform_code must be from 0 to 5")),
    Case("NIfTI", "10 times too large", nifti(affine=scale(10)), says("rodent", "--scale-header 10")),
    Case("NIfTI", "10 times too large, --scale-header 10", nifti(affine=scale(10)), WHOLE, {"scale_header": 10}),
    Case("NIfTI", "1000 times too large", nifti(affine=scale(1000)), says("rodent", "--scale-header 1000")),
    Case("NIfTI", "three volumes", nifti(FOUR), says("3 volumes", "--volume 0..2")),
    Case("NIfTI", "three volumes, --volume 1", nifti(FOUR), Right(FOUR[..., 1]), {"volume": 1}),
    Case("NIfTI", "three volumes, --volume 3", nifti(FOUR), says("--volume must be 0..2, got 3"), {"volume": 3}),
    Case("NIfTI", "slices along the fourth axis", nifti(VOXELS[:, :, None]), says("along the first three axes")),
    Case("NIfTI", "a fourth axis of 1", nifti(VOXELS[..., None]), WHOLE),
    Case("NIfTI", "five dimensions", nifti(FOUR[:, :, :, None]), says("3 or 4 dimensions", "split it")),
    Case("NIfTI", "two dimensions", nifti(VOXELS[:, :, 0]), says("3 dimensions")),
    Case("NIfTI", "two slices", nifti(VOXELS[:, :, :2]), says("at least 3 slices")),
    Case("NIfTI", "complex", nifti(dtype=np.complex64), says("real numbers, got complex", "magnitude")),
    Case("NIfTI", "NaN", with_value(np.nan), says("must be finite, got 1", "(3, 4, 5)", "replace")),
    Case("NIfTI", "Inf", with_value(np.inf), says("must be finite, got 1", "(3, 4, 5)", "replace")),
    Case("NIfTI", "1e300", with_value(1e300), says("must be finite")),
    Case("NIfTI", "constant", nifti(np.full(SHAPE, 7)), says("must have contrast, got 7", "check the export")),
    Case("NIfTI", "labels", nifti(labels(), dtype=np.int16), says("must hold intensities", "--labels")),
    Case("NIfTI", "a mask", nifti(labels() > 0, dtype=np.uint8), says("must hold intensities", "--labels")),
    Case("NIfTI", "labels as floats", nifti(labels()), says("must hold intensities", "--labels")),
]  # fmt: skip

FILES = [
    Case("files", "plain, named .nii.gz", after(nifti(), named("b.nii.gz")), WHOLE),
    Case("files", "packed, named .nii", after(nifti(name="a.nii.gz"), named("b.nii")), WHOLE),
    Case("files", "capitals", after(nifti(name="a.nii.gz"), named("SCAN.NII.GZ")), WHOLE),
    Case("files", "blanks and dots", after(nifti(name="a.nii.gz"), named("rat 1.2 T2.nii.gz")), WHOLE),
    Case("files", "packed, named .bz2", after(nifti(name="a.nii.gz"), named("a.nii.bz2")), WHOLE),
    Case("files", "no suffix", after(nifti(), named("scan")), WHOLE),
    Case("files", "a name that begins with $", after(nifti(), named("$import os.nii")), WHOLE),
    Case("files", "a name of an umlaut and a sign", after(nifti(), named("Mäuse #3 %s {x}.nii")), WHOLE),
    Case("files", "sidecar beside the link", linked, Right(thickness_mm=0.5)),
    Case("files", "sidecar at the root of the data set", inherited, Right(thickness_mm=0.5)),
    Case("files", "nothing there", lambda folder: folder / "none.nii.gz", says("must exist", "check the path")),
    Case("files", "text", written("notes.txt", b"T2w of the third rat"), says("must be an image", "convert")),
    Case("files", "text, named .nii.gz", written("notes.nii.gz", b"T2w of the third rat"), says("copy it again")),
    Case("files", "text, named .nrrd", written("notes.nrrd", b"T2w of the third rat"), says("whole image")),
    Case("files", "0 bytes", written("a.nii", b""), says("must be a NIfTI image", "copy it again")),
    Case("files", "a folder without images", lambda folder: (folder / "s").mkdir() or folder / "s",
         says("must be a scanner's folder")),
    *(Case("files", f"plain, cut at {share}", after(nifti(), cut(share)), says("copy it again"))
      for share in (0.01, 0.03, 0.5, 0.99)),
    *(Case("files", f"packed, cut at {share}", after(nifti(name="a.nii.gz"), cut(share)), says("copy it again"))
      for share in (0.01, 0.5, 0.99)),
    Case("files", "packed, one bit flipped", after(nifti(name="a.nii.gz"), flipped), says("copy it again")),
]  # fmt: skip

THICK: tuple[tuple[str, Any, Right | Refused], ...] = (
    ("the text 0.5", "0.5", Right(thickness_mm=0.5)), ("a list of one", [0.5], Right(thickness_mm=0.5)),
    ("a list of all slices", [0.5] * 9, Right(thickness_mm=0.5)), ("null", None, WHOLE),
    ("500, micrometres", 500, says("micrometres", "correct")), ("0.0005, metres", 0.0005, says("metres", "correct")),
    ("0.05, cm", 0.05, says("cm", "correct")), ("NaN", float("nan"), says("nan", "correct")),
    ("two that differ", [0.5, 0.6], says("[0.5, 0.6]", "correct")), ("an empty text", "", says("''", "correct")),
    ("true", True, says("True", "correct")), ("an object", {}, says("{}", "correct")),
)  # fmt: skip
SIDECARS = [
    *(Case("sidecars", f"SliceThickness is {name}", nifti(sidecar={"SliceThickness": value}), expected)
      for name, value, expected in THICK),
    Case("sidecars", "no JSON", after(nifti(), lambda path: path.with_suffix(".json").write_text("{a: 1}") and None),
         says("a.json: a sidecar must be JSON", "correct or remove it")),
    Case("sidecars", "a list", after(nifti(), lambda path: path.with_suffix(".json").write_text("[1]") and None),
         says("a.json", "correct")),
]  # fmt: skip


# other formats


def other(write: Any, data: NDArray[Any] = VOXELS, affine: NDArray[np.float64] = AFFINE) -> Make:
    return lambda folder: write(folder / "other", data.astype(np.float32), affine)


def nrrd(**fields: str) -> Make:
    """Return a writer of NRRD, its fields as text; an empty one is left out."""
    given = {
        "type": "float", "dimension": "3", "space": "left-posterior-superior", "sizes": "24 20 9",
        "space directions": "(0.2,0,0) (0,0.25,0) (0,0,0.8)", "space origin": "(1,2,3)", "endian": "little",
        "encoding": "raw",
    }  # fmt: skip
    given.update({name.replace("_", " "): text for name, text in fields.items()})
    text = "".join(f"{name}: {value}\n" for name, value in given.items() if value)
    return written("a.nrrd", f"NRRD0005\n{text}\n".encode() + VOXELS.astype("<f4").tobytes(order="F"))


def analyze(folder: Path) -> Path:
    nib.save(nib.AnalyzeImage(VOXELS.astype(np.int16), DIAGONAL), folder / "a.img")
    return folder / "a.img"


def packed_gipl(folder: Path) -> Path:
    plain = other(itk(".gipl"), affine=GIPL)(folder)
    plain.with_suffix(".gipl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return plain.with_suffix(".gipl.gz")


def voxels_of(path: Path) -> Path:
    return path.with_suffix(".BRIK") if path.suffix == ".HEAD" else path


def voxels_cut(share: float) -> Callable[[Path], None]:
    return lambda path: cut(share)(voxels_of(path))


DIAGONAL = np.diag([-0.2, 0.25, 0.8, 1.0])
DIAGONAL[:3, 3] = -DIAGONAL[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
GIPL = np.diag([-0.2, -0.25, 0.8, 1.0])
LPS_OF_NRRD = np.diag([-0.2, -0.25, 0.8, 1.0])
LPS_OF_NRRD[:3, 3] = -1, -2, 3
CUT = ("mgh", "mgz", "minc1", "minc2", "afni", "mif", "mif.gz", "nrrd", "nrrd packed", "mha packed")
DOUBT = "left and right are unknown"
FORMATS = [
    *(Case("formats", name, other(write), replace(WHOLE, close=2e-6)) for name, write in WRITERS.items()),
    Case("formats", "Analyze", analyze, Right(affine=DIAGONAL, notes=("does not say which side is left",))),
    Case("formats", "gipl", other(itk(".gipl"), affine=GIPL), Right(affine=GIPL, notes=(DOUBT,))),
    Case("formats", "gipl.gz", packed_gipl, Right(affine=GIPL, notes=(DOUBT,))),
    Case("formats", "NRRD with thicknesses", nrrd(thicknesses="nan nan 0.6"),
         Right(affine=LPS_OF_NRRD, thickness_mm=0.6)),
    Case("formats", "NRRD in micrometres",
         nrrd(space_directions="(200,0,0) (0,250,0) (0,0,800)", space_origin="(1000,2000,3000)",
              space_units='"um" "um" "um"'), Right(affine=LPS_OF_NRRD, notes=("in um",))),
    Case("formats", "NRRD in furlongs", nrrd(space_units='"furlong" "furlong" "furlong"'),
         says("one unit that is known", "furlong")),
    Case("formats", "NRRD without a space", nrrd(space="", space_directions="", space_origin="",
         spacings="0.2 0.25 0.8"), Right(affine=GIPL, notes=("names no space",))),
    *(Case("formats", f"{name}, cut", after(other(WRITERS[name]), voxels_cut(0.7)), says("copy it")) for name in CUT),
    *(Case("formats", f"{name}, one bit flipped", after(other(WRITERS[name]), flipped), says("copy it again"))
      for name in ("mgz", "mif.gz", "nrrd packed", "mha packed")),
]  # fmt: skip


# DICOM


def series(data: NDArray[Any] = VOXELS, affine: NDArray[np.float64] = AFFINE, **options: Any) -> Make:
    return lambda folder: write_series(folder / "s", data, affine, **options)[0].parent


def enhanced(data: NDArray[Any] = VOXELS, affine: NDArray[np.float64] = AFFINE, **options: Any) -> Make:
    return lambda folder: write_enhanced(folder / "e.dcm", data, affine, **options)


def places(at: Sequence[float]) -> list[dict[str, Any]]:
    """Return the positions of slices at these indices."""
    return [{"ImagePositionPatient": [round(float(v), 6) for v in (LPS @ AFFINE)[:3] @ [0, 0, k, 1]]} for k in at]


def without(*slices: int) -> Make:
    def make(folder: Path) -> Path:
        for file in [write_series(folder / "s", VOXELS, AFFINE)[k] for k in slices]:
            file.unlink()
        return folder / "s"

    return make


def twice(second: NDArray[Any], **options: Any) -> Make:
    """Return a writer of two volumes at the same places."""

    def make(folder: Path) -> Path:
        echoes = options.get("echoes", (None, None))
        write_series(folder / "s", VOXELS, AFFINE, tags={"EchoTime": echoes[0]})
        write_series(folder / "s", second, AFFINE, first=10, tags={"EchoTime": echoes[1]})
        return folder / "s"

    return make


def two_series(folder: Path) -> Path:
    write_series(folder / "s", VOXELS, AFFINE, series=3)
    write_series(folder / "s", VOXELS // 2, AFFINE, series=12, first=30)
    return folder / "s"


def pilot(folder: Path) -> Path:
    for k, axes in enumerate(([0, 1, 2], [1, 2, 0], [2, 0, 1])):
        affine = AFFINE.copy()
        affine[:3, :3] = AFFINE[:3, :3][:, axes] / [AFFINE_SIZES[axis] for axis in axes] * AFFINE_SIZES
        write_series(folder / "s", VOXELS[:, :, :3], affine, first=1 + 3 * k)
    return folder / "s"


def a_copy(folder: Path) -> Path:
    files = write_series(folder / "s", VOXELS, AFFINE)
    shutil.copy(files[3], folder / "s" / "copy.dcm")
    return folder / "s"


def retagged(which: int, **tags: Any) -> Make:
    """Return a writer of a series of which one slice has other tags."""
    return series(own=[tags if k == which else {} for k in range(9)])


def slice_changed(change: Callable[[Path], Any]) -> Make:
    def make(folder: Path) -> Path:
        change(write_series(folder / "s", VOXELS, AFFINE)[5])
        return folder / "s"

    return make


AFFINE_SIZES = np.array([0.2, 0.25, 0.8])
SHEARED = AFFINE.copy()
SHEARED[:3, 2] += 0.2 * AFFINE[:3, 0]
SLOPED = Right(VOXELS * SLOPES, thickness_mm=0.6)
MIXED = [0, 5, 1, 6, 2, 7, 3, 8, 4]
DICOM = [
    *(Case("DICOM", f"numbers {name}", series(order=order), THIN) for name, order in
      (("as slices lie", list(range(9))), ("backwards", list(range(8, -1, -1))), ("interleaved", MIXED))),
    *(Case("DICOM", f"SpacingBetweenSlices {told}", series(tags={"SpacingBetweenSlices": told}),
           replace(THIN, notes=("SpacingBetweenSlices",) if abs(told) != 0.8 else ()))
      for told in (0.8, 1.0, 0.2, -0.8)),
    *(Case("DICOM", f"SliceThickness {value!r}", series(tags={"SliceThickness": value}), WHOLE)
      for value in ("0", None, "", "-1")),
    Case("DICOM", "thicknesses that differ", retagged(4, SliceThickness="0.7"), WHOLE),
    Case("DICOM", "a slope of each slice", series(slopes=list(SLOPES)), SLOPED),
    Case("DICOM", "positions of three digits",
         series(own=[{"ImagePositionPatient": [f"{v:.3f}" for v in (LPS @ AFFINE)[:3] @ [0, 0, k, 1]]}
                     for k in range(9)]), THIN),
    Case("DICOM", "a slice is missing", without(4), says("1 slice is missing", "I0004.dcm", "I0006.dcm", "copy")),
    Case("DICOM", "two slices are missing", without(3, 4), says("2 slices are missing", "copy")),
    Case("DICOM", "a step that is uneven", series(own=places([0, 1, 2, 3, 4, 5.3, 6, 7, 8])), says("evenly spaced")),
    Case("DICOM", "slices that slide sideways", series(affine=SHEARED), says("one above the other")),
    Case("DICOM", "a slice stored twice", a_copy, says("copy.dcm", "I0004.dcm", "remove one")),
    Case("DICOM", "two echoes", twice(VOXELS // 2, echoes=(10, 60)), says("2 (10, 60 ms)", "--echo 1..2")),
    Case("DICOM", "two echoes, --echo 2", twice(VOXELS // 2, echoes=(10, 60)),
         Right(VOXELS // 2, thickness_mm=0.6), {"echo": 2}),
    Case("DICOM", "two echoes, --echo 3", twice(VOXELS // 2, echoes=(10, 60)),
         says("--echo must be 1..2, got 3"), {"echo": 3}),
    Case("DICOM", "two volumes", twice(VOXELS // 2), says("one volume, got 2", "--volume 0..1")),
    Case("DICOM", "two volumes, --volume 1", twice(VOXELS // 2), Right(VOXELS // 2, thickness_mm=0.6), {"volume": 1}),
    Case("DICOM", "a pilot", pilot, says("parallel, got 3 orientations", "pilot")),
    Case("DICOM", "two series", two_series, says("one DICOM series, got 3 (T2w 3), 12 (T2w 12)", "--series NUMBER")),
    Case("DICOM", "two series, --series 12", two_series, Right(VOXELS // 2, thickness_mm=0.6), {"series": "12"}),
    Case("DICOM", "two series, --series 4", two_series, says("--series 4 must name one"), {"series": "4"}),
    Case("DICOM", "--series of a NIfTI", nifti(), says("--series is for DICOM"), {"series": "3"}),
    Case("DICOM", "one classic file of nine", after(series(), lambda path: path / "I0004.dcm"),
         says("several slices, got I0004.dcm alone", "folder of all slices")),
    Case("DICOM", "a quadruped", series(tags={"AnatomicalOrientationType": "QUADRUPED"}),
         replace(THIN, affine=FOUR_LEGS @ LPS @ AFFINE)),
    Case("DICOM", "a quadruped, --subject biped", series(tags={"AnatomicalOrientationType": "QUADRUPED"}), THIN,
         {"subject": "biped"}),
    Case("DICOM", "supine for the scanner, --position Head_Prone", series(tags={"PatientPosition": "HFS"}),
         replace(THIN, affine=np.diag([-1.0, -1, 1, 1]) @ AFFINE), {"position": "Head_Prone"}),
    Case("DICOM", "no position", retagged(5, ImagePositionPatient=None), says("I0006.dcm", "position", "says none")),
    Case("DICOM", "PixelSpacing 0", retagged(5, PixelSpacing=[0, 0]), says("PixelSpacing must be above 0")),
    Case("DICOM", "axes that can't be", retagged(5, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
         says("orthogonal unit vectors")),
    Case("DICOM", "colours", retagged(5, SamplesPerPixel=3), says("one number")),
    Case("DICOM", "a mosaic", series(tags={"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}),
         says("mosaic", "dcm2niix")),
    Case("DICOM", "a slice of another size", retagged(5, Rows=10), says("one size", "24 x 10")),
    Case("DICOM", "pixels cut short", slice_changed(cut(0.9)), says("I0006.dcm", "copy it again")),
    Case("DICOM", "a header cut short", slice_changed(cut(0.25)), says("I0006.dcm", "copy it again")),
    Case("DICOM", "a file of 0 bytes", slice_changed(cut(0.0)), says("I0006.dcm", "copy it again")),
    *(Case("enhanced DICOM", f"frames {name}", enhanced(frames=order, slopes=list(SLOPES[order])), SLOPED)
      for name, order in (("as slices lie", list(range(9))), ("backwards", list(range(8, -1, -1))),
                          ("interleaved", MIXED))),
    Case("enhanced DICOM", "without a suffix", after(enhanced(), named("MRIm1")), THIN),
    *(Case("enhanced DICOM", f"without {tag}", enhanced(without=[group]), says(tag, "export it again"))
      for group, tag in (("PlanePositionSequence", "ImagePositionPatient"),
                         ("PlaneOrientationSequence", "ImageOrientationPatient"),
                         ("PixelMeasuresSequence", "PixelSpacing"))),
    Case("enhanced DICOM", "a frame is missing", enhanced(frames=[0, 1, 2, 4, 5, 6, 7, 8]), says("1 slice is missing")),
    Case("enhanced DICOM", "a frame twice", enhanced(frames=[0, 1, 2, 3, 3, 5, 6, 7, 8]), says("must have 1 slice")),
    Case("enhanced DICOM", "fewer frames than described", enhanced(tags={"NumberOfFrames": 8}), says("8 frames")),
]  # fmt: skip


# ParaVision


def study(version: str = "6.0.1", told: Mapping[str, Any] | None = None, **options: Any) -> Make:
    scan = {"stored": VOXELS, "affine": AFFINE, **options}
    return lambda folder: bruker_study.write_study(
        folder / "s", {1: bruker_study.Scan(**scan)}, version, **(told or {})
    ) / "1"  # fmt: skip


def visu(**change: str | None) -> Make:
    return study(change=change)


def part_of(change: Callable[[Path], Any], name: str = "2dseq") -> Make:
    return after(study(), lambda path: change(path / "pdata" / "1" / name) and None)


ECHOES = {"stored": FOUR, "slopes": SLOPES[:, None] * [[1, 2, 4]]}
PARAVISION = [
    *(Case("ParaVision", f"{version}, gap {gap:g} mm", study(version, thickness=0.8 - gap, slopes=SLOPES[:, None]),
           Right(VOXELS * SLOPES, thickness_mm=0.8 - gap))
      for version in bruker_study.VERSIONS for gap in (0.0, 0.2, -0.3)),
    *(Case("ParaVision", f"{group}, {'slices' if first else 'volumes'} fastest, --volume {volume}",
           study(group=group, slices_first=first, **ECHOES),
           Right(FOUR[..., volume] * SLOPES * (1, 2, 4)[volume], thickness_mm=0.6), {"volume": volume})
      for group, first, volume in (("FG_ECHO", True, 1), ("FG_ECHO", False, 2), ("FG_DIFFUSION", False, 1),
                                   ("FG_CYCLE", True, 2))),
    Case("ParaVision", "echoes", study(**ECHOES), says("one volume, got 3 (3 FG_ECHO)", "--volume 0..2")),
    *(Case("ParaVision", f"words of {kind}{', big-endian' if big else ''}",
           study(kind=kind, big=big, offsets=7 + 0 * SLOPES[:, None]), Right(VOXELS + 7, thickness_mm=0.6))
      for kind, big in (("i2", True), ("i4", False), ("i4", True), ("f4", False))),
    Case("ParaVision", "a biped", study(told={"subject": "Biped"}),
         replace(THIN, affine=np.diag([-1.0, -1, 1, 1]) @ np.linalg.inv(FOUR_LEGS) @ AFFINE,
                 notes=("the study says biped",))),
    Case("ParaVision", "a biped, --subject quadruped", study(told={"subject": "Biped"}), THIN,
         {"subject": "quadruped"}),
    Case("ParaVision", "supine for the scanner", study(told={"position": "Head_Supine"}),
         replace(THIN, notes=("--position",))),
    Case("ParaVision", "supine for the scanner, --position Head_Prone", study(told={"position": "Head_Supine"}),
         replace(THIN, affine=np.diag([-1.0, 1, -1, 1]) @ AFFINE), {"position": "Head_Prone"}),
    Case("ParaVision", "--echo", study(), says("--echo is for DICOM", "--volume"), {"echo": 1}),
    Case("ParaVision", "2dseq cut short", part_of(cut(0.9)), says("2dseq", "must be 8640 bytes, got", "copy")),
    Case("ParaVision", "no 2dseq", part_of(Path.unlink), says("reconstructed")),
    Case("ParaVision", "no visu_pars", part_of(Path.unlink, "visu_pars"), says("visu_pars")),
    *(Case("ParaVision", name, visu(**change), says(*pieces)) for name, change, pieces in (
        ("units of ppm", {"VisuCoreUnits": "( 2, 65 )\n<ppm> <mm>"}, ("VisuCoreUnits must be mm",)),
        ("a spectrum", {"VisuCoreDimDesc": "( 2 )\nspectroscopic spatial"}, ("spatial", "spectroscopic")),
        ("one dimension", {"VisuCoreDim": "1"}, ("2 or 3 spatial dimensions, got 1",)),
        ("an unknown word", {"VisuCoreWordType": "_64BIT"}, ("_64BIT",)),
        ("eight frames of nine", {"VisuCoreFrameCount": "8"}, ("must order the 8 frames",)),
        ("a size of 0", {"VisuCoreSize": "( 2 )\n24 0"}, ("VisuCoreSize must be whole numbers",)),
        ("a size beyond all memory", {"VisuCoreSize": "( 2 )\n99999999999 99999999999"}, ("bytes, got 8640",)),
        ("a field of NaN", {"VisuCoreExtent": "( 2 )\n4.8 nan"}, ("VisuCoreExtent must be 2 finite",)),
        ("no positions", {"VisuCorePosition": None}, ("VisuCorePosition must be 3 finite",)),
        ("axes that can't be", {"VisuCoreOrientation": "( 1, 9 )\n1 0 0 1 0 0 0 0 1"}, ("orthogonal unit vectors",)),
        ("real and imaginary", {"VisuFGOrderDesc": "( 1 )\n(9, <FG_COMPLEX>, <>, 0, 2)"}, ("real and imaginary",)),
        ("a phase image", {"VisuCoreFrameType": "PHASE_IMAGE"}, ("MAGNITUDE_IMAGE, got PHASE_IMAGE",)),
        ("slopes packed to a million", {"VisuCoreDataSlope": "( 9 )\n@999999999*(0.5)"}, ("more than a million",)),
    )),
]  # fmt: skip


# options, as commands, configurations and Python give them

OPTIONS = [
    *(Case("options", f"n4={value!r}", lambda folder, value=value: Settings.of(n4=value).n4, meant)
      for value, meant in (("false", "False"), ("off", "False"), ("No", "False"), ("0", "False"), (0, "False"),
                           ("true", "True"), ("on", "True"), (1, "True"))),
    *(Case("options", f"n4={value!r}", lambda folder, value=value: yes_or_no(value, "n4"),
           says("n4: must be yes or no"))
      for value in ("maybe", "", "2", 1.0)),
    *(Case("options", f"{name}={value!r}", lambda folder, name=name, value=value: Settings.of(**{name: value}),
           says(name.replace("_", "-") if name in ("factor", "thickness", "gap") else name))
      for name, value in (("steps", 0), ("samples", -1), ("factor", 0.5), ("thickness", -1), ("gap", float("nan")),
                          ("echo", 0), ("position", "Sideways"), ("subject", "robot"), ("adapt", -1), ("fusion", "x"),
                          ("eta", 2.0), ("seed", -1), ("spacign", 0.2))),
]  # fmt: skip

CASES: list[Case] = [*GEOMETRY, *HEADERS, *FILES, *SIDECARS, *FORMATS, *DICOM, *PARAVISION, *OPTIONS]
