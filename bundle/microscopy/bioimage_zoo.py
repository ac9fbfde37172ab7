"""A guided network as a package of the BioImage Model Zoo: from the planes of a stack to its isotropic volume.

The description is that of bioimage.io's specification 0.5; the network is TorchScript, so that what runs it needs no
bida. Intensities are scaled by the description's own steps, before the network.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import tifffile
import torch
import yaml
from numpy.typing import NDArray

from bida.diffusion.scriptable import quiet
from bida.io.files import atomic, check_output, make_folder
from bida.microscopy.load import PERCENTILES
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.scriptable import ScriptableMean
from bida.provenance import versions

FORMAT = "0.5.4"  # of the specification
HALO = 16  # voxels, along y and x: to the middle of the overlap of `superres-masked`'s tiles
TEST_SHAPE = (6, 56, 64)  # planes, y, x
COVER_SIDE = 320  # pixels
METHOD = {
    "text": "Jiang et al. 2024, Super-resolution of biomedical volumes with 2D supervision (MSDSR)",
    "doi": "10.48550/arXiv.2404.09425",
}
README = """# {name}

Planes of a microscopy stack in, an isotropic volume out: {factor} x finer along z. Research use only.

- Input: one channel, z, y, x, any numbers; {low} and {high}% of its voxels' values are brought to 0 and 1 by the
  package's preprocessing. A stack of several channels is given channel by channel.
- Output: (planes - 1) x {factor} + 1 voxels along z, float32, on that scale: multiply by the difference of the two
  percentiles and add the lower one to have the stack's own numbers. Acquired planes come back as they are.
- The network sees XZ and YZ slices of the linear interpolation and tells what that lacks; the volume is the mean of
  both, that of `bida superres-masked --minutes 0 --self-check off --factor {factor} --as-factor {factor}`. Near the
  border in y and x the two differ a little, for bioimageio.core continues a stack there by its mirror image. By default
  the command restores the stack finer than asked, as far as its planes differ, which has a lower error.
- It learned from XY planes: it is for stacks that look alike along z, y and x. It was not trained on your stack, as
  the command does for some minutes, and nothing here says whether it beats interpolation on it.

# Validation

Leave every other plane of a stack out, restore them at 2x and compare them with linear interpolation; the self-check of
`bida superres-masked` does so with rows of the stack's own planes. Figures on planes that the shipped network has not
seen are in docs/microscopy.md of bida, by microCT, FIB-SEM and autofluorescence.

Made by bida {version} from weights of SHA-256 {weights}.
"""


@dataclass(frozen=True)
class Part:
    """A file of a package, by its name in it."""

    name: str
    content: bytes

    def described(self) -> dict[str, str]:
        """Return how a description names it."""
        return {"source": self.name, "sha256": sha256(self.content).hexdigest()}


def write_package(prior: MaskedPrior, folder: str | Path, factor: int, *, overwrite: bool = False) -> Path:
    """Write a network as a package, ``masked_FACTORx.zip``.

    Args:
        prior: Of method ``guided``, float32, on the CPU.
        folder: Made where it is missing.
        factor: Plane spacing over voxel size, see `ScriptableMean`.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        SettingsError: See `ScriptableMean`.
        ScanError: The file exists or cannot be written.
    """
    network = ScriptableMean(prior, factor).eval()
    file = check_output(make_folder(folder) / f"masked_{factor}x.zip", overwrite=overwrite, suffixes=(".zip",))
    name, version = f"bida - isotropic stacks {factor}x", versions()["bida"]
    weights = Part("weights.pt", scripted(network))
    planes = made_planes(TEST_SHAPE, factor)
    with torch.no_grad():
        volume = network(torch.from_numpy(scaled(planes))).numpy()
    low, high = PERCENTILES
    told = {"factor": factor, "low": low, "high": high, "version": version, "weights": prior.weights_sha256}
    parts = {
        "documentation": Part("README.md", README.format(name=name, **told).encode()),
        "cover": Part("cover.png", cover(scaled(planes), volume, factor)),
        "input": Part("test_input.npy", as_npy(planes)),
        "output": Part("test_output.npy", as_npy(volume)),
        "sample_input": Part("sample_input.tif", as_tiff(planes, factor)),
        "sample_output": Part("sample_output.tif", as_tiff(volume, 1)),
        "weights": weights,
    }
    text = yaml.safe_dump(description(name, parts, factor, version, prior.weights_sha256), sort_keys=False)
    with atomic(file) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as package:
        for part in (Part("rdf.yaml", text.encode()), *parts.values()):
            package.writestr(part.name, part.content)
    return file


def description(name: str, parts: dict[str, Part], factor: int, version: str, weights_sha256: str) -> dict[str, Any]:
    """Return what ``rdf.yaml`` says."""
    low, high = PERCENTILES
    percentiles = {"axes": ["z", "y", "x"], "min_percentile": low, "max_percentile": high}
    scale = {"id": "scale_range", "kwargs": percentiles}
    return {
        "type": "model",
        "format_version": FORMAT,
        "name": name,
        "version": version,
        "description": f"From planes of a stack to a volume that is {factor} x finer along z; research use only.",
        "authors": [{"name": "The bida developers"}],
        "cite": [METHOD],
        "license": "Apache-2.0",
        "tags": ["super-resolution", "isotropic", "microscopy", "3d", "restoration", "pytorch"],
        "documentation": parts["documentation"].name,
        "covers": [parts["cover"].name],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {"bida": {"factor": factor, "weights_sha256": weights_sha256}},
        "inputs": [
            {
                "id": "planes",
                "description": "a channel of a stack as acquired, in any numbers",
                "axes": axes([{"min": 2, "step": 1}, *[{"min": 2 * HALO + 2, "step": 1}] * 2], z_scale=factor),
                "data": {"type": "float32"},
                "preprocessing": [scale],
                "test_tensor": parts["input"].described(),
                "sample_tensor": parts["sample_input"].described(),
            }
        ],
        "outputs": [
            {
                "id": "volume",
                "description": "isotropic; 0 and 1 are the percentiles of the planes",
                "axes": axes([sized(axis, factor) for axis in "zyx"], z_scale=1),
                "data": {"type": "float32"},
                "test_tensor": parts["output"].described(),
                "sample_tensor": parts["sample_output"].described(),
            }
        ],
        "weights": {"torchscript": {**parts["weights"].described(), "pytorch_version": torch_version()}},
    }


def axes(sizes: Sequence[dict[str, Any]], z_scale: int) -> list[dict[str, Any]]:
    """Return the axes of a tensor: sizes along z, y and x, with the distance of its planes in voxels."""
    scales = (z_scale, 1, 1)
    space = [
        {"type": "space", "id": axis, "scale": float(scale)} | ({"halo": size["halo"]} if "halo" in size else {})
        for axis, scale, size in zip("zyx", scales, sizes)
    ]
    for axis, size in zip(space, sizes):
        axis["size"] = {key: value for key, value in size.items() if key != "halo"}
    return [{"type": "batch"}, {"type": "channel", "channel_names": ["intensity"]}, *space]


def sized(axis: str, factor: int) -> dict[str, Any]:
    """Return the size of an axis of the volume by that of the planes: size scale / own scale + offset."""
    own = {"tensor_id": "planes", "axis_id": axis}
    return own | ({"offset": 1 - factor} if axis == "z" else {"halo": HALO})


def torch_version() -> str:
    """Return PyTorch's version without what it was built for."""
    return torch.__version__.partition("+")[0]


