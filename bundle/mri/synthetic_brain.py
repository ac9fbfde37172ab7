"""The built-in sample: a synthetic mouse brain, drawn by formulas, for demos and tests that need a truth.

Every structure is an implicit function (negative inside, roughly the distance in mm to its surface), painted with a
soft edge. Sizes follow the usual adult mouse: 17.5 mm from olfactory bulb to brainstem, 10.5 mm across. Nothing is
copied from a scan. The contrast is that of an in vivo T2-weighted scan, brain extracted: grey matter 1, white matter
darker, fluid brighter, zero outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bida.errors import SettingsError

Array = NDArray[np.floating[Any]]
Points = tuple[Array, Array, Array]

# Intensities relative to grey matter, in the order of T2 at 7-9 T: myelin is short, fluid long
GREY, WHITE, DEEP, FLUID, DARK = 1.0, 0.70, 0.93, 1.75, 0.55
SCALE = 1000.0  # intensity of grey matter, as a scanner would store it
SNR = 17.0  # grey matter over the noise's standard deviation; in vivo mice at 0.15 mm have 10-14
EDGE_MM = 0.05  # softness of an edge; with a 0.15 mm voxel about what a sinc-shaped point spread leaves


def ellipsoid(
    p: Points, centre: tuple[float, float, float], radii: tuple[float, float, float], pitch: float = 0.0
) -> Array:
    """Return the approximate signed distance to an ellipsoid, in mm.

    Args:
        p: Coordinates (R, A, S) in mm, three arrays of one shape.
        centre: Centre in mm.
        radii: Half axes in mm.
        pitch: Rotation about the left-right axis in radians, nose up positive.

    Returns:
        Array of that shape, negative inside: ``k (k - 1) / |grad|`` with k the scaled radius, exact to first order at
        the surface.
    """
    x, y, z = p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]
    y, z = np.cos(pitch) * y + np.sin(pitch) * z, np.cos(pitch) * z - np.sin(pitch) * y
    k = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
    slope = np.sqrt((x / radii[0] ** 2) ** 2 + (y / radii[1] ** 2) ** 2 + (z / radii[2] ** 2) ** 2)
    return np.asarray(k * (k - 1) / np.maximum(slope, 1e-3), np.float32)


def smooth_min(a: Array, b: Array, width_mm: float) -> Array:
    """Join two bodies with a fillet of about ``width_mm``."""
    h = np.maximum(width_mm - np.abs(a - b), 0) / width_mm
    return np.minimum(a, b) - h * h * (width_mm / 4)


def inside(distance: Array, edge_mm: float = EDGE_MM) -> Array:
    """Turn a signed distance into coverage, 1 inside and 0 outside, soft over ``edge_mm``."""
    return np.asarray(0.5 - 0.5 * np.tanh(distance / (2 * edge_mm)), np.float32)


def shell(distance: Array, at_mm: float, width_mm: float) -> Array:
    """Return the coverage of a sheet ``width_mm`` thick where ``distance`` equals ``at_mm``."""
    return inside(np.abs(distance - at_mm) - width_mm / 2)


def paint(image: Array, coverage: Array, value: float | Array) -> None:
    """Draw ``value`` over ``image`` in place where ``coverage`` is 1."""
    image += coverage * (value - image)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width_mm: float, voxel_mm: float) -> Array:
    """Return low-pass Gaussian noise of unit variance with correlation length ``width_mm``."""
    noise = gaussian_filter(rng.standard_normal(shape).astype(np.float32), width_mm / voxel_mm, mode="wrap")
    return np.asarray(noise / noise.std(), np.float32)


@dataclass(frozen=True)
class Bodies:
    """Signed distances (mm) to the large parts of the brain, and to their union."""

    cerebrum: Array
    thalamus: Array
    midbrain: Array
    cerebellum: Array
    bulb: Array
    brain: Array


def make_bodies(p: Points) -> Bodies:
    """Build the large parts at coordinates ``p`` (mm); left and right mirror each other through |R|."""
    m = (np.abs(p[0]), p[1], p[2])
    egg = (m[0] * (1 + 0.045 * (m[1] - 0.5)), m[1], m[2])  # narrow in front, wide behind
    cerebrum = ellipsoid(egg, (1.85, 1.05, 0.1), (3.35, 5.35, 3.05))
    cerebrum = smooth_min(cerebrum, ellipsoid(m, (0.0, 1.5, 0.35), (2.7, 4.7, 2.85)), 0.4)
    cerebrum = smooth_min(cerebrum, ellipsoid(egg, (3.3, 0.9, -1.6), (1.35, 2.6, 1.7)), 0.7)
    cerebrum = smooth_min(cerebrum, ellipsoid(m, (0.0, 1.4, -1.1), (2.6, 4.2, 1.7)), 0.6)
    cerebellum = ellipsoid(m, (0.0, -5.1, 0.75), (2.5, 2.5, 2.1))
    cerebellum = smooth_min(cerebellum, ellipsoid(m, (2.5, -4.6, 0.45), (1.95, 1.75, 1.65)), 0.3)
    flocculus = ellipsoid(m, (4.3, -4.2, -0.8), (0.7, 0.65, 0.75))
    stem = ellipsoid(m, (0.0, -4.4, -1.8), (2.7, 4.2, 1.55), 0.06)
    midbrain = ellipsoid(m, (0.0, -2.3, -0.6), (2.6, 1.9, 2.0))
    midbrain = smooth_min(midbrain, ellipsoid(m, (1.0, -2.5, 1.4), (1.2, 1.2, 0.95)), 0.2)
    bulb = ellipsoid(m, (0.85, 6.8, 0.0), (1.0, 1.8, 1.4), 0.1)
    brain = smooth_min(smooth_min(cerebrum, midbrain, 0.3), smooth_min(stem, cerebellum, 0.2), 0.2)
    brain = np.minimum(smooth_min(brain, bulb, 0.25), flocculus)
    return Bodies(
        cerebrum,
        ellipsoid(m, (0.0, 0.2, -0.6), (2.5, 2.3, 1.9)),
        midbrain,
        np.minimum(cerebellum, flocculus),
        bulb,
        brain,
    )


def draw_cerebrum(image: Array, p: Points, b: Bodies, texture: Array) -> None:
    """Draw cortex, callosum and capsules, striatum, thalamus and the layered hippocampus."""
    x, y, z = np.abs(p[0]), p[1], p[2]
    forebrain = inside(b.cerebrum)
    depth = -b.cerebrum
    # faint laminae of the cortical ribbon: bright layer I, darker layer IV
    paint(image, forebrain * inside(depth - 1.2), 1.02 + 0.05 * np.cos(2 * np.pi * depth / 0.65))
    striatum = ellipsoid((x, y, z), (2.25, 2.9, -0.2), (1.3, 2.0, 1.7))
    paint(image, inside(striatum, 0.1), 0.96 - 0.05 * np.maximum(texture, 0))
    paint(image, inside(b.thalamus, 0.08), DEEP)
    shaft = b.thalamus  # distance from the thalamus is the coordinate across the hippocampus that wraps it
    hippocampus = inside(np.maximum.reduce([np.abs(shaft - 0.75) - 0.6, y - 0.2 - 0.35 * z, -1.85 - z, 1.3 - depth]))
    layers = 1.04 + 0.17 * np.cos(2 * np.pi * (shaft - 0.4) / 0.55)
    paint(image, hippocampus * forebrain, layers)
    dorsal = inside(-1.3 - z - 0.25 * (x - 3), 0.25) * inside(np.abs(y - 1.2) - 3.7, 0.25)
    sheet = shell(depth, 1.3, 0.34) * dorsal * forebrain
    paint(image, sheet, WHITE)
    capsule = shell(shaft, 0.05, 0.2) * inside(1.0 - x, 0.2) * inside(-y - 0.6, 0.2) * forebrain
    paint(image, capsule, WHITE + 0.06)
    paint(image, inside(ellipsoid((x, y, z), (0.75, 1.5, 0.75), (1.1, 0.45, 0.35), -0.5)), WHITE - 0.06)
    paint(image, inside(ellipsoid((x, y, z), (1.1, 3.1, -1.5), (1.2, 0.2, 0.22))), WHITE)
    paint(image, inside(ellipsoid((x, y, z), (1.5, -0.4, -2.45), (0.9, 1.6, 0.25), 0.1)), WHITE + 0.04)


def draw_hindbrain(image: Array, p: Points, b: Bodies) -> None:
    """Draw colliculi and brainstem, and the cerebellum's folia fanning from its white core."""
    x, y, z = np.abs(p[0]), p[1], p[2]
    tail = inside(y + 1.5, 0.4) * (1 - inside(b.cerebrum, 0.1))
    paint(image, tail, DEEP)
    paint(image, inside(b.midbrain, 0.1) * inside(-z - 0.2, 0.3), 1.0)
    paint(image, inside(ellipsoid((x, y, z), (0.35, -5.6, -3.0), (0.3, 2.5, 0.16))), WHITE + 0.05)
    # lobules are sectors about the medullary centre, bent back to the sides as in the mouse
    across, up = y + 4.0 + 0.1 * x**2, z + 0.5
    radius = np.hypot(across, up)
    sector = np.cos(13 * np.arctan2(up, -across) + 0.9 * np.sin(1.3 * x))
    grey = 1.08 - 0.06 * np.cos(2 * np.pi * b.cerebellum / 0.9)
    cerebellum = inside(b.cerebellum)
    paint(image, cerebellum, grey)
    paint(image, cerebellum * inside((0.7 - sector) * 0.3) * inside(b.cerebellum + 0.35, 0.1), WHITE)
    paint(image, cerebellum * inside((0.93 + sector) * 0.3) * inside(-0.9 - b.cerebellum, 0.1), 0.9)
    paint(image, cerebellum * inside(radius - 0.75, 0.12), WHITE + 0.03)


