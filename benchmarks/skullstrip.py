"""Compare the built-in skull stripper with masks drawn by hand: the model card's table.

    python benchmarks/skullstrip.py DATA/mouse-sherm DATA/rat-bold-pontes:sub-25,sub-26 --csv docs/skullstrip.csv

Every image is taken, of all animals or of those named after the colon. Its mask is in ``derivatives/masks``, or beside
it for a template, and is put on the image's grid; an image without one gets its volume alone. Dice, and the volumes in
mm^3. ``--stripper`` measures another stripper, such as ``seg4:WHEEL``.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray

from bida.eval import dice
from bida.eval.skullstrip.network import BrainUNet
from bida.eval.skullstrip.strippers import Stripper, make_stripper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="FOLDER[:SUBJECT,...]", help="BIDS folders with masks")
    parser.add_argument("--weights", help="other weights than the released ones")
    parser.add_argument("--stripper", help="another stripper than the built-in one")
    parser.add_argument("--csv", type=Path, help="where to keep the rows")
    parser.add_argument("--picture", type=Path, help="PNG: the first image of every folder with its masks")
    arguments = parser.parse_args()
    rows, shown = [], []
    stripper = make_stripper(arguments.stripper) if arguments.stripper else BrainUNet(arguments.weights)
    for text in arguments.data:
        folder, _, names = text.partition(":")
        for path in sorted(Path(folder).glob("[st]*-*/**/*.nii.gz")):
            if path.name.endswith(("_mask.nii.gz", "_probseg.nii.gz", "_dseg.nii.gz")):
                continue
            if not names or path.relative_to(folder).parts[0] in names.split(","):
                found, truth, figures = row(stripper, path, Path(folder))
                if all(other["data"] != figures["data"] for other in rows):
                    shown.append((f"{figures['data']}, {figures['scan']}", nib.load(path), found, truth))
                rows.append(figures)
                print("  ".join(str(value) for value in figures.values()), flush=True)
    if arguments.picture:
        draw(arguments.picture, shown)
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            writer.writeheader()
            writer.writerows(rows)
    for name in dict.fromkeys(row["data"] for row in rows):
        print(summary(name, [row for row in rows if row["data"] == name]))


def row(
    stripper: Stripper, path: Path, folder: Path
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None, dict[str, str | float]]:
    """Return the mask found, the one drawn by hand, and the figures of an image; runs of an animal have a row each."""
    image = nib.load(path)
    start = time.perf_counter()
    found = stripper(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    seconds = time.perf_counter() - start
    voxel_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
    scan = path.name.rpartition("_")[0]
    places = (folder / "derivatives" / "masks" / path.parent.relative_to(folder), path.parent)
    masks = [mask for place in places for mask in sorted(place.glob(f"{scan}_*mask.nii.gz"))]
    truth = on_grid(nib.load(masks[0]), image) if masks else None
    figures: dict[str, str | float] = {
        "data": folder.name,
        "subject": path.relative_to(folder).parts[0],
        "scan": scan,
        "dice": "" if truth is None else round(dice(found, truth), 4),
        "volume_mm3": round(float(found.sum() * voxel_mm3), 1),
        "manual_mm3": "" if truth is None else round(float(truth.sum() * voxel_mm3), 1),
        "seconds": round(seconds, 1),
    }
    return found, truth, figures


def on_grid(mask: Any, image: Any) -> NDArray[np.bool_]:
    """Return a mask on an image's grid; one that lies on it stays as it is."""
    if mask.shape == image.shape and np.allclose(mask.affine, image.affine, atol=1e-3):
        return np.asarray(mask.dataobj) > 0
    values = nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.float32), mask.affine)
    return np.asarray(resample_from_to(values, image, order=1).dataobj) > 0.5


def draw(path: Path, shown: list[tuple[str, Any, NDArray[np.bool_], NDArray[np.bool_] | None]]) -> None:
    """Draw nine slices of every image, thick slices as they lie, with the mask (red) and the hand-drawn one (green)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 2.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    for line, (title, image, found, truth) in zip(figure.subplots(len(shown), 9, squeeze=False), shown):
        sizes, volume = image.header.get_zooms()[:3], np.asarray(image.dataobj, dtype=np.float32)
        axis = int(np.argmax(sizes))
        places = np.linspace(0.06, 0.94, len(line)) * (volume.shape[axis] - 1)
        line[0].set_title(title, loc="left", fontsize=9)
        for axes, place in zip(line, np.rint(places).astype(int)):
            white = np.percentile(volume, 99.5)
            axes.imshow(np.take(volume, place, axis).T, "gray", vmin=0, vmax=white, origin="lower")
            for mask, colour in ((truth, "lime"), (found, "red")):
                if mask is not None and np.take(mask, place, axis).any():
                    axes.contour(np.take(mask, place, axis).T, [0.5], colors=colour, linewidths=0.8)
            axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=60)


def summary(name: str, rows: list[dict[str, str | float]]) -> str:
    """Return mean, spread and range of Dice over animals; the runs of an animal are averaged first."""
    of = {
        row["subject"]: [float(r["dice"]) for r in rows if r["subject"] == row["subject"] and r["dice"] != ""]
        for row in rows
    }
    means = [np.mean(values) for values in of.values() if values]
    if not means:
        return f"{name}: {len(of)} animal(s) without a mask"
    spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
    return f"{name}: Dice {np.mean(means):.3f}{spread} ({min(means):.3f} to {max(means):.3f}), {len(means)} animal(s)"


if __name__ == "__main__":
    main()
