"""Volumes in a page: 8-bit NIfTI in base64, small enough for a page that is sent around, and NiiVue to look at them."""

from __future__ import annotations

import base64
import gzip
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage.measure import block_reduce

from bida.errors import ScanError

ROOM = 11 * 10**6  # bytes of all the volumes of a page in base64: with NiiVue and the figures it stays below 15 MB
LEVELS = 255
GENERATOR = '<meta name="generator" content="bida">'


@dataclass(frozen=True)
class Shown:
    """A volume of a page.

    Attributes:
        title: Line over it.
        data: [R, A, S].
        spacing_mm: Voxel sizes along R, A, S. The fields of view of a page's volumes share their centre.
        window: Intensities that are drawn black and white.
        colormap: NiiVue's name of the colours.
    """

    title: str
    data: NDArray[Any]
    spacing_mm: Sequence[float]
    window: tuple[float, float]
    colormap: str = "gray"


def encoded(volumes: Mapping[str, Shown], room: int = ROOM) -> tuple[dict[str, dict[str, Any]], int]:
    """Return what a page's script needs of its volumes, and by what their voxels were put together to fit.

    Args:
        volumes: Name to volume.
        room: Bytes that there are for all of them.

    Returns:
        Name to ``title``, ``colormap`` and ``base64`` of a gzipped NIfTI of 0-255; and the edge of the blocks of voxels
        that were averaged where the volumes are too large for the page, 1 where they are not.
    """
    block = 1
    while True:
        found = {
            name: {"title": one.title, "colormap": one.colormap, "base64": nifti_base64(one, block)}
            for name, one in volumes.items()
        }
        if sum(len(one["base64"]) for one in found.values()) <= room:
            return found, block
        block += 1


def nifti_base64(volume: Shown, block: int = 1) -> str:
    """Return a volume as a gzipped NIfTI of 0-255 in base64, its centre at the origin, its axes R, A, S."""
    low, high = volume.window
    share = np.clip((volume.data.astype(np.float32) - low) / max(high - low, 1e-30), 0.0, 1.0)
    sizes = np.asarray(volume.spacing_mm, dtype=np.float64)
    # thick slices stay what they are: along an axis as coarse as the blocks nothing is averaged
    blocks = tuple(block if size < block * sizes.min() else 1 for size in sizes)
    values = np.rint(LEVELS * (share if block == 1 else block_reduce(share, blocks, np.mean))).astype(np.uint8)
    affine = np.diag([*sizes * blocks, 1.0])
    affine[:3, 3] = sizes * (np.asarray(blocks) - 1) / 2 - sizes * (np.asarray(volume.data.shape) - 1) / 2
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()


def png_base64(picture: bytes) -> str:
    """Return a PNG as an ``img`` element takes it."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def niivue() -> Markup:
    """Return NiiVue's program, to stand in a script element."""
    return Markup(files("bida.report").joinpath("niivue.umd.js").read_text(encoding="utf-8"))


def is_own_page(path: str | Path) -> bool:
    """Return whether a file is a page that was made here."""
    try:
        with Path(path).open("rb") as file:
            return GENERATOR.encode() in file.read(1000)
    except OSError:
        return False


def check_page(path: str | Path) -> None:
    """Check that a page can be written without replacing what is no page of ours.

    Raises:
        ScanError: Something else is there.
    """
    if os.path.lexists(path) and not is_own_page(path):
        raise ScanError(f"{path}: a page must not replace what is none of bida's, something else is there; move it")


def page(template: str, **given: Any) -> str:
    """Return a template of this room filled in; what is given is escaped, and whatever it names must be given."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("bida.report").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(generator=Markup(GENERATOR), **given)


def thumbnail(volume: ArrayLike, window: tuple[float, float], size: int = 96) -> bytes:
    """Return a small PNG of a slice [rows, columns], the lower row first."""
    low, high = window
    image = np.clip((np.asarray(volume, dtype=np.float32) - low) / max(high - low, 1e-30), 0.0, 1.0)[::-1]
    picture = Image.fromarray(np.rint(255 * image).astype(np.uint8))
    picture.thumbnail((size, size))
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()
