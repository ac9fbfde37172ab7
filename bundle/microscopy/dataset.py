"""The slices of stacks that a masked network is trained on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.microscopy.grid import STACK_PLANES
from bida.microscopy.load import IntensityLine, load_stack
from bida.microscopy.stacks.opensrh import CHANNELS, KINDS, is_opensrh, opensrh_patches, read_patch
from bida.microscopy.stacks.paths import split_range
from bida.training.dataset import SliceStacks, Transform


class StackSlices(SliceStacks):
    """Slices of microscopy stacks, each stack on its own `IntensityLine`.

    A plane is drawn first, then a stack with the chance of its number of slices, then a slice. Slices of one value
    are left out.

    Args:
        stacks: Files, with ranges of planes where wanted, see `load_stack`.
        transform: See ``SliceStacks``; it gets [C, H, W].
        seed: Seed of all draws.
        planes: Where slices are taken from: ``xy``, and ``xz`` and ``yz`` where the stacks are sharp along z.
        length: Number of samples of one pass.
        block_mean, clip_percentile: See `load_stack`; one value for all stacks, or a list of one each.
        voxel_um, frames_are_z: See `load_stack`.
        apart: Let each channel be a stack of its own, of one channel.

    Raises:
        SettingsError: There is no stack, a plane is unknown, a list has not one value a stack, or the stacks differ in
            their number of channels.
    """

    def __init__(
        self,
        stacks: Sequence[str],
        transform: Transform,
        seed: int = 0,
        planes: Sequence[str] = ("xy",),
        length: int = 256,
        block_mean: int | Sequence[int] = 1,
        clip_percentile: float | Sequence[float | None] | None = None,
        voxel_um: Sequence[float] | None = None,
        apart: bool = False,
        frames_are_z: bool = False,
    ) -> None:
        """Load every stack into memory."""
        if not stacks:
            raise SettingsError("stacks: at least one must be named to train on and one to validate on, got none")
        unknown = sorted(set(planes) - STACK_PLANES.keys())
        if unknown or not planes:
            raise SettingsError(f"planes: must be some of {', '.join(STACK_PLANES)}, got {list(planes)}")
        blocks, clips = one_each(block_mean, stacks, "block_mean"), one_each(clip_percentile, stacks, "clip_percentile")
        volumes = []
        for spec, block, clip in zip(stacks, blocks, clips):
            data = load_stack(spec, block, clip, voxel_um, frames_are_z).data
            volume = np.moveaxis(IntensityLine.of(data).forward(data), 0, -1)  # [Z, Y, X, C]
            volumes += np.split(volume, volume.shape[-1], axis=-1) if apart else [volume]
        channels = sorted({volume.shape[-1] for volume in volumes})
        if len(channels) > 1:
            raise SettingsError(f"stacks: must have one number of channels, got {channels}")
        normals = {"xy": 0, "xz": 1, "yz": 2}
        slices, weights = {}, {}
        for plane in planes:
            taken = []
            for volume in volumes:
                turned = np.moveaxis(volume, normals[plane], 0)  # [N, H, W, C]
                taken.append((turned, np.flatnonzero(np.ptp(turned.reshape(len(turned), -1), axis=1) > 0)))
            counts = np.array([len(useful) for _, useful in taken], dtype=np.float64)
            if not counts.sum():
                raise SettingsError(f"stacks: the {plane} plane must have slices of more than one value, it has none")
            slices[STACK_PLANES[plane]], weights[STACK_PLANES[plane]] = taken, counts / counts.sum()
        super().__init__(slices, transform, seed, weights, length)
        self.channels = channels[0]


def one_each(value: Any, stacks: Sequence[str], name: str) -> list[Any]:
    """Return a value a stack, of one for all or of a list.

    Raises:
        SettingsError: The list has another length.
    """
    if not isinstance(value, list | tuple):
        return [value] * len(stacks)
    if len(value) != len(stacks):
        raise SettingsError(f"{name}: must be one value or one a stack, {len(stacks)}, got {len(value)}; correct it")
    return list(value)


class _Patches:
    """Read patches [H, W, 3] when they are asked for, each brought to [-1, 1] by its own `IntensityLine`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Keep the paths."""
        self.paths = paths

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]:
        """Return patch ``index``."""
        patch = read_patch(self.paths[index])[:, None]  # [C, 1, H, W], a stack of one plane
        return np.moveaxis(IntensityLine.of(patch).forward(patch)[:, 0], 0, -1)


class OpenSrhSlices(SliceStacks):
    """Patches of a split of OpenSRH, drawn as the slices of stacks are, every patch with the same chance.

    A z-stack is restored on the line of its own field of view (`IntensityLine`), so a patch is taught on its own.
    Blank patches are drawn too: leaving them out would take a reading of all.

    Args:
        root: The data set's folder, see `opensrh_patches`.
        split: ``train`` or ``val``.
        transform: See ``SliceStacks``; it gets [3, H, W].
        seed: Seed of all draws.
        length: Number of samples of one pass.
        kinds: Which patches, of ``tumor``, ``normal`` and ``nondiagnostic``.

    Raises:
        ScanError: See `opensrh_patches`; and `read_patch`, when a patch is drawn.
        SettingsError: The split has no such patch, or a kind is unknown.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        transform: Transform,
        seed: int = 0,
        length: int = 256,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        """Read the lists, and no patch."""
        paths = opensrh_patches(root, split, kinds)
        if not paths:
            raise SettingsError(f"{root}: split {split} must list patches that are {' or '.join(kinds)}, it lists none")
        patches = (_Patches(paths), np.arange(len(paths)))
        super().__init__({STACK_PLANES["xy"]: [patches]}, transform, seed, length=length)
        self.channels = len(CHANNELS)