def scripted(network: ScriptableMean) -> bytes:
    """Return a network as a TorchScript file."""
    buffer = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(network), buffer)
    return buffer.getvalue()


def as_npy(data: NDArray) -> bytes:
    """Return an array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, data)
    return buffer.getvalue()


def as_tiff(data: NDArray, spacing: int) -> bytes:
    """Return a stack [1, 1, Z, Y, X] as an ImageJ TIFF; planes are so many pixels apart."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        data[0, 0],
        imagej=True,
        resolution=(1, 1),
        metadata={"axes": "ZYX", "spacing": spacing, "unit": "pixel"},
    )
    return buffer.getvalue()


def scaled(planes: NDArray) -> NDArray[np.float32]:
    """Return planes [1, 1, Z, Y, X] as the description's preprocessing scales them."""
    low, high = np.percentile(planes, PERCENTILES)
    return ((planes - low) / (high - low + 1e-6)).astype(np.float32)  # the specification's eps


def made_planes(shape: tuple[int, int, int], factor: int) -> NDArray[np.float32]:
    """Return planes of made blobs, [1, 1, *shape], every factor-th one of an isotropic volume."""
    from skimage.data import binary_blobs
    from skimage.filters import gaussian

    fine = (shape[0] - 1) * factor + 1
    side = max(fine, *shape[1:])
    blobs = binary_blobs(side, blob_size_fraction=8 / side, n_dim=3, volume_fraction=0.4, rng=0)
    volume = gaussian(blobs.astype(np.float32), 0.7)[:fine:factor, : shape[1], : shape[2]]
    noise = np.random.default_rng(0).normal(0, 20, shape)
    return (200 + 1000 * volume + noise).astype(np.float32)[None, None]


def cover(planes: NDArray[np.float32], volume: NDArray[np.float32], factor: int) -> bytes:
    """Return a picture of the middle XZ slice: planes as thick as their distance, and the volume beside it."""
    from PIL import Image

    y = volume.shape[3] // 2
    acquired = np.repeat(planes[0, 0, :, y], factor, axis=0)[: volume.shape[2]]
    pair = [Image.fromarray(np.uint8(255 * np.clip(half, 0, 1))) for half in (acquired, volume[0, 0, :, y])]
    picture = Image.new("L", (2 * COVER_SIDE, COVER_SIDE))
    for k, half in enumerate(pair):
        picture.paste(half.resize((COVER_SIDE, COVER_SIDE), Image.Resampling.NEAREST), (k * COVER_SIDE, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
