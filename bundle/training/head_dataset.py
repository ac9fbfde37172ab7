"""Training data of the skull stripper: windows of real heads with masks, and of synthetic ones grown around brains."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_to_output
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset

from bida.errors import SettingsError
from bida.eval.skullstrip.network import VOXEL_MM, WINDOW, largest_body, resize
from bida.physics.grid import spacing_of
from bida.training.synthetic_head import Frame, grow_head, paint_labels, paint_tissues, smooth_field

EXTRACTED = 0.4  # a scan with more exact zeros than this share of its voxels has no head
RAT_MM = 13.0  # a wider brain is a rat's, 15 to 18 mm; a mouse's is 10 to 11.5 mm wide, its length is up to its bulbs
TISSUES = ("skull", "CSF", "GM", "WM")  # names of the probability maps of a head, as files have them
WANDERS = 0.25  # share of windows that lie anywhere in the head: a rat's is larger than a window
STEP = 0.01  # of intensities in a packed file, 8 bits up to 2.55 times the brain's
MIRRORED = (0.5, 0.3, 0.4)  # share of windows with R, A and S reversed: headers of small animals mislabel their axes
# A brain in a head ends at the foramen magnum, as masks drawn by hand do. Brain-extracted scans and label maps end
# anywhere, up to 4 mm further back in the cord: sections there have less than this share of the largest one's area.
BRAINSTEM = 0.12
CORD = 0.04  # smaller sections at the end of a mask are loose ends
SWAPPED = 0.15  # share of windows with A and S exchanged, as headers of coronal slices often have them
Draw = np.random.Generator


@dataclass(frozen=True)
class Source:
    """One animal's brain on a grid of ``VOXEL_MM``.

    Attributes:
        name: data set and subject, for messages.
        image: [1, R, A, S]; labels where ``labels`` is set, else intensities, 99th percentile of the brain 1. Four
            channels [4, R, A, S] are the probabilities of skull, fluid, grey and white matter.
        mask: [1, R, A, S] float, 1 in the brain.
        labels: the image is a label map.
        head: the image shows a head, not a brain alone.
        weight: how often it is drawn, beside others of its kind.
    """

    name: str
    image: Tensor
    mask: Tensor
    labels: bool = False
    head: bool = False
    weight: float = 1.0

    @property
    def tissues(self) -> bool:
        """Whether the image holds the probabilities of tissues."""
        return len(self.image) == len(TISSUES)

    @cached_property
    def sections_mm2(self) -> NDArray[np.float64]:
        """Areas of the mask's coronal sections from back to front, [A]."""
        return np.asarray((self.mask[0] > 0.5).sum(dim=(0, 2)).numpy() * VOXEL_MM**2, dtype=np.float64)

    @cached_property
    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The middle of the brain, in voxels, and half of its extent, mm; without the cord but in real heads."""
        inside = self.mask[0].numpy() > 0.5
        if not self.head:
            inside = inside.copy()
            inside[:, : section_of(self.sections_mm2, BRAINSTEM)] = False
        places = np.argwhere(inside)
        low, high = places.min(axis=0), places.max(axis=0)
        return (low + high) / 2, (high - low + 1) / 2 * VOXEL_MM

    @cached_property
    def end_mm(self) -> NDArray[np.float64]:
        """R, A and S of the middle of the section in which the mask ends, from the brain's, and its radius; [4] mm."""
        place = section_of(self.sections_mm2, CORD)
        section = self.mask[0, :, place].numpy() > 0.5
        x, z = np.argwhere(section).mean(axis=0)
        radius = np.sqrt(self.sections_mm2[place] / np.pi)
        return np.array([*(np.array([x, place, z]) - self.box[0]) * VOXEL_MM, radius])


def section_of(areas: NDArray[np.float64], share: float) -> int:
    """Return the hindmost section that has a share of the largest one's area."""
    return int(np.flatnonzero(areas >= share * areas.max())[0])


