"""What weights gain on slices of scans that nobody trained on, made thick in their own plane, without the self-check.

    python benchmarks/inplane.py DATA --models 0.3 models/model.pt [--factors 2.5 5]

Every slice of each scan is made thick along both of its axes; isotropic scans are made thick along A first, as a scan
of theirs would be. PSNR of the mean in one step over cubic interpolation + projection, dB, in tissue, by the
prior of one plane. The three last mice are the tuning animals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trust import at_factor, cut_to_stride, gains, prepared, thickened

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
    arguments = parser.parse_args()
    cells = [f"{factor:g}x, {model}" for factor in arguments.factors for model in arguments.models]
    print(f"| scan | {' | '.join(cells)} |\n|{' --- |' * (len(cells) + 1)}")
    for name, (data_set, subject, suffix) in SCANS.items():
        path = thickened(sorted((arguments.data / data_set / subject).rglob(f"*_{suffix}.nii.gz"))[0])
        row = [f"{gain(path, model, at):+.2f}" for at in arguments.factors for model in arguments.models]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def gain(path: Path, model: str, factor: float) -> float:
    sampler, prior, scan = prepared(path, argparse.Namespace(samples=0, steps=None, model=model))
    sharp = cut_to_stride(scan.inside(), scan.geometry.axis, prior.stride)
    return gains(sampler, prior, sharp, at_factor(scan.geometry, factor))[1]


if __name__ == "__main__":
    main()
