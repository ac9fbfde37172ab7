import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, gaussian_filter1d

from bida.errors import SettingsError
from bida.eval import sharpness, stitching
from bida.physics.interpolation import cubic, project
from bida.physics.simulate import simulate_slices

ONES = (1.0, 1.0, 1.0)
INDICES = {"sharpness": lambda v, axis, mask=None: sharpness(v, axis, ONES, mask), "stitching": stitching}


def ellipsoid(shape):
    index = [(np.arange(n) - (n - 1) / 2) / (n / 2 - 1) for n in shape]
    return sum(i**2 for i in np.meshgrid(*index, indexing="ij")) <= 1


def phantom(shape=(40, 44, 36), seed=0, outside=0.0):
    """Structure down to two or three voxels and a brain mask; outside it is darker by a factor, black by default."""
    rng = np.random.default_rng(seed)
    coarse, fine = (gaussian_filter(rng.normal(size=shape), s) for s in (4.0, 0.9))
    brain = ellipsoid(shape)
    volume = (100 + 20 * coarse / coarse.std() + 10 * fine / fine.std()) * np.where(brain, 1, outside)
    return volume.astype(np.float32), brain


VOLUME, BRAIN = phantom()


def index_by_loops(volume, axis, weights, mask, needed):
    """Both indices by their definition, voxel by voxel; `needed`: which voxels of a row must lie in the mask."""
    products, smooth = [], []
    step = np.eye(3, dtype=int)
    inside = np.argwhere(mask)

    def difference(p):
        row = [tuple(p + i * step[axis]) for i in range(len(weights))]
        if any(n >= size for q in row for n, size in zip(q, volume.shape)) or not all(mask[row[i]] for i in needed):
            return None
        return sum(w * volume[q] for w, q in zip(weights, row))

    for p in np.ndindex(volume.shape):
        for across in {0, 1, 2} - {axis}:
            one, other = difference(np.array(p)), difference(np.array(p) + step[across])
            if one is not None and other is not None:
                products.append(one * other)
    for p in inside:
        weight = np.exp(-0.5 * ((inside - p) ** 2).sum(axis=1) / 3.0**2)
        smooth.append((weight * volume[mask]).sum() / weight.sum())
    return math.sqrt(max(np.mean(products), 0)) / np.std(smooth)


@pytest.mark.parametrize("axis", range(3))
def test_against_the_definition(axis):
    rng = np.random.default_rng(axis)
    volume = gaussian_filter(rng.normal(size=(7, 8, 6)), 0.7)
    mask = gaussian_filter(rng.normal(size=volume.shape), 1.5) > -0.1
    spacing = (0.1, 0.2, 0.4)
    expected = index_by_loops(volume, axis, (-0.5, 0, 0.5), mask, needed=[1]) / spacing[axis]
    assert expected > 0
    assert sharpness(volume, axis, spacing, mask) == pytest.approx(expected, rel=1e-9)
    expected = index_by_loops(volume, axis, (-1, 3, -3, 1), mask, needed=[0, 1, 2, 3]) / math.sqrt(20)
    assert expected > 0
    assert stitching(volume, axis, mask) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", INDICES)
def test_scale_offset_and_sign_do_not_matter(name):
    index = INDICES[name]
    for axis in range(3):
        expected = index(VOLUME, axis, BRAIN)
        for changed in (3e4 * VOLUME, VOLUME + 500, -VOLUME, 1e-3 * VOLUME - 7):
            assert index(changed.astype(np.float64), axis, BRAIN) == pytest.approx(
                expected, rel=1e-3
            )  # float32 phantom


@pytest.mark.parametrize("name", INDICES)
def test_axes_and_directions_are_alike(name):
    index = INDICES[name]
    turned, mask = np.transpose(VOLUME, (2, 0, 1)), np.transpose(BRAIN, (2, 0, 1))
    for axis, source in enumerate((2, 0, 1)):
        assert index(turned, axis, mask) == pytest.approx(index(VOLUME, source, BRAIN), rel=1e-9)
        assert index(np.flip(VOLUME, source), source) == pytest.approx(index(VOLUME, source), rel=1e-9)


def test_what_is_outside_the_mask_does_not_matter():
    """Sharpness looks one voxel beyond its mask."""
    garbage = np.where(BRAIN, VOLUME, 1e4)
    far_garbage = np.where(binary_dilation(BRAIN), VOLUME, 1e4)
    for axis in range(3):
        assert stitching(garbage, axis, BRAIN) == pytest.approx(stitching(VOLUME, axis, BRAIN), rel=1e-12)
        expected = sharpness(VOLUME, axis, ONES, BRAIN)
        assert sharpness(far_garbage, axis, ONES, BRAIN) == pytest.approx(expected, rel=1e-12)
        assert sharpness(garbage, axis, ONES, BRAIN) > 2 * expected
    for index in INDICES.values():
        assert index(VOLUME, 1) == index(VOLUME, 1, np.ones_like(BRAIN))


