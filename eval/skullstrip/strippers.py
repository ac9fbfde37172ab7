"""Skull strippers behind one contract: a volume goes in, a brain mask on the same grid comes out, or an error.

A stripper that is asked for by name is one of

    builtin      the network that is shipped with this package
    threshold    for brain-extracted scans, whose background is dark
    command:...  any program, such as ``command:rbm {in} {out}``; see `CommandStripper`
    a preset     such a program, with what it is known to need; see `PRESETS`
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError, StripperError
from bida.eval.skullstrip.command import CommandStripper
from bida.eval.skullstrip.mask import Mask, Stripper, check_mask

__all__ = [
    "PRESETS",
    "CommandStripper",
    "Preset",
    "Stripper",
    "StripperError",
    "ThresholdStripper",
    "check_mask",
    "licence_of",
    "make_stripper",
]

_COMMAND = "command:"


@dataclass(frozen=True)
class ThresholdStripper:
    """Find the brain in a scan that is brain-extracted: what stands out from a dark background.

    The tissue's level is the median of the voxels above a fifth of the 99.5th percentile. The brain is the largest
    connected part above `share` of that level, its holes filled. A scan with a head is refused: its air is noisy, or
    the head reaches the faces of the field of view.

    Attributes:
        share: threshold over the tissue's level, between 0 and 1. At an edge blurred across a slice, intensity falls
            to half of the tissue's level where the edge was, so that a much lower threshold makes the brains of
            blurred volumes larger; 0.4 leaves room for dark tissue.
        name: for tables.

    Raises:
        SettingsError: `share` is out of its range.
    """

    share: float = 0.4
    name: str = "threshold"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.share < 1:
            raise SettingsError(f"stripper {self.name}: share must be between 0 and 1, got {self.share:g}")

    def __call__(self, volume: NDArray, affine: NDArray) -> Mask:
        """Return the brain mask [R, A, S] of a brain-extracted volume [R, A, S]; the affine does not matter.

        Raises:
            StripperError: the volume is not brain-extracted, or `check_mask` refuses the mask.
        """
        from bida.eval.skullstrip.network import largest_body

        level = self._tissue_level(volume)
        inside = np.asarray(volume > self.share * level)
        self._check_background(volume, inside, level)
        return check_mask(largest_body(inside), volume, self.name)

    def _tissue_level(self, volume: NDArray) -> float:
        positive = volume[volume > 0]
        if not positive.size or not np.isfinite(volume).all():
            raise StripperError(
                f"stripper {self.name}: the volume must be finite and hold intensities > 0, got none or NaN; "
                "check the scan"
            )
        return float(np.median(positive[positive >= 0.2 * np.percentile(positive, 99.5)]))

    def _check_background(self, volume: NDArray, inside: Mask, level: float) -> None:
        """Refuse a head.

        Measured on real scans: the background of heads is at 0.06 to 0.2 of the tissue's level and they fill more than
        a tenth of 2 to 5 faces; extracted brains are at 0, at 0.02 with noise of 3% added, and fill none.
        """
        background = np.abs(volume[~inside])
        dark = float(np.median(background)) / level if background.size else math.inf
        faces = [np.take(inside, end, axis).mean() > 0.1 for axis in range(3) for end in (0, -1)]
        if dark > 0.04 or sum(faces) > 2:
            raise StripperError(
                f"stripper {self.name}: the scan must be brain-extracted, with a background below 4% of the tissue and "
                f"a brain that is cut by at most 2 faces, got {dark:.1%} and {sum(faces)} faces; "
                "take a stripper for heads, such as builtin"
            )


@dataclass(frozen=True)
class Preset:
    """A program, with what it is known to need.

    Attributes:
        command: as in `CommandStripper`.
        about: where the program and what is said of it come from, and what could not be tried.
        settings: more settings of the `CommandStripper`.
        values: placeholders of the command that are options of `make_stripper`, with their defaults.
        needs: such options without a default, and what they are; a single one may stand behind the preset's name and
            a colon.
        licence: whose weights they are and under what terms, to be shown to who uses them.
    """

    command: str
    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""


# But for seg4 none of these programs was run with this package: they are described as sources and papers have them.
PRESETS: dict[str, Preset] = {
    "rbm": Preset(
        command="rbm {in} {out}",
        about=(
            "2D U-Net of Hsu et al., Front. Neurosci. 14:568614, 2020 (github.com/CAMRIatUNC/RodentMRISkullStripping). "
            "It resamples to voxels of 0.1 mm and looks at 128 x 128 of them along the third axis, which must be "
            "coronal; a plane of fewer has no window and gives an empty mask, so that 12.8 mm are needed too. Which "
            "way up the slices were trained is not documented; P and S as in a scan of the same kind is a guess."
        ),
        settings={"orientation": "RSP", "minimum_in_plane": 128, "minimum_in_plane_mm": 12.8},
    ),
    "rs2net": Preset(
        command="RS2_predict -i {in_dir} -o {out_dir} -m {weights} -device {device}",
        about=(
            "3D network of Lin et al., NeuroImage 298:120769, 2024 (github.com/VitoLin21/Rodent-Skull-Stripping). It "
            "reads every NAME_0000.nii.gz of a folder, takes its weights from a file that is downloaded apart, and was "
            "trained on slices along the second and the third axis, so that no orientation is asked for."
        ),
        values={"device": "cpu"},
        needs={"weights": "the path of RS2_pretrained_model.pt"},
    ),
    "seg4": Preset(
        command="{python} -m bida.eval.skullstrip.seg4 {weights} {in} {out}",
        about=(
            "The 2D U-Net of seg-for-4modalities 1.0.6 (The Jackson Laboratory), for in vivo mice, whose program needs "
            "a TensorFlow of 2020: `bida.eval.skullstrip.seg4` computes its layers on slices at three pixel sizes, "
            "with which it finds rats too, and keeps the largest part of the opened mask. Coronal slices."
        ),
        settings={"orientation": "RSP"},
        values={"python": sys.executable},
        needs={"weights": "the wheel that `pip download --no-deps seg-for-4modalities==1.0.6` gets"},
        licence=(
            "stripper seg4: network of seg-for-4modalities 1.0.6, The Jackson Laboratory, BSD 2-clause by its "
            "package's METADATA; read its terms, nothing of it is part of bida"
        ),
    ),
    "antspynet": Preset(
        command="{python} -c {script} {in} {out}",
        about=(
            "3D U-Net of ANTsPyNet, mouse_brain_extraction with modality t2 (github.com/ANTsX/ANTsPyNet), which "
            "returns probabilities on the scan's grid. It downloads its weights and moves the scan by its centre of "
            "mass alone: headers must be in true mm and the head must point the way that its template does."
        ),
        values={
            "python": sys.executable,
            "script": (
                "import sys, ants, antspynet; scan = ants.image_read(sys.argv[1]); "
                "brain = antspynet.mouse_brain_extraction(scan, modality='t2'); ants.image_write(brain, sys.argv[2])"
            ),
        },
    ),
}


def make_stripper(name: str, **options: Any) -> Stripper:
    """Return a stripper by its name; it can be pickled, to be used by worker processes.

    Args:
        name: ``builtin``, ``threshold``, a name of `PRESETS` (``seg4:WHEEL`` where it needs a file), or ``command:``
            and a command as in `CommandStripper`.
        options: settings of the stripper: those of its class, or of the preset.

    Raises:
        SettingsError: no such stripper, an option that it does not have, or one that it needs is missing.
    """
    try:
        if name == "builtin":
            from bida.eval.skullstrip.network import BrainUNet

            return BrainUNet(**options)
        if name == "threshold":
            return ThresholdStripper(**options)
        if name.startswith(_COMMAND):
            return CommandStripper(name.removeprefix(_COMMAND).strip(), **options)
        preset, colon, value = name.partition(":")
        if preset in PRESETS and (not colon or len(PRESETS[preset].needs) == 1):
            given = {next(iter(PRESETS[preset].needs)): value} if colon else {}
            return _from_preset(preset, PRESETS[preset], {**given, **options})
    except TypeError as error:  # an option that is unknown
        raise SettingsError(f"stripper {name}: options must be those of the stripper, got '{error}'") from error
    known = ", ".join(["builtin", "threshold", *PRESETS, "command:PROGRAM {in} {out}"])
    raise SettingsError(f"stripper must be one of {known}, got '{name}'")


def licence_of(name: str) -> str:
    """Return what a user of a stripper should know of the terms of its weights, a sentence; empty for nothing."""
    preset = PRESETS.get(name.partition(":")[0])
    return "" if preset is None else preset.licence


def _from_preset(name: str, preset: Preset, options: Mapping[str, Any]) -> CommandStripper:
    for key, what in preset.needs.items():
        if key not in options:
            raise SettingsError(
                f"stripper {name}: {key} must be given, {what}; on the command line name the stripper "
                f"'{name}:{key.upper()}' with it for {key.upper()}, in Python give {key}=..."
            )
    filled = {key: str(options[key]) for key in options if key in {*preset.values, *preset.needs}}
    rest = {key: option for key, option in options.items() if key not in filled}
    return CommandStripper(
        preset.command, **{"name": name, **preset.settings, **rest}, values={**preset.values, **filled}
    )
