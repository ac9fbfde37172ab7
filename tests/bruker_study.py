"""ParaVision studies with all that a reader needs and no more, as versions 5.1, 6.0.1 and 360 write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSIONS = ("5.1", "6.0.1", "360.3.6")
WORDS = {"i2": "_16BIT_SGN_INT", "i4": "_32BIT_SGN_INT", "u1": "_8BIT_UNSGN_INT", "f4": "_32BIT_FLOAT"}
# of [R, A, S]: ParaVision's left, back (V to D), head (Cd to Ro)
QUADRUPED = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])


@dataclass
class Scan:
    """One reconstruction.

    Attributes:
        stored: [X, Y, slices] or [X, Y, slices, volumes], as stored.
        affine: 4 x 4, index to mm in RAS of the animal; its third column is the distance of slices.
        thickness: mm.
        slopes, offsets: of each frame [slices, volumes]; None: 1 and 0.
        group: name of the frame group of the volumes.
        slices_first: slices are the fastest group.
        packages: affine, first slice and count of further packages.
        three: one frame of three dimensions.
        change: parameters of visu_pars that are written otherwise; None leaves one out.
    """

    stored: NDArray[Any]
    affine: NDArray[np.float64]
    thickness: float = 0.6
    slopes: NDArray[np.float64] | None = None
    offsets: NDArray[np.float64] | None = None
    group: str = "FG_ECHO"
    slices_first: bool = True
    packages: Sequence[tuple[NDArray[np.float64], int, int]] = ()
    three: bool = False
    kind: str = "i2"
    big: bool = False
    name: str = "T2_TurboRARE"
    change: Mapping[str, str | None] = field(default_factory=dict)


def write_study(
    folder: Path,
    scans: Mapping[int, Scan],
    version: str = "6.0.1",
    subject: str | None = "Quadruped",
    position: str = "Head_Prone",
    frame: NDArray[np.float64] = QUADRUPED,
) -> Path:
    """Write a study, scans by their number, and return its folder; `frame` is [R, A, S] of the subject's axes."""
    folder.mkdir(parents=True)
    kind = "Human" if version.startswith("5") or subject is None else subject
    end, side = position.split("_")
    _write(folder / "subject", version, {"SUBJECT_type": kind, "SUBJECT_study_name": text("rat"),
                                         "SUBJECT_id": text("rat"), "SUBJECT_position": f"SUBJ_POS_{side}",
                                         "SUBJECT_entry": f"SUBJ_ENTRY_{end.replace('Foot', 'Feet')}First",
                                         "SUBJECT_dbirth": text("20230101"), "SUBJECT_sex": "MALE",
                                         "SUBJECT_weight": "0.3",
                                         "SUBJECT_abs_date": "(1704103200, 0, 60)",
                                         "SUBJECT_date": text("2024-01-01T10:00:00,000+0100")})  # fmt: skip
    for number, scan in scans.items():
        here = folder / str(number)
        reco = here / "pdata" / "1"
        reco.mkdir(parents=True)
        visu = _visu(scan, version, subject, position, frame, number)
        (reco / "2dseq").write_bytes(_bytes(scan))
        _write(reco / "visu_pars", version, {**visu, **scan.change})
        _write(reco / "reco", version, _reco(scan, visu))
        _write(here / "method", version, _method(scan))
        _write(here / "acqp", version, _acqp(scan, version, position, frame))
    return folder


def text(value: str, length: int = 64) -> str:
    """Return a string as JCAMP-DX has it."""
    return f"( {length} )\n<{value}>"


def array(values: Any, *shape: int) -> str:
    """Return an array as JCAMP-DX has it."""
    flat = np.asarray(values).ravel()
    size = ", ".join(map(str, shape or (len(flat),)))
    words = [str(v) if isinstance(v, str) else f"{v:.12g}" for v in flat.tolist()]
    lines = [" ".join(words[k : k + 5]) for k in range(0, len(words), 5)]
    return f"( {size} )\n" + " \n".join(lines)  # ParaVision breaks lines, too, and keeps the blank