def find_sources(data: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Read brains from BIDS data sets.

    Args:
        data: for each data set its ``folder`` and the subjects to ``exclude`` (or, alone, to ``include``). Images
            with a brain mask in ``derivatives/masks`` are heads unless most of their voxels are exactly zero; a data
            set of ``*_dseg`` files without images gives label maps, one of ``*_probseg`` files its tissues alone.
            ``weight`` is shared by the animals of a data set: how often one of it is drawn; else each counts 1.
            ``files`` is the pattern of file names to take, ``*``.

    Raises:
        SettingsError: A folder is missing or gives nothing.
    """
    sources = []
    for item in data:
        folder = Path(item["folder"])
        if not folder.is_dir():
            raise SettingsError(f"{folder}: data folder must exist, it does not; name a BIDS data set")
        maps = sorted(folder.glob("[st]*-*/**/*_label-CSF_probseg.nii.gz"))
        paths = maps or sorted(folder.glob(f"[st]*-*/**/{item.get('files', '*')}.nii.gz"))
        chosen = [
            source
            for path in paths
            if wanted(path.relative_to(folder).parts[0], item) and (source := read_source(path, folder)) is not None
        ]
        if not chosen:
            raise SettingsError(f"{folder}: at least one brain must be left, got none; check include and exclude")
        weight = float(item.get("weight", len(chosen))) / len(chosen)
        sources += [replace(source, weight=weight) for source in chosen]
    return sources


def save_sources(path: str | Path, sources: Sequence[Source]) -> None:
    """Write sources to one small file, for a machine that has not got the data; intensities are rounded to 0.01.

    Args:
        path: of a file ``.npz``.
        sources: of `find_sources`.
    """
    packed: dict[str, Any] = {}
    for number, source in enumerate(sources):
        scale = 1.0 if source.labels else STEP
        packed[f"{number}/about"] = np.array([source.name, source.labels, source.head, source.weight], dtype=str)
        image = (source.image / scale).round().clamp(0, 65535 if source.labels else 255).numpy()
        packed[f"{number}/image"] = image.astype(np.uint16 if image.max() > 255 else np.uint8)
        packed[f"{number}/mask"] = (source.mask * 255).round().clamp(0, 255).numpy().astype(np.uint8)
    np.savez_compressed(path, **packed)


def load_sources(path: str | Path) -> list[Source]:
    """Read what `save_sources` wrote.

    Raises:
        SettingsError: The file is missing or none of its.
    """
    try:
        with np.load(path, allow_pickle=False) as packed:
            return [unpacked(packed, number) for number in range(len(packed.files) // 3)]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SettingsError(
            f"{path}: must be a file of packed sources, reading it failed with '{' '.join(str(error).split())}'; "
            "write it with bida.training.save_sources"
        ) from error


def unpacked(packed: Mapping[str, NDArray[Any]], number: int) -> Source:
    """Return one source of a packed file."""
    name, labels, head, weight = (str(value) for value in packed[f"{number}/about"])
    scale = 1.0 if labels == "True" else STEP
    image = torch.from_numpy(packed[f"{number}/image"].astype(np.float32) * np.float32(scale))
    mask = torch.from_numpy(packed[f"{number}/mask"].astype(np.float32) / 255)
    return Source(name, image, mask, labels == "True", head == "True", float(weight))


def wanted(subject: str, item: Mapping[str, Any]) -> bool:
    """Return whether a data set's entry asks for a subject."""
    return subject not in item.get("exclude", ()) and subject in (item.get("include") or [subject])


def read_source(path: Path, folder: Path) -> Source | None:
    """Read one image or label map with its brain; None for an image without a brain mask."""
    name = str(path.relative_to(folder))
    if path.name.endswith("_label-CSF_probseg.nii.gz"):
        stem = path.name.removesuffix("_label-CSF_probseg.nii.gz")
        maps = [on_grid(path.with_name(f"{stem}_label-{tissue}_probseg.nii.gz"), order=1) for tissue in TISSUES]
        mask = on_grid(path.with_name(f"{stem}_desc-brain_mask.nii.gz"), order=1)
        return Source(name, torch.cat(maps).clamp(0, 1), mask)
    if path.name.endswith("_dseg.nii.gz"):
        labels = on_grid(path, order=0)
        return Source(name, labels.round(), body(labels > 0), labels=True)
    image, share = on_grid(path, order=1), on_grid(path, order=1, tissue=True)
    if float((share == 0).float().mean()) > EXTRACTED:
        brain = body(share >= 0.5)
        image = image / share.clamp(min=0.5)  # what lies around is drawn anew: no rim of what was zero
        return Source(name, image / image[brain > 0.5].quantile(0.99), brain)
    masks = list((folder / "derivatives" / "masks" / path.parent.relative_to(folder)).glob("*_mask.nii.gz"))
    own = [mask for mask in masks if mask.name.startswith(path.name.rpartition("_")[0] + "_")]
    if not own:
        return None
    mask = on_grid(own[0], order=1)
    return Source(name, image / image[mask > 0.5].quantile(0.99), mask, head=True)


def on_grid(path: Path, order: int, tissue: bool = False) -> Tensor:
    """Read a file as RAS on a grid of ``VOXEL_MM``: [1, R, A, S] float32; of its voxels above zero the share, if asked.

    The whole field of view, as the stripper does: half of a thick slice lies beyond the middle of the last one.
    """
    image: Any = nib.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    image = nib.as_closest_canonical(nib.Nifti1Image((data > 0).astype(np.float32) if tissue else data, image.affine))
    if order == 0:
        fine = resample_to_output(image, [VOXEL_MM] * 3, order=0, mode="nearest")
        return torch.from_numpy(np.asarray(fine.dataobj, dtype=np.float32))[None]
    volume = torch.from_numpy(np.ascontiguousarray(image.dataobj))[None]
    return resize(volume, [max(1, round(n * s / VOXEL_MM)) for n, s in zip(volume.shape[1:], spacing_of(image.affine))])


def body(foreground: Tensor) -> Tensor:
    """Return the brain that tissue [1, R, A, S] makes up: its largest part, fissures of 0.8 mm closed, no holes."""
    margin = np.pad(largest_body(foreground[0].numpy()), 4)
    closed = binary_fill_holes(binary_closing(margin, iterations=2))[4:-4, 4:-4, 4:-4]
    return torch.from_numpy(closed.astype(np.float32))[None]


class HeadDataset(Dataset):
    """Random windows of heads with their brain masks, sample ``i`` always the same for a seed.

    Args:
        sources: what to draw from.
        transform: applied to {"image": [1, X, Y, Z], "label": [1, X, Y, Z]}.
        length: samples of one pass; any index is valid.
        real: share of real heads, where there are any.
        bare: share of the other samples that stay without a head, as brain-extracted scans.
        window: voxels along each axis.
        seed: of all chance.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        length: int,
        real: float = 0.35,
        bare: float = 0.2,
        window: int = WINDOW,
        seed: int = 0,
    ) -> None:
        """Sort the sources."""
        self.heads = [source for source in sources if source.head]
        self.brains = [source for source in sources if not source.head]
        if not (self.heads or self.brains):
            raise SettingsError("sources: at least one brain must be given, got none")
        self.transform, self.length, self.window, self.seed = transform, length, window, seed
        self.real = float(not self.brains) if not (self.heads and self.brains) else real
        self.bare = bare

    def __len__(self) -> int:
        """Return the number of samples of one pass."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return sample ``index``, transformed."""
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index])))
        real = draw.random() < self.real
        family = self.heads if real else self.brains
        weights = np.array([source.weight for source in family])
        source = family[int(draw.choice(len(family), p=weights / weights.sum()))]
        image, mask, frame = sample_window(draw, source, self.window)
        bone, nervous = None, mask
        if source.tissues:
            bone, nervous = image[:2], mask | (image[2:].sum(dim=0) > 0.5)
            image = paint_tissues(draw, image[1:])
        elif source.labels:
            image = paint_labels(draw, image)
        elif draw.random() < 0.2 and not real:
            image = (1.2 - image).clamp(min=0)  # inverted contrast
        if not real:
            kept = mask if draw.random() < 0.8 else mask & (smooth_field(draw, mask.shape, 12) > -1.5)
            if draw.random() < self.bare:
                image = image * kept
            else:
                mask = mask & (frame.position_mm[1] >= -frame.half_mm[1])
                image = grow_head(draw, image, mask, frame, bone, nervous & ~mask)
        set_state = getattr(self.transform, "set_random_state", None)
        if set_state is not None:
            set_state(seed=int(draw.integers(2**32)))
        return self.transform({"image": image[None], "label": mask[None].float()})


