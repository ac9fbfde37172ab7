"""The page of a run: scan, interpolation and result to look at, figures and numbers, and the methods for a paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bida.drawing import _figure, grey_window, png
from bida.errors import SettingsError
from bida.eval.bricks import brick_index, slice_borders
from bida.eval.slices.spectrum import axis_spectrum
from bida.io.files import atomic, check_output
from bida.io.nifti import ras
from bida.mri.preview import restoration_panels
from bida.mri.result import Result
from bida.mri.settings import Settings
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES
from bida.physics.rician import tissue
from bida.report.viewer import Shown, encoded, niivue, page, png_base64

REFERENCES = {
    "bida": "Gharib OAM, Remedios SW, Dewey BE, Prince JL, Carass A. Exploring the feasibility of zero-shot "
    "super-resolution in preclinical imaging. MICCAI 2025. doi:10.1007/978-3-032-04937-7_18",
    "ddnm": "Wang Y, Yu J, Zhang J. Zero-shot image restoration using denoising diffusion null-space model. ICLR 2023.",
    "slr": "Pauly J, Le Roux P, Nishimura D, Macovski A. Parameter relations for the Shinnar-Le Roux selective "
    "excitation pulse design algorithm. IEEE Trans Med Imaging 1991; 10:53-65.",
    "n4": "Tustison NJ et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 2010; 29:1310-1320.",
}


class Picture(NamedTuple):
    """A PNG as an element takes it, what it shows for who cannot see it, and the line under it."""

    png: str
    shows: str
    caption: str


def write_page(path: str | Path, scan: str | Path, settings: Settings, result: Result, overwrite: bool = False) -> Path:
    """Write the page of a run as one HTML file, which needs nothing beside itself, atomically; return it.

    Args:
        path: HTML file.
        scan: The scan; of several that were combined the first.
        settings: Of the run.
        result: What it gave.
        overwrite: Replace an existing file.

    Raises:
        ScanError: The file exists or cannot be written.
    """
    file = check_output(path, overwrite=overwrite, suffixes=(".html",))
    text = page("scan.html.j2", **content(scan, settings, result))
    with atomic(file) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    return file


def content(scan: str | Path, settings: Settings, result: Result) -> dict[str, Any]:
    """Return what the template of a scan's page names."""
    record = result.record
    (thick, thick_mm), (cubic, cubic_mm) = restoration_panels(scan, settings)
    volume, spacing = ras(result.data, result.affine)
    window = grey_window(volume)
    first = "" if record["scans"] is None else ", of the first scan"
    shown = {
        "thick": Shown(f"thick slices, as acquired{first}", np.asarray(thick), thick_mm, window),
        "cubic": Shown(f"cubic interpolation{first}", np.asarray(cubic), cubic_mm, window),
        "result": Shown("result", volume, spacing, window),
    }
    if result.std is not None:
        std, _ = ras(result.std, result.affine)
        shown["uncertainty"] = Shown("uncertainty", std, spacing, tuple(np.percentile(std, (5, 99.5)).tolist()), "warm")
    volumes, block = encoded(shown)
    geometry = (
        None if record["slice_geometry"] is None else SliceGeometry.from_json(json.dumps(record["slice_geometry"]))
    )
    own = settings.like is None and geometry is not None  # else the result lies on another grid than its slices
    bricks = bricks_of(volume, geometry) if own and geometry is not None else None
    sizes, voxels = " x ".join(map(str, volume.shape)), " x ".join(f"{size:.4g}" for size in spacing)
    version = json.loads(files("bida.report").joinpath("niivue.json").read_text(encoding="utf-8"))["version"]
    sources = [one["source"] for one in record["scans"] or [record] if one.get("joined", True)]
    methods, references = methods_of(record, settings, geometry, spacing)
    return {
        "name": " + ".join(Path(source).name for source in sources),
        "verdict": record["verdict"] or "not compared with interpolation: there was no self-check",
        "summary": f"{sizes} voxels of {voxels} mm (R, A, S); it is {settings.estimate}",
        "volumes": volumes,
        "block": block,
        "has_uncertainty": "uncertainty" in volumes,
        "uncertainty": range_of(shown.get("uncertainty")),
        "swipe_plane": {0: 1, 1: 2, 2: 1}[1 if geometry is None else geometry.axis],  # one that holds the thick axis
        "warnings": record["warnings"],
        "figures": figures_of(record, geometry, np.asarray(cubic), volume, spacing),
        "numbers": numbers_of(record, geometry, bricks),
        "methods": methods,
        "references": references,
        "settings": [(name, "" if value is None else str(value)) for name, value in record["settings"].items()],
        "niivue": niivue(),
        "niivue_version": version,
    }