def _write(file: Path, version: str, parameters: Mapping[str, str | None]) -> None:
    title = "Parameter List" if version.startswith("5") else f"Parameter List, ParaVision {version}"
    lines = [f"##TITLE={title}", "##JCAMPDX=4.24", "##DATATYPE=Parameter Values", "##ORIGIN=Bruker BioSpin MRI GmbH",
             "##OWNER=nmr", "$$ 2024-01-01 10:00:00.000 +0100  nmr@scanner"]  # fmt: skip
    lines += [f"##${name}={value}" for name, value in parameters.items() if value is not None]
    file.write_text("\n".join([*lines, "##END="]) + "\n", encoding="utf-8")


def _depth(scan: Scan) -> tuple[int, int]:
    return scan.stored.shape[2], scan.stored.shape[3] if scan.stored.ndim == 4 else 1


def _order(scan: Scan) -> list[tuple[int, int]]:
    """Return slice and volume of each frame."""
    slices, volumes = _depth(scan)
    if scan.slices_first:
        return [(k, v) for v in range(volumes) for k in range(slices)]
    return [(k, v) for k in range(slices) for v in range(volumes)]


def _bytes(scan: Scan) -> bytes:
    stored = scan.stored if scan.stored.ndim == 4 else scan.stored[..., None]
    kind = np.dtype((">" if scan.big else "<") + scan.kind)
    if scan.three:
        return b"".join(stored[..., v].astype(kind).tobytes(order="F") for v in range(stored.shape[3]))
    return b"".join(stored[:, :, k, v].astype(kind).tobytes(order="F") for k, v in _order(scan))


def _slice_affines(scan: Scan) -> list[tuple[NDArray[np.float64], int]]:
    """Return the affine of each slice's package and the slice's index in that."""
    slices, _ = _depth(scan)
    found = [(scan.affine, k) for k in range(slices)]
    for affine, first, count in scan.packages:
        for k in range(count):
            found[first + k] = (affine, k)
    return found


def _visu(
    scan: Scan, version: str, subject: str | None, position: str, frame: NDArray[np.float64], number: int
) -> dict[str, str | None]:
    slices, volumes = _depth(scan)
    to_patient = np.linalg.inv(frame)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    places, turns = [], []
    for affine, k in _slice_affines(scan):
        own = to_patient @ affine[:3]
        axes = own[:, :3] / np.linalg.norm(own[:, :3], axis=0)
        third = axes[:, 2] if scan.three else np.cross(axes[:, 0], axes[:, 1])
        places.append(own[:, 3] + own[:, 2] * k)
        turns.append(np.stack([axes[:, 0], axes[:, 1], third]))
    frames = volumes if scan.three else slices * volumes
    dims = 3 if scan.three else 2
    if scan.three:
        places, turns = places[:1], turns[:1]
    size = scan.stored.shape[:dims]
    order = [(0, v) for v in range(volumes)] if scan.three else _order(scan)
    one = np.ones((slices, volumes))
    slope = scan.slopes if scan.slopes is not None else one
    offset = scan.offsets if scan.offsets is not None else 0 * one
    groups = [] if scan.three else [(slices, "FG_SLICE")]
    if volumes > 1:
        groups.insert(1 if scan.slices_first else 0, (volumes, scan.group))
    described = " ".join(f"({length}, <{name}>, <>, 0, 2)" for length, name in groups)
    several = 1 + len(scan.packages)
    starts = [0, *(first for _, first, _ in scan.packages)]
    counts = np.diff([*starts, slices])
    visu: dict[str, str | None] = {
        "VisuVersion": {"5": "1", "6": "3"}.get(version[0] if version[:3] != "360" else "", "8"),
        "VisuCreator": "( 65 )\n<ParaVision>",
        "VisuCreatorVersion": f"( 65 )\n<{version}>",
        "VisuUid": "( 65 )\n<1.2.3>",
        "VisuCoreFrameCount": str(frames),
        "VisuCoreDim": str(dims),
        "VisuCoreSize": array(size),
        "VisuCoreDimDesc": array(["spatial"] * dims),
        "VisuCoreExtent": array(spacing[:dims] * size),
        "VisuCoreFrameThickness": array([spacing[2] * size[2] if scan.three else scan.thickness]),
        "VisuCoreUnits": f"( {dims}, 65 )\n" + " ".join(["<mm>"] * dims),
        "VisuCoreOrientation": array(turns, len(turns), 9),
        "VisuCorePosition": array(places, len(places), 3),
        "VisuCoreDataMin": array([scan.stored.min()] * frames),
        "VisuCoreDataMax": array([scan.stored.max()] * frames),
        "VisuCoreDataOffs": array([offset[k, v] for k, v in order]),
        "VisuCoreDataSlope": array([slope[k, v] for k, v in order]),
        "VisuCoreFrameType": "MAGNITUDE_IMAGE",
        "VisuCoreWordType": WORDS[scan.kind],
        "VisuCoreByteOrder": "bigEndian" if scan.big else "littleEndian",
        "VisuCoreDiskSliceOrder": "disk_normal_slice_order",
        "VisuFGOrderDescDim": str(len(groups)) if groups else None,
        "VisuFGOrderDesc": f"( {len(groups)} )\n{described}" if groups else None,
        "VisuGroupDepVals": "( 2 )\n(<VisuCoreOrientation>, 0) (<VisuCorePosition>, 0)" if groups else None,
        "VisuSubjectPosition": position,
        "VisuExperimentNumber": str(number),
        "VisuProcessingNumber": "1",
        "VisuAcqEchoTime": array([11.0 * (v + 1) for v in range(volumes)] if scan.group == "FG_ECHO" else [11.0]),
        "VisuAcquisitionProtocol": text(scan.name),
        "VisuAcqSequenceName": text("Bruker:RARE"),
    }
    if not version.startswith("5"):
        visu["VisuSubjectType"] = subject
        if not scan.three:
            visu["VisuCoreSlicePacksDef"] = f"({0 if scan.slices_first or volumes == 1 else 1}, {several})"
            rows = " ".join(f"({a}, {b})" for a, b in zip(starts, counts))
            visu["VisuCoreSlicePacksSlices"] = f"( {several} )\n{rows}"
            visu["VisuCoreSlicePacksSliceDist"] = array([spacing[2]] * several)
    return visu


