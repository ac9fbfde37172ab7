"""What weights gain on slices of scans that nobody trained on, made thick in their own plane, without the self-check.

    python benchmarks/inplane.py DATA --models 0.3 models/model.pt [--factors 2.5 5] [--csv FILE]

Every slice of each scan is made thick along both of its axes; isotropic scans are made thick along A first, as a scan
of theirs would be. PSNR of the mean in one step over cubic interpolation + projection, dB, in tissue, by the
prior of one plane. The three last mice are the tuning animals. Rows that the CSV file has are not measured again, so a
run that was cut off goes on; remove the file where code or weights have changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from noisy_tables import Rows
from trust import at_factor, cut_to_stride, gains, prepared, thickened

COLUMNS = {"scan": "", "factor": "g", "weights": "", "gain": "+.2f"}
SCANS = {
    "mouse sub-08": ("mouse-rtg4510", "sub-08", "T2w"),
    "mouse sub-14": ("mouse-rtg4510", "sub-14", "T2w"),
    "mouse sub-21": ("mouse-rtg4510", "sub-21", "T2w"),
    "mouse head template (RMINC)": ("mouse-template-rminc", "tpl-rminc", "T2w"),
    "rat head template (SIGMA)": ("rat-sigma", "tpl-sigma", "T2w"),
    "T2w mouse head (mouse-jax sub-02)": ("mouse-jax", "sub-02", "T2w"),
    "its diffusion mean": ("mouse-jax", "sub-02", "dwi"),
    "its fMRI mean": ("mouse-jax", "sub-02", "bold"),
    "T1w mouse head (mouse-sherm sub-02)": ("mouse-sherm", "sub-02", "T1w"),
    "T2w rat head (rat-nirodents)": ("rat-nirodents", "sub-15", "T2w"),
    "EPI rat sub-25": ("rat-bold-pontes", "sub-25", "boldref"),
    "mouse sub-15": ("mouse-rtg4510", "sub-15", "T2w"),
    "mouse sub-17": ("mouse-rtg4510", "sub-17", "T2w"),
    "mouse sub-24": ("mouse-rtg4510", "sub-24", "T2w"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", required=True, help="weights, files or versions")
    parser.add_argument("--factors", nargs="+", type=float, default=[2.5, 5.0])
    parser.add_argument("--csv", type=Path, help="file of the rows, which goes on where it ended")
    arguments = parser.parse_args()
    labels = {model: Path(model).stem if Path(model).suffix == ".pt" else model for model in arguments.models}
    if len(set(labels.values())) < len(labels):
        parser.error(f"--models: files must have names of their own, got {' '.join(labels)}; rename them")
    rows = Rows(COLUMNS, arguments.csv)
    for name, (data_set, subject, suffix) in SCANS.items():
        cells = [(model, factor) for factor in arguments.factors for model in arguments.models]
        cells = [(m, f) for m, f in cells if not rows.has(scan=name, factor=f, weights=labels[m])]
        if cells:
            path = thickened(sorted((arguments.data / data_set / subject).rglob(f"*_{suffix}.nii.gz"))[0])
        for model, factor in cells:
            found = gain(path, model, factor)
            rows.add({"scan": name, "factor": factor, "weights": labels[model], "gain": found})


def gain(path: Path, model: str, factor: float) -> float:
    """Return what weights gain on a scan's slices made so many times as thick as voxels, dB."""
    sampler, prior, scan = prepared(path, argparse.Namespace(samples=0, steps=None, model=model))
    sharp = cut_to_stride(scan.inside(), scan.geometry.axis, prior.stride)
    return gains(sampler, prior, sharp, at_factor(scan.geometry, factor))[1]


if __name__ == "__main__":
    main()