def range_of(one: Shown | None) -> list[str]:
    """Return the intensities at the two ends of a volume's colours, as text; none of no volume."""
    return [] if one is None else [f"{float(f'{limit:.3g}'):.12g}" for limit in one.window]


def bricks_of(volume: NDArray[Any], geometry: SliceGeometry) -> float | None:
    """Return the brick index of a result [R, A, S], None where it cannot be told."""
    axis = geometry.axis
    if volume.shape[axis] != geometry.voxels:
        return None
    borders = slice_borders(geometry.slice_centres_mm(), geometry.voxel_centres_mm())
    try:
        return brick_index(volume, axis, borders, tissue(volume, axis))
    except SettingsError:  # too few voxels of tissue
        return None


def figures_of(
    record: Mapping[str, Any],
    geometry: SliceGeometry | None,
    cubic: NDArray[Any],
    volume: NDArray[Any],
    spacing_mm: tuple[float, float, float],
) -> list[Picture]:
    """Return the charts: power along the thick axis, and the slices' brightness."""
    found = []
    if geometry is not None and min(volume.shape) >= 8:
        others = record["scans"] is not None
        found.append(spectrum_chart(geometry, cubic, volume, spacing_mm, "told by other scans or " if others else ""))
    gains = (record["slices"] or {}).get("gains") or []
    if any(gain is not None for gain in gains):
        found.append(gains_chart(record["slices"]))
    return found


def spectrum_chart(
    geometry: SliceGeometry,
    cubic: NDArray[Any],
    volume: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    told_by: str = "",
) -> Picture:
    """Draw the power of interpolation and result along the thick axis; the caption says what else tells of it."""
    figure = _figure(6.2, 3.4)
    axes = figure.subplots()
    axis = geometry.axis
    drawn = [("cubic interpolation", cubic, geometry.voxel_mm, "0.55"), ("result", volume, spacing_mm[axis], "#c2410c")]
    for label, one, voxel_mm, colour in drawn:
        share, power = axis_spectrum(one, axis)
        axes.plot(
            share / (2 * voxel_mm), 10 * np.log10(np.maximum(power, 1e-12 * power.max())), color=colour, label=label
        )
    limit = 1 / (2 * geometry.slice_spacing_mm)
    axes.axvline(limit, color="0.3", linestyle=":", linewidth=1)
    told, place = " finest detail that slices hold", axes.get_xaxis_transform()
    axes.text(limit, 0.03, told, transform=place, fontsize=8, color="0.3")
    axes.set(xlabel="frequency through-plane, cycles/mm", ylabel="power, dB")
    axes.legend(frameon=False)
    return Picture(
        png_base64(png(figure)),
        "power of interpolation and result by frequency along the through-plane axis",
        f"Power along {AXES_WORDS[axis]}. What the result has right of the dotted line is {told_by}filled in.",
    )


AXES_WORDS = tuple(
    f"{name} ({word})" for name, word in zip(AXES, ("left-right", "posterior-anterior", "inferior-superior"))
)


def gains_chart(slices: Mapping[str, Any]) -> Picture:
    """Draw how bright each slice is beside its neighbours."""
    gains = np.array([np.nan if gain is None else gain for gain in slices["gains"]], dtype=np.float64)
    width = np.array([np.nan if one is None else one for one in slices["uncertainty"]], dtype=np.float64)
    figure = _figure(6.2, 3.4)
    axes = figure.subplots()
    place = np.arange(1, gains.size + 1)
    axes.axhline(1, color="0.6", linewidth=1)
    axes.errorbar(place, gains, yerr=width, fmt="o", color="#1d4ed8", ecolor="0.7", markersize=4)
    axes.set(xlabel="slice", ylabel="brightness beside its neighbours")
    evened = ", ".join(str(int(index) + 1) for index in slices["corrected"])
    return Picture(
        png_base64(png(figure)),
        "brightness of each slice beside its neighbours, with its uncertainty",
        "Brightness of slices; bars are how far it is uncertain, slices with too little tissue have no point. Slices "
        f"evened out: {evened or 'none'}.",
    )