def _method(scan: Scan) -> dict[str, str | None]:
    slices, _ = _depth(scan)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    several = 1 + len(scan.packages)
    counts = np.diff([0, *(first for _, first, _ in scan.packages), slices])
    gap = 0.0 if scan.three else spacing[2] - scan.thickness
    dims = 3 if scan.three else 2
    return {
        "Method": "<Bruker:RARE>",
        "PVM_SpatDimEnum": f"<{dims}D>",
        "PVM_Matrix": array(scan.stored.shape[:dims]),
        "PVM_Fov": array(spacing[:dims] * scan.stored.shape[:dims]),
        "PVM_SpatResol": array(spacing[:dims]),
        "PVM_SliceThick": f"{scan.thickness:g}",
        "PVM_NSPacks": str(several),
        "PVM_SPackArrNSlices": array([1] if scan.three else counts),
        "PVM_SPackArrSliceOrient": array(["axial"] * several),
        "PVM_SPackArrReadOrient": array(["L_R"] * several),
        "PVM_SPackArrSliceGapMode": array(["non_contiguous"] * several),
        "PVM_SPackArrSliceGap": array([gap] * several),
        "PVM_SPackArrSliceDistance": array([spacing[2]] * several),
    }


def _acqp(scan: Scan, version: str, position: str, frame: NDArray[np.float64]) -> dict[str, str | None]:
    slices, volumes = _depth(scan)
    return {
        "ACQ_sw_version": text(f"PV {version}" if version[:3] != "360" else f"PV-{version}"),
        "ACQ_scan_name": text(scan.name),
        "ACQ_method": text("Bruker:RARE"),
        "ACQ_protocol_name": text(scan.name),
        "ACQ_dim": "3" if scan.three else "2",
        "ACQ_patient_pos": position,
        "BYTORDA": "little",
        "ACQ_word_size": "_32_BIT",
        "NI": str(slices * volumes),
        "NR": "1",
        "NSLICES": "1" if scan.three else str(slices),
        "ACQ_n_echo_images": str(volumes),
    }


def _reco(scan: Scan, visu: Mapping[str, str | None]) -> dict[str, str | None]:
    return {
        "RECO_size": visu["VisuCoreSize"],
        "RECO_wordtype": visu["VisuCoreWordType"],
        "RECO_byte_order": visu["VisuCoreByteOrder"],
        "RECO_image_type": "MAGNITUDE_IMAGE",
    }
