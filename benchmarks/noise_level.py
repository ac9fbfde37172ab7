"""Find the noise that was added to images: how far the estimate is from it, as tables in Markdown.

    python benchmarks/noise_level.py DATA --out noise.md

Images without noise of their own (templates, synthetic heads, a phantom of sharp ellipsoids), as
they are and as thick slices, get Rician noise of a known SNR. The background is kept, masked to zero as brain
extraction does, or cut off. The mice of `mouse-rtg4510` that train have noise of their own: for them the estimate is
over the root of own and added squared, own as it is estimated before.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from monai.networks.layers import GaussianFilter
from numpy.typing import NDArray

from bida.physics.noise_level import estimate_noise
from bida.physics.rician import add_noise, sigma_of_snr, tissue
from bida.physics.simulate import simulate_slices
from bida.training.head_dataset import HeadDataset, find_sources

Image = NDArray[np.float32]
SNRS = (5.0, 10.0, 20.0, 30.0)
BACKGROUNDS = ("noise", "zero", "none")
TEMPLATES = {
    "drcarbon": "mouse-template-drcarbon/tpl-drcarbon/tpl-drcarbon_T2w.nii.gz",
    "atlasbrex": "mouse-template-atlasbrex/tpl-atlasbrex/anat/tpl-atlasbrex_T2w.nii.gz",
}
REAL = {
    "mouse-sherm sub-01 T1w": "mouse-sherm/sub-01/anat/sub-01_T1w.nii.gz",
    "mouse-jax sub-01 T2w": "mouse-jax/sub-01/anat/sub-01_T2w.nii.gz",
    "mouse-jax sub-03 T2w": "mouse-jax/sub-03/anat/sub-03_T2w.nii.gz",
    "mouse-jax sub-01 fMRI mean": "mouse-jax/sub-01/func/sub-01_task-rest_desc-mean_bold.nii.gz",
    "rat-bold-pontes sub-01": "rat-bold-pontes/sub-01/func/sub-01_run-1_boldref.nii.gz",
}
LABELS, SEEDED = "mouse-labels", 5  # heads are grown around their brains, from this seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--heads", type=int, default=4, help="synthetic heads")
    parser.add_argument("--mice", nargs="+", default=["sub-15", "sub-17", "sub-24"])
    parser.add_argument("--factor", type=float, default=5.0, help="of the thick slices")
    parser.add_argument("--out", type=Path, help="file of the tables; by default they are printed")
    arguments = parser.parse_args()
    rows = [row for name, image in clean(arguments) for row in added(name, image, arguments.factor)]
    rows += [row for mouse in arguments.mice for row in on_mouse(arguments.data, mouse, arguments.factor)]
    found = pd.DataFrame(rows)
    parts = [
        "Estimated over true sigma, background or none; without noise the SNR that is taken for it:",
        wide(found),
        "Farthest from 1: " + ", ".join(f"SNR {snr:g} {worst(found, snr):.3f}" for snr in SNRS),
        f"CPU seconds for one scan: {found['seconds'].max():.2f} at most.",
        "Real scans:",
        markdown(pd.DataFrame(list(real(arguments.data)))),
    ]
    text = "\n\n".join(parts) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        print(text)


def clean(arguments: argparse.Namespace) -> Iterator[tuple[str, Image]]:
    """Yield images without noise, each with its name."""
    for name, path in TEMPLATES.items():
        yield name, read(arguments.data / path)[0]
    yield "phantom", phantom()
    sources = find_sources([{"folder": str(arguments.data / LABELS)}])
    heads = HeadDataset(sources, lambda item: item, arguments.heads, real=0.0, bare=0.1, seed=SEEDED)
    for index in range(arguments.heads):
        smooth = GaussianFilter(3, 0.5)(heads[index]["image"][None].float())[0, 0]
        yield f"head {index}", (1000 * smooth).numpy()


def phantom(size: int = 96, count: int = 25, radii: Sequence[float] = (0.8, 0.9, 0.85)) -> Image:
    """Return ellipsoids of sharp edges in one another, in a smooth shading; radii of the outer one in half the cube."""
    draw = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij")
    image = np.where(sum((p / r) ** 2 for p, r in zip((x, y, z), radii)) < 1, 800.0, 0.0)
    for _ in range(count):
        centre, sizes = draw.uniform(-0.5, 0.5, 3), draw.uniform(0.05, 0.3, 3)
        square = sum(((p - c) / r) ** 2 for p, c, r in zip((x, y, z), centre, sizes))
        image[square < 1] = draw.uniform(400, 1500)
    return (image * (1 + 0.2 * x + 0.15 * np.sin(3 * y))).astype(np.float32)


def added(name: str, image: Image, factor: float) -> Iterator[dict[str, object]]:
    """Yield what is found on an image without noise, and with noise of every level."""
    for thick in (1.0, factor):
        for axis in range(3):
            slices = image if thick == 1 else simulate_slices(image, 0.1, axis, thick)[0]
            inside = tissue(slices, axis)
            for background in BACKGROUNDS:
                shown = {"image": name, "factor": thick, "axis": "RAS"[axis], "background": background}
                part = cut(slices, inside, background)
                yield {**shown, "added": np.inf, **one(part, axis)}
                for snr in SNRS:
                    sigma = sigma_of_snr(slices, snr, inside)
                    noisy = cut(add_noise(slices, sigma, seed=int(snr)), inside, background)
                    yield {**shown, "added": snr, **one(noisy, axis, sigma)}


def cut(slices: Image, inside: NDArray[np.bool_], background: str) -> Image:
    """Return slices with their background, with zeros instead, or a box of them that is nearly all tissue."""
    if background == "zero":
        return np.where(inside, slices, 0)
    if background == "none":
        where = np.argwhere(inside)
        low, high = np.quantile(where, 0.25, axis=0).astype(int), np.quantile(where, 0.75, axis=0).astype(int)
        return slices[tuple(slice(a, max(b, a + 3)) for a, b in zip(low, high))]
    return slices


def one(slices: Image, axis: int, truth: float | None = None) -> dict[str, object]:
    """Return the estimate over the truth, or the SNR where there is none, its source and the seconds."""
    start = time.process_time()
    level = estimate_noise(slices, axis)
    seconds = time.process_time() - start
    if level is None:
        return {"found": np.nan, "source": "cannot tell", "seconds": seconds}
    return {
        "found": level.snr if truth is None else level.sigma / truth,
        "source": level.source,
        "seconds": seconds,
    }


def on_mouse(data: Path, mouse: str, factor: float) -> Iterator[dict[str, object]]:
    """Yield what is found on a mouse over the root of own and added squared."""
    with (data / "mouse-rtg4510" / "participants.tsv").open(encoding="utf-8") as file:
        split = {row["participant_id"]: row["split"] for row in csv.DictReader(file, delimiter="\t")}
    if split[mouse] != "train":
        raise SystemExit(f"{mouse}: mice must be of the split train, got {split[mouse]}; choose others")
    image, _ = read(data / "mouse-rtg4510" / mouse / "anat" / f"{mouse}_T2w.nii.gz")
    for thick in (1.0, factor):
        for axis in range(3):
            slices = image if thick == 1 else simulate_slices(image, 0.15, axis, thick)[0]
            inside = tissue(slices, axis)
            own = estimate_noise(slices, axis)
            assert own is not None
            for background in ("noise", "zero"):
                shown = {"image": mouse, "factor": thick, "axis": "RAS"[axis], "background": background}
                yield {**shown, "added": np.inf, "found": own.snr, "source": own.source, "seconds": 0.0}
                for snr in SNRS:
                    sigma = sigma_of_snr(slices, snr, inside)
                    noisy = cut(add_noise(slices, sigma, seed=int(snr)), inside, background)
                    yield {**shown, "added": snr, **one(noisy, axis, float(np.hypot(own.sigma, sigma)))}


def real(data: Path) -> Iterator[dict[str, object]]:
    """Yield both levels of real thick-slice scans."""
    for name, path in REAL.items():
        volume, sizes = read(data / path)
        level = estimate_noise(volume, int(np.argmax(sizes)))
        assert level is not None
        yield {
            "scan": name,
            "shape": " x ".join(map(str, volume.shape)),
            "sigma": f"{level.sigma:.4g}",
            "SNR": f"{level.snr:.1f}",
            "source": level.source,
            "in background": "none" if level.in_background is None else f"{level.in_background:.4g}",
            "in slices": "none" if level.in_slices is None else f"{level.in_slices:.4g}",
        }


def read(path: Path) -> tuple[Image, tuple[float, ...]]:
    """Return a volume as RAS and its voxel sizes, mm."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj, dtype=np.float32), image.header.get_zooms()[:3]


def wide(found: pd.DataFrame) -> str:
    """Return a row for every image, thickness and background: lowest to highest over the axes, and the sources."""
    rows = []
    for key, group in found.groupby(["image", "factor", "background"], sort=False):
        row = dict(zip(("image", "factor", "background"), key))
        for snr in (np.inf, *SNRS):
            at = group[group["added"] == snr]
            digits = 0 if snr == np.inf else 2
            name = "SNR, none added" if snr == np.inf else f"SNR {snr:g}"
            low, high = at["found"].min(), at["found"].max()
            row[name] = "cannot tell" if np.isnan(low) else f"{low:.{digits}f}-{high:.{digits}f}"
        noisy = group[group["added"] != np.inf]
        row["source"] = ", ".join(sorted(noisy["source"].unique()))
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def worst(found: pd.DataFrame, snr: float) -> float:
    """Return the ratio that is farthest from 1 at an SNR."""
    ratios = found.loc[found["added"] == snr, "found"].dropna()
    return float(ratios.loc[(ratios - 1).abs().idxmax()])


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