def draw_bulbs_and_fluid(image: Array, p: Points, b: Bodies) -> None:
    """Draw the bulbs' concentric layers, the ventricles and cisterns, and the fissure between the hemispheres."""
    m = (np.abs(p[0]), p[1], p[2])
    x, y, z = m
    front = inside(b.bulb) * inside(5.9 - y, 0.2)
    paint(image, front, 1.02 + 0.09 * np.cos(2 * np.pi * (b.bulb + 0.05) / 0.55))
    lateral = ellipsoid(m, (1.0, 2.5, 0.85), (0.5, 1.3, 0.5), -0.25)
    lateral = np.maximum(lateral, -ellipsoid(m, (1.25, 2.5, 0.5), (0.5, 1.4, 0.5), -0.25))
    ventral_horn = np.maximum.reduce([np.abs(b.thalamus - 1.38) - 0.12, np.abs(z + 1.2) - 0.9, y - 0.3, -0.8 - y])
    third = np.maximum(  # a slit around the adhesion of the two thalami
        ellipsoid(m, (0.0, 0.8, -0.8), (0.12, 1.8, 1.7)), -ellipsoid(m, (0.0, 0.7, -0.7), (0.6, 1.35, 1.2))
    )
    roof = ellipsoid(m, (0.0, 1.1, 1.05), (0.75, 0.6, 0.14), 0.3)
    aqueduct = ellipsoid(m, (0.0, -2.6, -0.2), (0.16, 1.6, 0.16), 0.1)
    fourth = ellipsoid(m, (0.0, -4.9, -0.95), (0.75, 1.2, 0.25))
    cistern = np.maximum.reduce([np.abs(b.cerebellum - 0.08) - 0.05, x - 0.7, -0.2 - z])
    for space in (lateral, ventral_horn, third, roof, aqueduct, fourth, cistern):
        paint(image, inside(space), FLUID)
    fissure = np.maximum.reduce([x - 0.06, -1.0 - b.brain, -0.3 - z])
    paint(image, inside(fissure) * inside(-2.5 - y), 0.85)