def numbers_of(
    record: Mapping[str, Any], geometry: SliceGeometry | None, bricks: float | None
) -> list[tuple[str, str]]:
    """Return what was measured, in words."""
    found: list[tuple[str, str]] = []
    if geometry is not None:
        told = f"{geometry.slices}, {geometry.slice_spacing_mm:.4g} mm apart, {geometry.thickness_mm:.4g} mm thick"
        found.append(("slices", f"{told} ({record['slice_thickness_from']}), profile {geometry.profile}"))
        found.append(("through-plane axis", AXES_WORDS[geometry.axis]))
    noise = record["noise"] or {}
    if noise.get("sigma") is not None:
        snr = "" if noise.get("snr") is None else f", SNR {noise['snr']:.1f} in tissue"
        found.append(("noise of a slice", f"standard deviation {noise['sigma']:.4g}{snr}"))
    left = noise.get("residual")
    if left is not None:
        found.append(("made thick again", f"the result differs from the scan by {left['over_noise']:.2f} of its noise"))
    check = record["self_check"]
    if check is not None:
        found.append(("better than interpolation", f"{check['better_db']:.1f} dB, by the scan's own slices"))
        if record["scans"] is None:
            told = f"{check['familiarity']:.2f} of the usual gain; below 0.5 the priors don't know such scans"
            found.append(("familiarity", told))
    if bricks is not None:
        found.append(("brick index", f"{bricks:.2f}; 1 is a volume without steps at the borders of slices"))
    found.append(("weights", f"SHA-256 {record['weights_sha256'][:12]}"))
    found.append(("versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())))
    found.append(("time", f"{sum(record['seconds'].values()):.0f} s on {record['device']}, {record['dtype']}"))
    return found


def methods_of(
    record: Mapping[str, Any],
    settings: Settings,
    geometry: SliceGeometry | None,
    spacing_mm: tuple[float, float, float],
) -> tuple[str, list[str]]:
    """Return a paragraph for a paper's methods, and the references that it numbers."""
    cited: list[str] = []

    def cite(key: str) -> str:
        if key not in cited:
            cited.append(key)
        return f"[{cited.index(key) + 1}]"

    voxels = " x ".join(f"{size:.4g}" for size in spacing_mm)
    scan = "The scan was"
    if record["scans"] is not None:
        scan = f"{sum(one['joined'] for one in record['scans'])} scans of the animal were combined and"
    elif geometry is not None:
        thick = f"{geometry.thickness_mm:.3g} mm every {geometry.slice_spacing_mm:.3g} mm"
        scan = f"The scan ({geometry.slices} slices of {thick}) was"
    text = [
        f"{scan} restored to voxels of {voxels} mm with bida {record['versions']['bida']} (weights "
        f"{record['weights_sha256'][:12]}) by biplanar diffusion {cite('bida')}: 2D diffusion priors of the planes "
        f"that hold the through-plane axis, kept consistent with the acquired slices {cite('ddnm')}, averaged."
    ]
    if settings.profile == "slr":
        text.append(f"Slices were modelled by the Shinnar-Le Roux profile {cite('slr')}.")
    else:
        text.append(f"Slices were modelled by the profile {Path(str(settings.profile)).name}.")
    text.append(f"The result is {settings.estimate}.")
    if settings.n4:
        after = "" if settings.bias_corrected else " and put back after"
        text.append(f"The bias field was divided out before {cite('n4')}{after}.")
    noise = record["noise"] or {}
    if noise.get("sigma"):
        text.append(f"The noise of a slice was taken as {noise['sigma']:.4g} ({noise.get('source', 'given')}).")
    check = record["self_check"]
    if check is not None:
        how = "better" if check["better_db"] >= 0 else "worse"
        text.append(f"On own slices, degraded alike, it was {abs(check['better_db']):.1f} dB {how} than interpolation.")
    return " ".join(text), [REFERENCES[key] for key in cited]
