#!/usr/bin/env bash
# BrkRaw puts slices with a gap too far apart, and scales all of them by the first one's slope.
#
# Version: brkraw 0.5.7, with nibabel 5.4.2 and numpy 2.3.5.
# Common belief: a converter of Bruker ParaVision studies takes the slices' places from VisuCorePosition, or the distance
#   of their centres from PVM_SPackArrSliceDistance, and applies VisuCoreDataSlope frame by frame, as ParaVision writes it.
# Behaviour: the affine's step is PVM_SPackArrSliceDistance plus PVM_SPackArrSliceGap, although the former is already from
#   centre to centre: 0.6 mm slices every 0.8 mm come 1 mm apart, so that the last of 9 slices lies 1.6 mm off. Without a
#   gap it is right. Where slopes differ from frame to frame, the first one is written into the header for all frames,
#   without a word: each slice has another wrong scale.
# Output seen:
#   gap 0.0 mm: slices are 0.8 mm apart, converted: 0.8
#   gap 0.2 mm: slices are 0.8 mm apart, converted: 1.0
#   slopes of slices: 1, 1.5, 2 ... times the first; converted over true: 1, 0.667, 0.5 ...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet brkraw==0.5.7 nibabel==5.4.2 numpy==2.3.5
export HOME="$folder" PATH="$folder/venv/bin:$PATH"
python - "$folder" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

SLICES, DISTANCE = 9, 0.8
folder = Path(sys.argv[1])


def write(file, parameters):
    lines = ["##TITLE=Parameter List, ParaVision 6.0.1", "##JCAMPDX=4.24", "##DATATYPE=Parameter Values"]
    lines += [f"##${name}={value}" for name, value in parameters.items()]
    file.write_text("\n".join([*lines, "##END="]) + "\n")


def study(name, gap, slopes):
    reco = folder / name / "1" / "pdata" / "1"
    reco.mkdir(parents=True)
    (reco / "2dseq").write_bytes(np.full((12, 10, SLICES), 100, "<i2").tobytes(order="F"))
    places = " ".join(f"-1 -1 {k * DISTANCE:g}" for k in range(SLICES))
    turns = " ".join(["1 0 0 0 1 0 0 0 1"] * SLICES)
    write(reco / "visu_pars", {
        "VisuVersion": 3, "VisuCreatorVersion": "( 65 )\n<6.0.1>", "VisuCoreFrameCount": SLICES, "VisuCoreDim": 2,
        "VisuCoreSize": "( 2 )\n12 10", "VisuCoreDimDesc": "( 2 )\nspatial spatial", "VisuCoreExtent": "( 2 )\n2.4 2",
        "VisuCoreFrameThickness": f"( 1 )\n{DISTANCE - gap:g}", "VisuCoreUnits": "( 2, 65 )\n<mm> <mm>",
        "VisuCoreOrientation": f"( {SLICES}, 9 )\n{turns}", "VisuCorePosition": f"( {SLICES}, 3 )\n{places}",
        "VisuCoreDataOffs": f"( {SLICES} )\n" + " ".join(["0"] * SLICES),
        "VisuCoreDataSlope": f"( {SLICES} )\n" + " ".join(f"{slope:g}" for slope in slopes),
        "VisuCoreFrameType": "MAGNITUDE_IMAGE", "VisuCoreWordType": "_16BIT_SGN_INT",
        "VisuCoreByteOrder": "littleEndian", "VisuCoreDiskSliceOrder": "disk_normal_slice_order",
        "VisuFGOrderDescDim": 1, "VisuFGOrderDesc": f"( 1 )\n({SLICES}, <FG_SLICE>, <>, 0, 0)",
        "VisuSubjectPosition": "Head_Prone", "VisuSubjectType": "Quadruped",
        "VisuCoreSlicePacksDef": "(0, 1)", "VisuCoreSlicePacksSlices": f"( 1 )\n(0, {SLICES})",
        "VisuCoreSlicePacksSliceDist": f"( 1 )\n{DISTANCE:g}",
    })
    write(reco / "reco", {"RECO_size": "( 2 )\n12 10", "RECO_wordtype": "_16BIT_SGN_INT"})
    write(folder / name / "1" / "method", {
        "Method": "<Bruker:RARE>", "PVM_SpatDimEnum": "<2D>", "PVM_Matrix": "( 2 )\n12 10", "PVM_Fov": "( 2 )\n2.4 2",
        "PVM_SliceThick": f"{DISTANCE - gap:g}", "PVM_NSPacks": 1, "PVM_SPackArrNSlices": f"( 1 )\n{SLICES}",
        "PVM_SPackArrSliceOrient": "( 1 )\naxial", "PVM_SPackArrReadOrient": "( 1 )\nL_R",
        "PVM_SPackArrSliceGap": f"( 1 )\n{gap:g}", "PVM_SPackArrSliceDistance": f"( 1 )\n{DISTANCE:g}",
    })
    write(folder / name / "1" / "acqp", {
        "ACQ_sw_version": "( 64 )\n<PV 6.0.1>", "ACQ_scan_name": "( 64 )\n<T2>", "ACQ_protocol_name": "( 64 )\n<T2>",
        "ACQ_dim": 2, "NI": SLICES, "NR": 1, "NSLICES": SLICES, "BYTORDA": "little", "ACQ_word_size": "_32_BIT",
    })
    write(folder / name / "subject", {
        "SUBJECT_type": "Quadruped", "SUBJECT_id": "( 64 )\n<rat>", "SUBJECT_study_name": "( 64 )\n<rat>",
        "SUBJECT_position": "SUBJ_POS_Prone", "SUBJECT_entry": "SUBJ_ENTRY_HeadFirst", "SUBJECT_sex": "MALE",
        "SUBJECT_dbirth": "( 64 )\n<20230101>", "SUBJECT_weight": 0.3, "SUBJECT_abs_date": "(1704103200, 0, 60)",
        "SUBJECT_date": "( 64 )\n<2024-01-01T10:00:00,000+0100>",
    })
    out = folder / f"{name}.nii.gz"
    command = ["brkraw", "convert", str(folder / name), "-s", "1", "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return nib.load(out)


for gap in (0.0, 0.2):
    found = float(np.linalg.norm(study(f"gap{gap}", gap, [1] * SLICES).affine[:3, 2]))
    print(f"gap {gap} mm: slices are {DISTANCE} mm apart, converted: {found:.1f}")
    assert abs(found - DISTANCE - gap) < 1e-5, "the gap is no longer added"
slopes = 0.01 * (1 + 0.5 * np.arange(SLICES))
image = study("slopes", 0.0, slopes)
share = image.get_fdata()[0, 0] / (100 * slopes)
print("slopes of slices: 1, 1.5, 2 ... times the first; converted over true: "
      + ", ".join(f"{one:.3g}" for one in share[:3]) + " ...")  # fmt: skip
assert np.allclose(share, slopes[0] / slopes, rtol=1e-3), "slopes are no longer those of the first slice"
PYTHON
