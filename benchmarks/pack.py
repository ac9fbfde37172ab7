"""Pack all that a training of the priors reads in one file, for a machine that the data sets don't get to.

    python benchmarks/pack.py DATA/mouse-rtg4510 DATA/mouse-sherm ... --labels DATA/mouse-labels DATA/rat-sigma \\
        --config configs/release_train.yaml --out pack.npz
    bida train DATA/mouse-rtg4510 --config configs/release_train.yaml --set packed=pack.npz

Which images are trained on, tuned with and left out is what the configuration says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.io.bids import find_animals
from bida.training.data import write_pack
from bida.training.label_maps import read_label_maps
from bida.training.run import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="BIDS folders, as of bida train")
    parser.add_argument("--labels", nargs="*", default=[], help="BIDS folders of label maps")
    parser.add_argument("--config", required=True, help="the recipe")
    parser.add_argument("--cache", type=Path, help="folder that keeps denoised images")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = read_config(arguments.config)
    tuning, held_out, suffixes = (recipe[name] for name in ("tuning_subjects", "held_out", "suffixes"))
    images = {
        "train": find_animals(arguments.data, "train", None, [*tuning, *held_out], suffixes),
        "tuning": find_animals(arguments.data, "train", tuning, held_out, suffixes),
    }
    write_pack(arguments.out, images, read_label_maps(arguments.labels), arguments.cache)
    for split, animals in images.items():
        print(f"{split}: {', '.join(sorted({f'{a.data_set}/{a.subject}' for a in animals}))}")
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
