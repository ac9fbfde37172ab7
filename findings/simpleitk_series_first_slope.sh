#!/usr/bin/env bash
# SimpleITK takes the type of a DICOM series from its first slice, and rounds what the others' slopes give to it.
#
# Version: SimpleITK 2.5.3, with numpy 2.3.5 and pydicom 3.0.1.
# Common belief: GDCM applies RescaleSlope slice by slice and gives floating point where a slope is no whole number, so
#   that a series with a slope per slice, as ParaVision and Philips write them, comes in its units.
# Behaviour: slopes are applied slice by slice, but into the pixel type that the first file alone would have. Where the
#   first slice's slope is 1 that is int16: values of a map between 0 and 1 all become 0 or 1, without a warning. In an
#   enhanced multi-frame file the first frame's slope is taken for all frames.
# Output seen:
#   series whose slices hold 0.25, 0.5, 0.75 after the first: int16, read 0, 0, 0
#   enhanced file, slopes 1, 2, 3 of frames that hold 100: read 100, 100, 100
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.3.5 SimpleITK==2.5.3 pydicom==3.0.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

folder = Path(sys.argv[1])


def image(kind, number, frames):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, f"1.2.826.0.1.3680043.10.543.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = "MR", "1.2.3.1", "1.2.3"
    data.InstanceNumber, data.SeriesNumber = number, 1
    data.Rows, data.Columns = frames.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelData = frames.astype("<i2").tobytes()
    return data


def item(**values):
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return [data]


names = []
for k, slope in enumerate([1, 2.5e-4, 5e-4, 7.5e-4]):
    data = image(MRImageStorage, k + 1, np.full((1, 8, 8), 1000 if k else 1))
    data.PixelSpacing, data.ImageOrientationPatient = [0.2, 0.2], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0, 0, 0.8 * k]
    data.RescaleSlope, data.RescaleIntercept = slope, 0
    names.append(str(folder / f"{k}.dcm"))
    data.save_as(names[-1], enforce_file_format=True)
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(names)
read = SimpleITK.GetArrayFromImage(reader.Execute())
print(f"series whose slices hold 0.25, 0.5, 0.75 after the first: {read.dtype}, read "
      + ", ".join(f"{value:g}" for value in read[1:, 0, 0]))  # fmt: skip
assert read.dtype == np.int16 and set(read[1:, 0, 0].tolist()) <= {0, 1}, "slices keep their values now"

data = image(EnhancedMRImageStorage, 9, np.full((3, 8, 8), 100))
data.NumberOfFrames = 3
data.SharedFunctionalGroupsSequence = item(
    PixelMeasuresSequence=item(PixelSpacing=[0.2, 0.2], SliceThickness=0.8, SpacingBetweenSlices=0.8),
    PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
)
data.PerFrameFunctionalGroupsSequence = [
    item(
        PlanePositionSequence=item(ImagePositionPatient=[0, 0, 0.8 * k]),
        PixelValueTransformationSequence=item(RescaleSlope=k + 1, RescaleIntercept=0, RescaleType="US"),
    )[0]
    for k in range(3)
]
data.save_as(folder / "enhanced.dcm", enforce_file_format=True)
read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "enhanced.dcm")))
print("enhanced file, slopes 1, 2, 3 of frames that hold 100: read " + ", ".join(f"{v:g}" for v in read[:, 0, 0]))
assert read[:, 0, 0].tolist() == [100, 100, 100], "frames have their own slopes now"
PYTHON