def test_sharpness_is_per_mm():
    assert sharpness(VOLUME, 1, (1, 0.15, 1), BRAIN) == pytest.approx(sharpness(VOLUME, 1, ONES, BRAIN) / 0.15)


@pytest.mark.parametrize("width", [2.0, 3.0])
def test_an_edge_counts_as_one_over_the_root_of_its_width(width):
    """An edge blurred by a Gaussian of sigma w: the integral of its squared slope is 1 / (2 sqrt(pi) w).

    The central difference is the slope averaged over two voxels: variance 1/3, so w^2 + 1/3 stands for w^2.
    """
    step = np.zeros((80, 12, 12))
    step[40:] = 1.0
    edges = [gaussian_filter1d(step, w, axis=0, mode="nearest", truncate=6) for w in (width, 2 * width)]
    expected = math.sqrt(math.sqrt((4 * width**2 + 1 / 3) / (width**2 + 1 / 3)))
    # the contrast is nearly the same, that of the two plateaus: it falls by 2 w / 80 and less
    got = sharpness(edges[0], 0, ONES) / sharpness(edges[1], 0, ONES)
    assert got == pytest.approx(expected, rel=2 * width / 80)


@pytest.mark.parametrize("fade", [0.0, 0.3, 0.7])
def test_a_wave_that_fades(fade):
    """Waves of periods 40 and 4: the long one makes the contrast; central differences scale them by sin(2 pi / T)."""
    k = np.arange(120)[:, None, None] * np.ones((1, 10, 10))
    slow, fast = np.sin(2 * np.pi * k / 40), np.sin(2 * np.pi * k / 4 + 0.4)
    slope = math.sin(2 * np.pi / 40)
    expected = math.sqrt((slope**2 + (0.3 * fade) ** 2) / (slope**2 + 0.3**2))
    got = sharpness(slow + 0.3 * fade * fast, 0, ONES) / sharpness(slow + 0.3 * fast, 0, ONES)
    assert got == pytest.approx(expected, rel=0.02)  # two of 120 differences are lost at the ends


@pytest.mark.parametrize("name", INDICES)
def test_independent_noise_does_not_count(name):
    """Its products have the expectation 0; they would add up to half of the power and more if each met itself."""
    noise = np.random.default_rng(2).normal(size=VOLUME.shape) * 0.3 * VOLUME[BRAIN].std()
    for axis in range(3):
        ratio = INDICES[name](VOLUME + noise, axis, BRAIN) / INDICES[name](VOLUME, axis, BRAIN)
        assert ratio == pytest.approx(1, abs=0.05)
    assert INDICES[name](phantom(seed=5)[0], 0, BRAIN) > 0.01


@pytest.mark.parametrize("outside", [0.0, 0.6, 1.0], ids=["brain-extracted", "head", "no edge"])
@pytest.mark.parametrize("factor", [2.5, 5.0])
@pytest.mark.parametrize("axis", range(3))
def test_thick_slices_lose_sharpness_along_their_axis(axis, factor, outside):
    """Projection sharpens, and rings at the edge of an extracted brain, but not beyond the truth."""
    truth, brain = phantom(outside=outside)
    slices, geometry = simulate_slices(truth, 0.15, axis, factor, profile="gaussian")
    spline = cubic(slices, geometry)
    volumes = {"cubic": spline, "projection": project(spline, slices, geometry)}
    for mask in (brain, None):
        expected = [sharpness(truth, a, ONES, mask) for a in range(3)]
        ratio = {name: sharpness(v, axis, ONES, mask) / expected[axis] for name, v in volumes.items()}
        assert ratio["cubic"] < 0.9
        assert ratio["cubic"] < ratio["projection"] < 1
        for other in {0, 1, 2} - {axis}:
            assert sharpness(spline, other, ONES, mask) / expected[other] > 1.1 * ratio["cubic"]


def test_a_volume_that_is_quadratic_along_the_axis_has_no_jumps():
    i, j, k = np.indices((12, 13, 14), dtype=np.float64)
    volume = 3 * i + (0.5 * i - 2) * np.sin(j) + 0.7 * i**2 * k
    assert stitching(volume, 0) < 1e-6
    assert stitching(volume, 1) > 1e-3


@pytest.mark.parametrize("axis", range(3))
def test_slice_offsets_count_by_their_spread_over_the_contrast(axis):
    """A ramp across the axis has no jumps: what remains are the third differences of the offsets."""
    volume = np.moveaxis(np.broadcast_to(np.linspace(0, 1, 60)[:, None], (40, 60, 20)), 0, axis).copy()
    offsets = 0.01 * np.random.default_rng(3).normal(size=40)
    offsets = offsets.reshape([-1 if a == axis else 1 for a in range(3)])
    jumps = math.sqrt(np.mean(np.diff(offsets.ravel(), 3) ** 2) / 20)
    # the low-pass flattens a ramp within 3 voxels of its two ends: its deviation from 1 / sqrt(12) stays below 5%
    assert stitching(volume + offsets, axis) == pytest.approx(jumps * math.sqrt(12), rel=0.05)
    assert stitching(volume + 3 * offsets, axis) == pytest.approx(3 * stitching(volume + offsets, axis), rel=0.02)