def sample_window(draw: Draw, source: Source, window: int) -> tuple[Tensor, Tensor, Frame]:
    """Cut a window out of a source, turned, scaled, bent and mirrored by chance, in one interpolation.

    Returns:
        Image [X, Y, Z], of tissues [4, X, Y, Z], mask [X, Y, Z] bool, and where the voxels are in the head.
    """
    centre, half_mm = source.box
    rat = 2 * half_mm[0] > RAT_MM
    other = draw.random() < 0.35  # drawn as the other species, in size
    size = float(draw.uniform(0.8, 1.2))
    if other:
        size *= 0.6 if rat else 1.6
    spread = np.maximum(half_mm * size - 0.35 * window * VOXEL_MM, 0) + 1.0  # a large brain is seen in parts
    middle_mm = np.clip(draw.normal(0, 1.5, 3), -spread, spread) + draw.uniform(-1, 1, 3) * (spread - 1.0)
    if draw.random() < WANDERS:
        middle_mm += draw.uniform(-1, 1, 3) * (half_mm * size + 3)
    line = (np.arange(window) - (window - 1) / 2) * VOXEL_MM
    grid = torch.from_numpy(np.stack(np.meshgrid(line, line, line, indexing="ij")).astype(np.float32))
    grid = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(rotation(draw).astype(np.float32)), grid)
    stretch = torch.from_numpy(np.exp(draw.normal(0, 0.06, 3)).astype(np.float32)).reshape(3, 1, 1, 1)
    bend = torch.stack([smooth_field(draw, (window,) * 3, window / 4) for _ in range(3)]) * float(draw.uniform(0, 0.5))
    position = (grid + torch.from_numpy(middle_mm.astype(np.float32)).reshape(3, 1, 1, 1)) * stretch / size + bend
    for axis, share in enumerate(MIRRORED):
        if draw.random() < share:
            position[axis] = -position[axis]
    if draw.random() < SWAPPED:
        position = position[[0, 2, 1]]
    shape = np.array(source.mask.shape[1:])
    voxel = position / VOXEL_MM + torch.from_numpy(centre.astype(np.float32)).reshape(3, 1, 1, 1)
    unit = 2 * voxel / torch.from_numpy((shape - 1).astype(np.float32)).reshape(3, 1, 1, 1) - 1
    where = unit.flip(0).movedim(0, -1)[None]  # [1, X, Y, Z, 3], last axis first, as grid_sample takes it

    def at(volume: Tensor, mode: str) -> Tensor:
        return grid_sample(volume[None], where, mode=mode, padding_mode="zeros", align_corners=True)[0]

    image = at(source.image, "nearest" if source.labels else "bilinear")
    image = image if source.tissues else image[0]
    scale = 0.6 if rat else 1.0  # heads are drawn in mm of a mouse
    half, end = (tuple(float(value) * scale for value in values) for values in (half_mm, source.end_mm))
    frame = Frame(position * scale, half, VOXEL_MM * scale / size, end)  # type: ignore[arg-type]
    return image, at(source.mask, "bilinear")[0] > 0.5, frame


def rotation(draw: Draw) -> NDArray[np.float64]:
    """Return a rotation by some degrees about a random axis, now and then by many."""
    degrees = draw.normal(0, 8) if draw.random() < 0.85 else draw.normal(0, 25)
    axis = draw.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
