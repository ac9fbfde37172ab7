"""Labels carried by registration: grids are exact, labels keep their numbers, a known deformation is found."""

import itertools
import math
import os

import nibabel as nib
import numpy as np
import pytest
from conftest import grid_affine
from labelled_parts import NUMBERS, SHAPE, VOXEL_MM, parts
from scipy.ndimage import gaussian_filter, map_coordinates

from bida.errors import SettingsError
from bida.eval import registration
from bida.eval.registration import affine_of, carry, itk_grid
from bida.eval.structures import structure_dice
from bida.eval.volumetry import Atlas, carry_labels, fuse_labels, measure, volumetry, whole_labels
from bida.mri.synthetic_brain import synthetic_brain

# ITK fixes its threads when antspyx is first used, which some tests do directly; on several the result is not repeated
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
RNG = np.random.default_rng(0)
GRIDS = [("RAS", 0), ("LPS", 0), ("LAS", 25), ("PIR", 10), ("SAR", -40)]


@pytest.fixture
def few_iterations(monkeypatch):
    """Let a registration take a second or two."""
    monkeypatch.setattr(registration, "SYN_ITERATIONS", (10, 4))


@pytest.fixture(scope="module")
def atlas():
    image, affine = synthetic_brain(VOXEL_MM, SHAPE, seed=1)
    return Atlas("one", image, parts(SHAPE, affine, image > 0), affine)


