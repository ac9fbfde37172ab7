"""OpenSRH on disk: its lists of patches, its two-channel patches, and z-stacks as tensors.

A stimulated Raman image has two acquired channels, CH2 (2845 1/cm, lipids) and CH3 (2930 1/cm, proteins and DNA), in 16
bits. The third is their difference on an offset, and stands first, as in the data set's own software:

    [CH3 - CH2 + 5000 / 65536, CH2, CH3], each channel divided by 65536 first, all clipped to [0, 1]

Source: Jiang et al., OpenSRH, NeurIPS Datasets and Benchmarks 2022; the order and the clip as in its published code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import ArrayLike, NDArray

from bida.errors import ScanError, SettingsError
from bida.io.weights import MISFITS, unpacked
from bida.microscopy.stacks.axes import Found
from bida.microscopy.stacks.ome_tiff import whole_tiff
from bida.microscopy.stacks.paths import FIELD

LEVELS = 65536.0  # of 16 bits
OFFSET = 5000 / LEVELS  # keeps most differences above zero
CHANNELS = ("CH3 - CH2", "CH2", "CH3")
KINDS = ("tumor", "normal", "nondiagnostic")
LIST = "meta/opensrh.json"  # in the data set's folder


def is_opensrh(path: str | Path) -> bool:
    """Return whether a folder has OpenSRH's list of patches."""
    return (Path(path) / LIST).is_file()


def opensrh_patches(root: str | Path, split: str | Sequence[str], kinds: Sequence[str] = KINDS) -> list[Path]:
    """Return the paths of the patches of a split, in the order of the data set's own lists.

    Args:
        root: folder that holds ``meta/opensrh.json`` (patient to ``slides``, slide to ``<kind>_patches``, paths from
            the root) and ``meta/train_val_split.json`` (``train`` and ``val``, lists of patients).
        split: ``train`` or ``val``, or the patients themselves.
        kinds: which of a slide's lists; a slide need not have all.

    Raises:
        ScanError: a list is missing or damaged, or a patient is not in it.
        SettingsError: an unknown split or kind.
    """
    root = Path(root)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SettingsError(f"kinds: must be among {', '.join(KINDS)}, got {', '.join(unknown)}")
    listed = root / LIST
    described = _json(listed)
    patients = _split(root, split) if isinstance(split, str) else list(split)
    found: list[Path] = []
    for patient in patients:
        try:
            slides = described[patient]["slides"]
            found += [
                root / patch
                for slide in slides.values()
                for kind in kinds
                for patch in slide.get(f"{kind}_patches", ())
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise ScanError(f"{listed}: must list patient {patient} with slides and patches, it does not") from error
    return found


def _split(root: Path, split: str) -> list[str]:
    path = root / "meta" / "train_val_split.json"
    splits = _json(path)
    if split not in ("train", "val"):
        raise SettingsError(f"split: must be train, val or a list of patients, got '{split}'")
    if not isinstance(splits.get(split), list):
        raise ScanError(f"{path}: must hold a list of patients named {split}, it does not")
    return list(splits[split])


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScanError(f"{path}: OpenSRH must have this list, got '{error}'; name the data set's root") from error
    if not isinstance(content, dict):
        raise ScanError(f"{path}: must be a JSON object, got a {type(content).__name__}")
    return content


def three_channels(raman: ArrayLike) -> NDArray[np.float32]:
    """Make the three channels of acquired CH2 and CH3.

    Args:
        raman: [2, ...], 16-bit intensities.

    Returns:
        [3, ...] in [0, 1], see the formula above.
    """
    ch2, ch3 = np.asarray(raman, dtype=np.float32) / np.float32(LEVELS)
    return np.clip(np.stack([ch3 - ch2 + np.float32(OFFSET), ch2, ch3]), 0, 1)


def read_patch(path: str | Path) -> NDArray[np.float32]:
    """Read a patch, a TIFF [2, H, W] of 16 bits, as its three channels [3, H, W] in [0, 1].

    Raises:
        ScanError: the file cannot be read, or holds something else.
    """
    with whole_tiff(path):
        raman = tifffile.imread(path)
    if raman.ndim != 3 or raman.shape[0] != 2 or raman.dtype != np.uint16:
        raise ScanError(f"{path}: a patch must be [2, H, W] of 16 bits, got {raman.shape} {raman.dtype}")
    return three_channels(raman)


def is_field(spec: str | Path) -> bool:
    """Return whether a z-stack's tensor, or a field of view of one, is named."""
    return FIELD.match(str(spec)) is not None


def read_field(spec: str | Path) -> Found:
    """Read a field of view of a z-stack, a tensor [px, py, z, c, h, w]: a grid of px x py fields of view through depth.

    Args:
        spec: ``FILE.pt[ROW,COLUMN]``, both from 0, the file what `torch.save` wrote; or FILE.pt where it has one field.
            Two channels are 16-bit intensities of CH2 and CH3, of which the three are made; three channels stay as
            they are.

    Returns:
        [3, z, h, w]; the tensor does not hold voxel sizes.

    Raises:
        ScanError: not a tensor, or of another shape.
        SettingsError: the field is not there, or none of several is named.
    """
    match = FIELD.match(str(spec))
    if match is None:
        raise SettingsError(f"{spec}: a z-stack must be named as FILE.pt or FILE.pt[ROW,COLUMN]; rename it")
    path = match["path"]
    try:
        tensor = unpacked(Path(path).read_bytes())
    except (OSError, *MISFITS) as error:
        reason = " ".join(str(error).split())[:120]
        raise ScanError(f"{path}: must be a tensor that torch can load, got '{reason}'; look at the file") from error
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 6 or tensor.shape[3] not in (2, 3):
        got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ScanError(f"{path}: a z-stack must be a tensor [px, py, z, c, h, w] with 2 or 3 channels, got {got}")
    rows, columns = tensor.shape[:2]
    if match["row"] is None and rows * columns != 1:
        raise SettingsError(
            f"{path}: one of its {rows} x {columns} fields of view must be named, got none; "
            f"give '{path}[ROW,COLUMN]', both from 0"
        )
    row, column = int(match["row"] or 0), int(match["column"] or 0)
    if row >= rows or column >= columns:
        raise SettingsError(f"{spec}: the field must be one of {rows} x {columns}, counted from 0, it is not; mend it")
    field = tensor[row, column].numpy().swapaxes(0, 1)  # [c, z, h, w]
    return Found(three_channels(field) if len(field) == 2 else field, channels=CHANNELS)