def masked_slices(
    stacks: Sequence[str],
    split: str,
    transform: Transform,
    seed: int = 0,
    length: int = 256,
    kinds: Sequence[str] | None = None,
    **of_stacks: Any,
) -> OpenSrhSlices | StackSlices:
    """Return the slices of stacks, or those of a split of OpenSRH where its folder is named.

    Args:
        stacks: See `StackSlices`; or OpenSRH's folder alone.
        split: Of OpenSRH, ``train`` or ``val``.
        transform, seed, length: See `StackSlices`.
        kinds: Of OpenSRH alone, all when None, see `OpenSrhSlices`.
        of_stacks: Of stacks alone, the other arguments of `StackSlices`; for OpenSRH they must be its defaults.

    Raises:
        SettingsError: A setting does not hold for what is named, or see `StackSlices` and `OpenSrhSlices`.
        ScanError: See `OpenSrhSlices` and `load_stack`.
    """
    root = opensrh_root(stacks)
    if root is None:
        if kinds is not None:
            raise SettingsError(f"kinds: must be null for stacks, which have none, got {kinds}; leave it out")
        return StackSlices(stacks, transform, seed, length=length, **of_stacks)
    arguments = inspect.signature(StackSlices).parameters
    if of_stacks.pop("apart", False):
        raise SettingsError(f"{root}: method must not be guided for OpenSRH's patches, whose channels belong together")
    for name, value in of_stacks.items():
        neutral = arguments[name].default
        if (tuple(value) if isinstance(value, list) else value) != neutral:
            wanted = list(neutral) if isinstance(neutral, tuple) else neutral or "null"
            raise SettingsError(
                f"{root}: {name} holds for stacks alone and must be {wanted} for OpenSRH's patches, "
                f"got {value}; leave it out"
            )
    return OpenSrhSlices(root, split, transform, seed, length, KINDS if kinds is None else kinds)


def opensrh_root(stacks: Sequence[str]) -> str | None:
    """Return OpenSRH's folder where it is what is named, else None.

    Raises:
        SettingsError: It is named among others, or with a range of planes.
    """
    roots = [spec for spec in stacks if is_opensrh(split_range(spec)[0])]
    if roots and (len(stacks) > 1 or split_range(roots[0])[0] != roots[0]):
        raise SettingsError(
            f"{split_range(roots[0])[0]}: OpenSRH's folder must be named alone and without a range of planes, "
            f"got {', '.join(stacks)}; leave the others out"
        )
    return roots[0] if roots else None


def validation_stacks(stacks: Sequence[str], named: Sequence[str]) -> list[str]:
    """Return what to validate on: what is named, or where nothing is, the OpenSRH folder of the training.

    Raises:
        SettingsError: Nothing is named beside stacks, which have no splits.
    """
    if not named and stacks and opensrh_root(stacks) is None:
        raise SettingsError(
            f"validation_stacks: must be named for stacks such as {stacks[0]}, got none; give --val STACK, "
            "as in --val 'STACK[0:40]' for some of the planes"
        )
    return list(named or stacks)