def seen_from(atlas, shape, affine, turn_deg=0.0, bend_mm=0.0):
    """Return the atlas's image and labels on another grid, after its head was turned and bent."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    x, y, z = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    x, y = c * x - s * y, s * x + c * y
    x, y = x + bend_mm * np.sin(y / 2.5), y + bend_mm * np.cos(z / 2)
    inverse = np.linalg.inv(atlas.affine)
    at = np.tensordot(inverse[:3, :3], np.stack([x, y, z]), axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    image = map_coordinates(atlas.image, at, order=1)
    compact = np.searchsorted([0, *NUMBERS], atlas.labels)
    return image, np.array([0, *NUMBERS])[map_coordinates(compact, at, order=0)]


def mean_dice(a, b):
    return float(np.mean(list(structure_dice(a, b).values())))


@pytest.mark.parametrize("codes, tilt", GRIDS)
def test_grid_is_the_one_that_itk_reads_from_the_same_nifti(codes, tilt, tmp_path):
    import SimpleITK

    shape, affine = grid_affine((5, 6, 7), (0.1, 0.5, 0.2), codes, tilt)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), affine), tmp_path / "grid.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "grid.nii.gz"))
    origin, spacing, direction = itk_grid(affine)
    # a NIfTI holds its affine in float32
    np.testing.assert_allclose(origin, image.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(spacing, image.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(direction.ravel(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(affine_of(origin, spacing, direction), affine, atol=1e-12)


@pytest.mark.parametrize("codes, tilt", GRIDS)
def test_antspyx_puts_every_voxel_where_the_affine_does(codes, tilt):
    import ants

    shape, affine = grid_affine((5, 6, 7), (0.1, 0.5, 0.2), codes, tilt)
    values = RNG.random(shape, dtype=np.float32)
    image = registration._to_ants(ants, values, affine)
    np.testing.assert_array_equal(image.numpy(), values)
    for index in itertools.product(*[(0, n - 1) for n in shape]):
        lps = ants.transform_index_to_physical_point(image, index)
        np.testing.assert_allclose(np.array(lps) * (-1, -1, 1), (affine @ [*index, 1])[:3], atol=1e-9)
    np.testing.assert_allclose(affine_of(image.origin, image.spacing, image.direction), affine, atol=1e-12)


@pytest.mark.parametrize("codes, tilt", GRIDS)
def test_the_coarse_image_stays_where_the_volume_is(codes, tilt):
    """A blob far from the first voxel, so that the crop moves the origin; linear sampling keeps its centre of mass."""
    import ants

    shape, affine = grid_affine((60, 50, 70), (0.1, 0.15, 0.1), codes, tilt)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    place = np.tensordot(affine[:3, :3], index, axes=1)
    centre = affine[:3, :3] @ (0.7 * np.array(shape))
    blob = np.exp(-((place - centre.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) / (2 * 0.4**2)).astype(np.float32)
    coarse = registration._coarse(ants, np.where(blob > 0.01, blob, 0), affine, 0.3)
    assert np.prod(coarse.image.shape) < 0.5 * np.prod(shape) * 0.1 * 0.15 * 0.1 / 0.3**3
    np.testing.assert_allclose(coarse.image.spacing, 0.3)
    mass = coarse.image.numpy()
    at = [(mass * np.moveaxis(np.indices(mass.shape), 0, -1)[..., k]).sum() / mass.sum() for k in range(3)]
    found = (affine_of(coarse.image.origin, coarse.image.spacing, coarse.image.direction) @ [*at, 1])[:3]
    np.testing.assert_allclose(found, centre + affine[:3, 3], atol=0.02)  # mm, a fifteenth of a coarse voxel


def test_a_sheared_or_singular_grid_is_refused():
    _, sheared = grid_affine((5, 6, 7), (0.1, 0.5, 0.2), shear=0.1)
    with pytest.raises(SettingsError, match=r"scan: axes must be at right angles, got .* resample it first"):
        itk_grid(sheared, "scan")
    for wrong in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(SettingsError, match="invertible 4 x 4"):
            itk_grid(wrong)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64])
def test_whole_labels_are_exact(dtype):
    values = np.array([[[0, 1, 40]]], dtype)
    assert whole_labels(values).dtype == np.int32
    np.testing.assert_array_equal(whole_labels(values), values)
    if np.dtype(dtype).itemsize > 4 or dtype is np.uint32:
        assert whole_labels(np.array([614_454_277], dtype))[0] == 614_454_277


@pytest.mark.parametrize(
    "values, said",
    [([0.5], "got 0.5"), ([-1], "got -1 to -1"), ([2**31], "renumber"), ([np.nan], "NaN"), ([1j], "comp")],
)
def test_labels_that_are_not_whole_are_refused(values, said):
    with pytest.raises(SettingsError, match=said):
        whole_labels(np.array(values))


def test_vote_is_the_most_frequent_label():
    maps = RNG.integers(0, 4, (5, 6, 7, 8))
    found = fuse_labels(list(maps))
    for voxel in np.ndindex(found.shape):
        given = maps[(slice(None), *voxel)].tolist()
        most = max(given.count(label) for label in given)
        first = next(label for label in given if given.count(label) == most)
        assert found[voxel] == first
    np.testing.assert_array_equal(fuse_labels([maps[0]]), maps[0])


def test_vote_needs_maps_of_one_shape():
    for maps in ([], [np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int)]):
        with pytest.raises(SettingsError, match="maps of one shape"):
            fuse_labels(maps)


def test_sizes_and_spread_by_hand():
    """Label 2 has 3, 1 and 2 voxels of 0.5 mm3 in the three maps (SD 0.5 mm3); the vote gives it 2."""
    maps = [np.array(row, np.int32).reshape(1, 2, 2) for row in ([2, 2, 2, 5], [2, 0, 0, 5], [2, 2, 0, 5])]
    found = measure(maps, np.diag([1.0, -0.5, 1.0, 1.0]), [2, 5, 9])
    rows = [(one.label, one.voxels, one.volume_mm3, one.spread_mm3) for one in found.structures]
    assert rows == [(2, 2, 1.0, pytest.approx(0.5)), (5, 1, 0.5, 0.0), (9, 0, 0.0, 0.0)]
    assert found.labels.ravel().tolist() == [2, 2, 0, 5]
    assert all(math.isnan(one.spread_mm3) for one in measure(maps[:1], np.eye(4), [2, 5]).structures)


@pytest.mark.parametrize("codes, tilt", [("LPI", 12), pytest.param("RAS", 0, marks=pytest.mark.slow)])
def test_labels_follow_a_brain_that_was_turned_and_bent(atlas, few_iterations, codes, tilt):
    """Without registration the Dice is about 0.8; the bound leaves room for what voxels of 0.55 mm cannot show."""
    shape, affine = grid_affine(SHAPE, (VOXEL_MM,) * 3, codes, tilt)
    affine[:3, 3] -= (affine @ [*(np.array(shape) - 1) / 2, 1])[:3] - (0.4, -0.3, 0.2)
    volume, truth = seen_from(atlas, shape, affine, turn_deg=12, bend_mm=0.8)
    found = carry_labels(atlas, volume, affine)
    assert found.shape == shape and found.dtype == np.int32
    assert set(np.unique(found)) == {0, *NUMBERS}
    before = mean_dice(seen_from(atlas, shape, affine)[1], truth)
    after = mean_dice(found, truth)
    assert before < 0.85 and after > 0.9, f"Dice before {before:.3f}, after {after:.3f}"


@pytest.mark.slow
def test_it_is_reproducible_and_leaves_the_environment_alone(atlas, few_iterations, monkeypatch):
    monkeypatch.setenv("ANTS_RANDOM_SEED", "77")
    monkeypatch.delenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", raising=False)
    volume, _ = seen_from(atlas, SHAPE, atlas.affine, turn_deg=5, bend_mm=0.4)
    noisy = volume + gaussian_filter(RNG.standard_normal(SHAPE), 1) * 200 * (volume > 0)
    first, again = (carry_labels(atlas, noisy, atlas.affine) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert os.environ["ANTS_RANDOM_SEED"] == "77" and "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS" not in os.environ


def test_several_atlases_are_joined_and_told_of(atlas, few_iterations):
    image, labels = seen_from(atlas, SHAPE, atlas.affine, turn_deg=3, bend_mm=0.3)
    other = Atlas("other", image, labels, atlas.affine)
    told = []
    found = volumetry(atlas.image, atlas.affine, [atlas, other], progress=lambda *state: told.append(state))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert [one.label for one in found.structures] == NUMBERS.tolist()
    for one in found.structures:
        assert one.voxels == (found.labels == one.label).sum()
        assert one.volume_mm3 == pytest.approx(one.voxels * VOXEL_MM**3)
        assert one.spread_mm3 < 0.1 * one.volume_mm3
    assert any(one.spread_mm3 > 0 for one in found.structures)
    assert mean_dice(found.labels, atlas.labels) > 0.95
    maps = [carry_labels(one, atlas.image, atlas.affine) for one in (atlas, other)]
    np.testing.assert_array_equal(found.labels, fuse_labels(maps), "one atlas, one vote")
    with pytest.raises(SettingsError, match="at least one atlas"):
        volumetry(atlas.image, atlas.affine, [])


@pytest.mark.parametrize(
    "volume, said",
    [
        (np.zeros(SHAPE), "intensities above 0"),
        (np.full(SHAPE, np.nan), "must be finite"),
        (np.ones((4, 5)), "3 dimensions"),
        (np.ones((60, 60, 60)), r"same, brain or head, got 35937 and \d+ mm3 .* extract the brain"),
    ],
)
def test_a_volume_that_cannot_be_registered_is_one_line(atlas, volume, said):
    with pytest.raises(SettingsError, match=f"^registration of atlas one: .*{said}") as error:
        carry_labels(atlas, volume, atlas.affine)
    assert "\n" not in str(error.value)


def test_a_registration_that_fails_is_one_line(atlas, monkeypatch):
    import ants

    def fail(*args, **options):
        raise RuntimeError("Registration failed\nwith error code 1")

    monkeypatch.setattr(ants, "registration", fail)
    with pytest.raises(SettingsError, match=r"^atlas one: must work, got 'Registration failed with error code 1'"):
        carry(atlas.labels, atlas.image, atlas.affine, atlas.image, atlas.affine, place="atlas one")


def test_a_registration_that_misses_is_refused(atlas, monkeypatch):
    monkeypatch.setattr(registration, "_register", lambda ants, fixed, moving, folder: ([], fixed.image * 0))
    with pytest.raises(SettingsError, match=r"over the scan, their Dice is 0.00 < 0.7; check the orientation"):
        carry_labels(atlas, atlas.image, atlas.affine)


def test_an_atlas_is_checked():
    image, labels = np.ones((4, 4, 4), np.float32), np.ones((4, 4, 4), int)
    assert Atlas("a", image, labels.astype(np.float32), np.eye(4)).labels.dtype == np.int32
    for wrong, said in [
        ((image, labels[1:], np.eye(4)), r"got shapes \(3, 4, 4\) and"),
        ((image, labels * 0, np.eye(4)), "all voxels are 0"),
        ((image, labels * 0.5, np.eye(4)), "got 0.5"),
        ((image * 0, labels, np.eye(4)), "above 0"),
        ((image, labels, np.zeros((4, 4))), "invertible"),
    ]:
        with pytest.raises(SettingsError, match=f"^atlas a: .*{said}"):
            Atlas("a", *wrong)
