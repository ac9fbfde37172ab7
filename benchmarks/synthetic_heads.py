"""Write synthetic heads as a BIDS data set to train a prior on: label maps painted in random contrasts, heads around.

    python benchmarks/synthetic_heads.py DATA/mouse-labels DATA/mouse-template-drcarbon --out synthetic-heads --count 64

Windows of 80 x 80 x 80 voxels of 0.2 mm, without noise, of animals that the folders hold; see
`bida.training.head_dataset`. They teach a prior what the mice, brain-extracted and noisy, cannot: skull, muscle, air,
other contrasts, and edges without noise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.networks.layers import GaussianFilter

from bida.eval.skullstrip.network import VOXEL_MM
from bida.training.head_dataset import HeadDataset, find_sources

BLUR = (0.3, 0.7)  # voxels, standard deviation: label maps have no partial volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="BIDS folders of label maps, or of images with brain masks")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new data set")
    parser.add_argument("--count", type=int, default=64, help="heads")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sources = find_sources([{"folder": folder} for folder in arguments.data])
    heads = HeadDataset(sources, lambda item: item, arguments.count, real=0.0, bare=0.1, seed=arguments.seed)
    arguments.out.mkdir(parents=True)
    description = {"Name": "Synthetic rodent heads", "BIDSVersion": "1.8.0", "DatasetType": "derivative"}
    (arguments.out / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    draw = np.random.default_rng(arguments.seed)
    for index in range(arguments.count):
        image = heads[index]["image"][None].float()
        smooth = GaussianFilter(3, float(draw.uniform(*BLUR)))(image)[0, 0]
        folder = arguments.out / f"sub-head{index:03d}" / "anat"
        folder.mkdir(parents=True)
        affine = np.diag([VOXEL_MM] * 3 + [1])
        data = (1000 * smooth.clamp(min=0)).to(torch.int16).numpy()
        nib.save(nib.Nifti1Image(data, affine), folder / f"sub-head{index:03d}_T2w.nii.gz")


if __name__ == "__main__":
    main()