def synthetic_brain(
    voxel_mm: float = 0.15, shape: tuple[int, int, int] = (80, 120, 64), seed: int = 0
) -> tuple[Array, NDArray[np.float64]]:
    """Make a synthetic mouse brain with T2-like contrast on a black background.

    Args:
        voxel_mm: Isotropic voxel size in mm.
        shape: Voxels along R, A, S; the brain, about 10.5 x 17.5 x 6.8 mm, is centred and cropped by what is smaller.
        seed: Another seed is another animal: its size, shape, texture and noise.

    Returns:
        ``(volume, affine)``: the volume [R, A, S], float32, arbitrary units with grey matter near 1000, and the RAS
        affine (4, 4) in mm with the origin at the middle of the field of view.

    Raises:
        SettingsError: The voxel size is not positive or an axis has fewer than 3 voxels.
    """
    if not voxel_mm > 0 or min(shape) < 3:
        raise SettingsError(f"synthetic_brain: voxel_mm must be > 0 and shape >= 3 voxels, got {voxel_mm} and {shape}")
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[(np.arange(n, dtype=np.float32) - (n - 1) / 2) * voxel_mm for n in shape], indexing="ij")
    size = rng.uniform(0.95, 1.01, 3)
    warped = [g / s + 0.09 * smooth_noise(rng, shape, 1.0, voxel_mm) for g, s in zip(grid, size)]
    p: Points = (warped[0], warped[1], warped[2])
    bodies = make_bodies(p)
    fine, coarse = (smooth_noise(rng, shape, width, voxel_mm) for width in (0.12, 0.5))
    image = np.full(shape, GREY, np.float32)
    draw_cerebrum(image, p, bodies, fine)
    draw_hindbrain(image, p, bodies)
    draw_bulbs_and_fluid(image, p, bodies)
    paint(image, inside(0.5 * (2.6 - fine)) * inside(np.abs(bodies.brain + 0.9) - 0.9), DARK)  # vessels
    rim = shell(bodies.brain, 0.0, 0.3) * inside(0.3 * (0.9 - coarse))
    paint(image, rim, 1.35)  # patches of fluid that extraction leaves on the surface
    image *= 1 + 0.02 * fine + 0.025 * coarse + 0.05 * np.tanh(smooth_noise(rng, shape, 4.0, voxel_mm))
    noise = rng.standard_normal((2, *shape)).astype(np.float32) / SNR
    image = np.hypot(image + noise[0], noise[1])  # magnitude image: Rician
    image[bodies.brain + 0.05 * fine > 0] = 0
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = -voxel_mm * (np.array(shape) - 1) / 2
    return np.asarray(SCALE * image, np.float32), affine
