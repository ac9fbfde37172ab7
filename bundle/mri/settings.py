"""Every choice of a run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from bida.errors import SettingsError

PRESETS: dict[str, dict[str, Any]] = {
    # Gharib et al. 2025: Gaussian operator at inference, 0.2 mm, 16 steps, one draw, volumes averaged at the end, the
    # priors of scans as they are and not shown the scan
    "paper": {
        "profile": "gaussian",
        "spacing": 0.2,
        "steps": 16,
        "samples": 1,
        "fusion": "final",
        "guided": False,
        "grain": True,
        "self_check": False,
    },
}


@dataclass(frozen=True)
class Settings:
    """Every choice of a run, with its default.

    Attributes:
        spacing: Voxel size of the result: ``auto``, ``inplane`` or mm.
        factor: Slice spacing over voxel size of the result; excludes ``spacing``.
        axis: Through-plane axis, ``R``, ``A`` or ``S``; the coarsest when None.
        thickness_mm: Slice thickness (FWHM), mm; from the sidecar, or else the slice spacing, when None.
        gap_mm: Slice spacing minus slice thickness, mm.
        profile: Slice profile: ``slr``, ``gaussian``, ``box``, or a file of mm and amplitude.
        like: File on whose grid the result is put; excludes ``spacing`` and ``factor``.
        steps: Sampling steps.
        samples: Draws; the result is their mean.
        fusion: ``final``, ``step`` or ``alternate``.
        eta: 0 for the deterministic sampler, 1 for the noise of DDPM.
        guided: Show the priors the interpolated scan; else they sample from the constraint alone, as published.
        grain: Draw the grain of scans where the scan did not measure it; else clean tissue.
        self_check: Measure the priors on the scan's own slices first, and draw the result towards the interpolated scan
            where they do not help.
        adapt: Minutes to fine-tune the priors on the scan's own slices for; not at all when None.
        noise: Standard deviation of the scan's noise, in its intensities; above 0 DDNM+ replaces DDNM.
        n4: Divide out the bias field before sampling.
        bias_corrected: Leave the bias field out of the result.
        seed: Seed of all noise.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: The network's arithmetic: ``auto``, ``float32`` or ``bfloat16``.
        batch_size: Slices handed to the device at once; no effect on the result.
        model: Weights file; the released one when None.
        volume: Which volume of a 4D file, from 0.
        scale_header: Divide the header's voxel sizes and origin by this.
    """

    spacing: str | float = "auto"
    factor: float | None = None
    axis: str | None = None
    thickness_mm: float | None = None
    gap_mm: float | None = None
    profile: str = "slr"
    like: str | None = None
    steps: int = 4
    samples: int = 1
    fusion: str = "final"
    eta: float = 0.0
    guided: bool = True
    grain: bool = False
    self_check: bool = True
    adapt: float | None = None
    noise: float = 0.0
    n4: bool = True
    bias_corrected: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16
    model: str | None = None
    volume: int | None = None
    scale_header: float | None = None

    def __post_init__(self) -> None:
        """Check what no other part checks before work begins."""
        if self.adapt is not None and not 0 < self.adapt < float("inf"):
            raise SettingsError(f"adapt: minutes must be a number above 0, got {self.adapt:g}; leave it out for none")

    @classmethod
    def of(cls, preset: str | None = None, **options: Any) -> Settings:
        """Return the settings of a preset, changed by options.

        Raises:
            SettingsError: The preset or an option does not exist.
        """
        if preset is not None and preset not in PRESETS:
            raise SettingsError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
        unknown = sorted(set(options) - {field.name for field in fields(cls)})
        if unknown:
            raise SettingsError(f"settings: must be known ones, got {', '.join(unknown)}; see bida.Settings")
        chosen = dict(PRESETS.get(preset or "", {}))
        if options.get("factor") is not None or options.get("like") is not None:
            chosen.pop("spacing", None)  # the grid is the user's own choice then
        return replace(cls(), **{**chosen, **options})