@pytest.mark.parametrize("kind", ["offsets", "gains"])
@pytest.mark.parametrize("axis", range(3))
def test_stitching_grows_with_what_slices_do_not_share(axis, kind):
    drawn = np.random.default_rng(4).normal(size=VOLUME.shape[axis])
    drawn = drawn.reshape([-1 if a == axis else 1 for a in range(3)])
    truth = [stitching(VOLUME, other, BRAIN) for other in range(3)]
    ratios = []
    for share in (0.0, 0.05, 0.1, 0.2, 0.4):
        changed = VOLUME + share * 20 * drawn if kind == "offsets" else VOLUME * (1 + share * 0.2 * drawn)
        ratios.append(stitching(changed, axis, BRAIN) / truth[axis])
        for other in {0, 1, 2} - {axis}:
            assert stitching(changed, other, BRAIN) / truth[other] == pytest.approx(1, abs=0.05)
    assert ratios[0] == 1.0
    assert np.all(np.diff(ratios) > 0)
    assert ratios[-1] > 1.5


def test_slices_filtered_each_by_itself_are_stitched_along_their_axis():
    """Texture drawn for every slice of axis 2 alone, coherent in the slice, as a 2D prior draws it."""
    texture = gaussian_filter(np.random.default_rng(6).normal(size=VOLUME.shape), (1.5, 1.5, 0))
    changed = VOLUME + 5 * texture / texture.std()
    ratios = [stitching(changed, axis, BRAIN) / stitching(VOLUME, axis, BRAIN) for axis in range(3)]
    assert ratios[2] > 1.3
    assert ratios[2] > 1.2 * max(ratios[:2])


def test_blur_along_the_axis_lowers_both():
    for sigma_1, sigma_2 in ((0, 0.5), (0.5, 1), (1, 2)):
        one, two = (gaussian_filter1d(VOLUME, s, axis=1) if s else VOLUME for s in (sigma_1, sigma_2))
        for index in INDICES.values():
            assert index(two, 1, BRAIN) < index(one, 1, BRAIN)


def test_a_real_brain(shared_data):
    """A mouse at 5x: sharper than cubic interpolation, and no more jumps from it."""
    import nibabel as nib

    subject = shared_data / "mouse-rtg4510"
    truth = nib.as_closest_canonical(nib.load(subject / "sub-21" / "anat" / "sub-21_T2w.nii.gz")).get_fdata()
    truth = truth[:, 30:95].astype(np.float32)
    slices, geometry = simulate_slices(truth, 0.15, 1, 5.0, profile="gaussian")
    spline = cubic(slices, geometry)
    brain = truth > 0
    spacing = (0.15, 0.15, 0.15)
    assert sharpness(spline, 1, spacing, brain) < 0.7 * sharpness(truth, 1, spacing, brain)
    assert stitching(spline, 1, brain) < stitching(truth, 1, brain)


@pytest.mark.parametrize("name", INDICES)
def test_bad_input_is_refused(name):
    index = INDICES[name]
    with pytest.raises(SettingsError, match=r"volume must be \[R, A, S\]"):
        index(VOLUME[0], 0)
    with pytest.raises(SettingsError, match="axis must be 0"):
        index(VOLUME, 3)
    with pytest.raises(SettingsError, match="NaN or Inf in volume"):
        index(np.where(BRAIN, VOLUME, np.nan), 0)
    with pytest.raises(SettingsError, match="mask must have the shape of volume"):
        index(VOLUME, 0, BRAIN[1:])
    with pytest.raises(SettingsError, match="mask must hold at least one voxel"):
        index(VOLUME, 0, np.zeros_like(BRAIN))
    thin = np.zeros_like(BRAIN)
    thin[0] = True
    line = np.zeros_like(BRAIN)
    line[:, 20, 20] = True
    for volume, mask in ((VOLUME, thin), (VOLUME, line), (VOLUME[:2], None)):
        with pytest.raises(SettingsError, match="mask must hold neighbours with enough voxels in a row"):
            index(volume, 0, mask)
    with pytest.raises(SettingsError, match="must have contrast"):
        index(np.full(VOLUME.shape, 0.1), 0)


def test_sharpness_needs_voxel_sizes():
    for bad in ((1, 1), (1, 0, 1), (1, math.inf, 1)):
        with pytest.raises(SettingsError, match="spacing_mm must be 3 positive numbers"):
            sharpness(VOLUME, 0, bad)
