"""The built-in sample, run through the bundle as a user's scan would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bida.errors import ScanError, plain_errors
from bida.eval import psnr
from bida.io.files import make_folder, recorded
from bida.io.nifti import write_volume
from bida.io.scan import read_scan, read_sidecar
from bida.mri.preview import preview
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.grid import AxisGrid, resampled_affine
from bida.physics.interpolation import cubic
from bida.physics.simulate import simulate_slices
from bida.shipped import shipped

VOXEL_MM = 0.15
SOURCE = "bida demo, synthetic"


def run_demo(folder: Path, factor: float = 5.0, samples: int = 0) -> str:
    """Make the sample, degrade it, restore it through ``configs/inference.yaml``, compare and draw.

    Args:
        folder: Where the files go; made where it does not exist.
        factor: Slice spacing over voxel size.
        samples: Draws to average; 0 for the mean in one step.

    Returns:
        Lines that say how good the result is and where the files are.

    Raises:
        BidaError: A file cannot be written, or the factor is out of range.
    """
    folder = make_folder(folder)
    truth_path, scan_path = folder / "truth.nii.gz", folder / "scan.nii.gz"
    if scan_path.exists() and read_sidecar(scan_path).get("Source") != SOURCE:
        raise ScanError(f"{folder}: the folder must be the demo's own, it holds other files; give --output DIR")
    truth, affine = synthetic_brain(VOXEL_MM)
    slices, geometry = simulate_slices(truth, VOXEL_MM, 1, factor)
    grids = [AxisGrid(size, VOXEL_MM) for size in truth.shape]
    grids[1] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
    thick_affine = resampled_affine(affine, truth.shape, [VOXEL_MM] * 3, grids)
    write_volume(truth_path, truth, affine, overwrite=True)
    record = {
        "SliceThickness": geometry.thickness_mm,
        "SpacingBetweenSlices": geometry.slice_spacing_mm,
        "Source": SOURCE,
    }
    with recorded(scan_path, record, overwrite=True) as temporary:
        write_volume(temporary, slices, thick_affine)

    run_bundle(scan_path, folder, samples, truth_path)

    result = read_scan(folder / "scan_superres.nii.gz").data
    spline = cubic(slices, geometry)
    data_range = float(np.subtract(*np.percentile(truth, [99, 1])))
    scores = {name: psnr(volume, truth, data_range) for name, volume in {"cubic": spline, "bida": result}.items()}
    thin = (VOXEL_MM,) * 3
    panels = {
        "thick slices": (slices, (VOXEL_MM, geometry.slice_spacing_mm, VOXEL_MM)),
        "cubic": (spline, thin),
        "bida": (result, thin),
        "truth": (truth, thin),
    }
    picture = folder / "demo.png"
    preview(picture, panels, psnr=scores, title=f"Synthetic mouse brain, {geometry.slice_spacing_mm:.2f} mm slices")
    return (
        f"PSNR against the truth: cubic {scores['cubic']:.2f} dB, bida {scores['bida']:.2f} dB\n"
        f"volume: {folder / 'scan_superres.nii.gz'}\npicture: {picture}"
    )


def run_bundle(scan: Path, folder: Path, samples: int, like: Path) -> None:
    """Run the bundle's inference on a scan, as ``python -m monai.bundle run inference`` does."""
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(shipped("configs") / "inference.yaml"),
        workflow_type="infer",
        run_id="inference",
        logging_file=str(shipped("configs") / "logging.conf"),
        input=str(scan),
        output_dir=str(folder),
        samples=samples,
        like=str(like),
        n4=False,  # the sample has no bias field
        overwrite=True,
    )
    with plain_errors():
        workflow.initialize()
        workflow.run()
        workflow.finalize()
