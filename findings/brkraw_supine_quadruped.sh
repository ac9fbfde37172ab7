#!/usr/bin/env bash
# BrkRaw turns a rodent upside down and head to tail where ParaVision was told that it lies supine.
#
# Version: brkraw 0.5.7, with nibabel 5.4.2 and numpy 2.3.5.
# Common belief: VisuCorePosition and VisuCoreOrientation are in the subject's own axes (to its left, its back, its head),
#   whatever position was declared, so that a converter to RAS of the subject gives L, S, A of a quadruped.
# Behaviour: so it is for Head_Prone. Declared Head_Supine, ParaVision's default that many preclinical studies keep, the
#   same slices come half a turn about left and right away: the back is I, the head P. (Of an animal that lay prone
#   nevertheless, the back then comes out S, but left and right and head and tail are exchanged.)
# Output seen:
#   Head_Prone: left, back and head are L, S, A
#   Head_Supine: left, back and head are L, I, P
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


def study(position):
    name, gap, slopes = position, 0.0, [1] * SLICES
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
        "VisuSubjectPosition": position, "VisuSubjectType": "Quadruped",
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
        "SUBJECT_position": f"SUBJ_POS_{position[5:]}", "SUBJECT_entry": "SUBJ_ENTRY_HeadFirst", "SUBJECT_sex": "MALE",
        "SUBJECT_dbirth": "( 64 )\n<20230101>", "SUBJECT_weight": 0.3, "SUBJECT_abs_date": "(1704103200, 0, 60)",
        "SUBJECT_date": "( 64 )\n<2024-01-01T10:00:00,000+0100>",
    })
    out = folder / f"{name}.nii.gz"
    command = ["brkraw", "convert", str(folder / name), "-s", "1", "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return nib.load(out)


for position, wanted in (("Head_Prone", "LSA"), ("Head_Supine", "LIP")):
    found = nib.aff2axcodes(study(position).affine)  # columns run to the left, rows to the back, slices to the head
    print(f"{position}: left, back and head are {', '.join(found)}")
    assert "".join(found) == wanted, "they are others now"
PYTHON
