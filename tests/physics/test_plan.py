"""The plan for a scan: which axis, which spacings, which grid, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, grid_affine

from bida.errors import BidaError, ScanError, SettingsError
from bida.io.nifti import write_volume
from bida.io.scan import read_affine
from bida.physics.grid import AxisGrid, grids_from_json, grids_to_json, resampled_affine, spacing_of
from bida.physics.grid_like import ImageGrid
from bida.physics.plan import Plan, PlanOptions, plan_scan
from bida.physics.simulate import simulate_slices
from bida.physics.thickness import ThicknessEstimate

CORONAL = (0.15, 0.75, 0.15)
ISOTROPIC = (0.15, 0.15, 0.15)


def plan(sizes_mm: tuple[float, ...] = CORONAL, shape: tuple[int, ...] = (40, 10, 36), **options: Any) -> Plan:
    given = {key: options.pop(key) for key in ("like", "sidecar", "name", "estimate") if key in options}
    return plan_scan(shape, grid_affine(shape, sizes_mm)[1], PlanOptions(**options), **given)


def grid_of(path: Path) -> ImageGrid:
    return ImageGrid(str(path), *read_affine(path))


def resamples_in_plane(got: Plan) -> bool:
    inside = [axis for axis in range(3) if axis != got.geometry.axis]
    return any(got.grids[k] != AxisGrid(got.shape[k], spacing_of(got.affine)[k]) for k in inside)


def output_affine(got: Plan) -> np.ndarray:
    return resampled_affine(got.affine, got.shape, spacing_of(got.affine), got.grids)


def profile_file(folder: Path, half_mm: float = 0.3) -> Path:
    """A triangle that is half as high at half its base: its FWHM is `half_mm`."""
    path = folder / "measured.txt"
    path.write_text(f"{-half_mm} 0\n0 1\n{half_mm} 0\n")
    return path


def test_coronal_scan_comes_to_its_in_plane_spacing() -> None:
    got = plan(sidecar={"SliceThickness": 0.75})
    geometry = got.geometry
    assert (geometry.axis, geometry.slices, geometry.voxels) == (1, 10, 50)
    sizes = (geometry.slice_spacing_mm, geometry.thickness_mm, geometry.voxel_mm)
    np.testing.assert_allclose(sizes, (0.75, 0.75, 0.15), rtol=1e-12)
    assert [grid.voxels for grid in got.grids] == [40, 50, 36]
    assert (resamples_in_plane(got), got.warnings, geometry.profile) == (False, (), "slr")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_through_plane_axis_is_the_coarsest(axis: int) -> None:
    sizes = [0.15, 0.15, 0.15]
    sizes[axis] = 0.6
    assert plan(tuple(sizes)).geometry.axis == axis


def test_axis_overrides_and_says_so() -> None:
    got = plan((0.3, 0.75, 0.15), axis="r")
    assert got.geometry.axis == 0
    assert "not the coarsest" in got.warnings[0]


@pytest.mark.parametrize(
    ("inplane", "wanted", "noted"),
    [(0.05, 0.1, True), (0.1, 0.1, False), (0.15, 0.15, False), (0.25, 0.25, False), (0.3, 0.25, True)],
)
def test_auto_clamps_to_the_prior_with_a_warning(inplane: float, wanted: float, noted: bool) -> None:
    got = plan((inplane, 1.0, inplane * 1.2))
    np.testing.assert_allclose([grid.spacing_mm for grid in got.grids], wanted, rtol=1e-12)
    assert any("is outside the prior's 0.1-0.25 mm" in warning for warning in got.warnings) == noted
    assert resamples_in_plane(got)  # the coarser in-plane axis changes at least


@pytest.mark.parametrize(("thick", "noted"), [(0.75, False), (0.9, True)])
def test_a_factor_above_the_measured_ones_is_noted(thick: float, noted: bool) -> None:
    got = plan((0.15, thick, 0.15))
    told = "above 5, up to which bida was measured: look twice, or give --factor 5"
    assert any(told in warning for warning in got.warnings) == noted


def test_inplane_is_not_clamped_and_rounded_headers_are_not_resampled() -> None:
    got = plan((float(np.float32(0.05)), 1.0, 0.05), spacing="inplane")
    assert [grid.voxels for grid in got.grids] == [40, 200, 36]
    assert not resamples_in_plane(got)
    assert "outside the prior" in got.warnings[0]


def test_spacing_and_factor() -> None:
    got = plan(spacing=0.2)
    np.testing.assert_allclose([grid.spacing_mm for grid in got.grids], 0.2, rtol=1e-12)
    assert [grid.voxels for grid in got.grids] == [30, 38, 27]  # floor(m s / D + 1/2)
    assert resamples_in_plane(got)
    got = plan(factor=2.5)
    np.testing.assert_allclose([grid.spacing_mm for grid in got.grids], 0.3, rtol=1e-12)
    assert got.geometry.voxels == 25


@pytest.mark.parametrize("options", [{"factor": 2}, {"spacing": 0.1}])
def test_isotropic_scan_with_axis_and_one_of_the_two(options: dict[str, float]) -> None:
    got = plan(ISOTROPIC, axis="A", **options)
    assert (got.geometry.axis, got.geometry.slice_spacing_mm) == (1, pytest.approx(0.15))
    assert got.geometry.voxel_mm == pytest.approx(0.15 / 2 if "factor" in options else 0.1)


def test_tie_with_axis() -> None:
    assert plan((0.15, 0.75, 0.75), axis="S").geometry.axis == 2


@pytest.mark.parametrize(
    ("options", "sidecar", "spacing", "thickness", "source"),
    [
        ({}, {}, 0.75, 0.75, "assumed"),
        ({}, {"SliceThickness": 0.5}, 0.75, 0.5, "sidecar"),
        ({}, {"SliceThickness": 0.5, "SpacingBetweenSlices": 0.8}, 0.8, 0.5, "sidecar"),
        ({}, {"SpacingBetweenSlices": 0.8}, 0.8, 0.8, "assumed"),
        ({"thickness": 0.6}, {"SliceThickness": 0.5}, 0.75, 0.6, "--thickness"),
        ({"gap": 0.25}, {"SliceThickness": 0.7}, 0.75, 0.5, "--gap"),
        ({"gap": -0.25}, {}, 0.75, 1.0, "--gap"),
        ({"thickness": 0.6, "gap": 0.2}, {"SpacingBetweenSlices": 0.7}, 0.8, 0.6, "--thickness"),
    ],
)
def test_option_before_sidecar_before_header(
    options: dict[str, float], sidecar: dict[str, float], spacing: float, thickness: float, source: str
) -> None:
    got = plan(sidecar=sidecar, **options)
    assert got.thickness_from == source
    assert any("thickness is not in the file" in warning for warning in got.warnings) == (source == "assumed")
    assert got.geometry.slice_spacing_mm == pytest.approx(spacing, rel=1e-12)
    assert got.geometry.thickness_mm == pytest.approx(thickness, rel=1e-12)
    assert any("slice spacing is" in warning for warning in got.warnings) == (spacing != 0.75)


def test_corrected_slice_spacing_keeps_the_centre_of_the_field_of_view() -> None:
    shape, affine = grid_affine((40, 10, 36), CORONAL, tilt_deg=11, shear=0.1)
    got = plan_scan(shape, affine, sidecar={"SpacingBetweenSlices": 0.9})
    centre = np.append((np.array(shape) - 1) / 2, 1)
    np.testing.assert_allclose(got.affine @ centre, affine @ centre, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.affine[:3, 1], affine[:3, 1] * 0.9 / np.linalg.norm(affine[:3, 1]), rtol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "options", "kind", "pieces"),
    [
        (ISOTROPIC, {}, ScanError, ("rat.nii", "isotropic", "0.15 x 0.15 x 0.15 mm", "--axis with --factor")),
        (ISOTROPIC, {"axis": "A"}, ScanError, ("isotropic", "--spacing")),
        (ISOTROPIC, {"factor": 2}, ScanError, ("isotropic", "--axis")),
        ((0.15, 0.75, 0.75), {}, ScanError, ("rat.nii", "one coarsest axis", "A and S", "give --axis")),
        (CORONAL, {"axis": "X"}, SettingsError, ("--axis must be R, A or S", "'X'")),
        (CORONAL, {"factor": 1}, SettingsError, ("--factor must be a number above 1", "1")),
        (CORONAL, {"factor": "five"}, SettingsError, ("--factor must be a number", "'five'")),
        (CORONAL, {"factor": 5, "spacing": 0.2}, SettingsError, ("--factor excludes --spacing", "one of them")),
        (CORONAL, {"spacing": "fine"}, SettingsError, ("--spacing (auto, inplane or mm)", "'fine'")),
        (CORONAL, {"spacing": -0.1}, SettingsError, ("--spacing", "-0.1")),
        (CORONAL, {"spacing": 0.75}, ScanError, ("slice spacing must be above", "0.75", "smaller --spacing")),
        (CORONAL, {"thickness": 0}, SettingsError, ("--thickness must be a number above 0", "0")),
        (CORONAL, {"thickness": 7.5}, ScanError, ("rat.nii", "slice thickness must be", "7.5", "--thickness")),
        (CORONAL, {"gap": 0.74}, ScanError, ("slice thickness must be", "0.01", "--thickness")),
        (CORONAL, {"sidecar": {"SliceThickness": "thin"}}, ScanError, ("rat.nii", "SliceThickness", "'thin'")),
        (CORONAL, {"sidecar": {"SpacingBetweenSlices": 7.5}}, ScanError, ("rat.nii", "header's 0.75", "7.5")),
    ],
)
def test_refused(sizes: tuple[float, ...], options: dict[str, Any], kind: type[BidaError], pieces: Any) -> None:
    with pytest.raises(kind) as caught:
        plan(sizes, name="rat.nii", **options)
    assert "\n" not in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)


@pytest.mark.parametrize("factor", [2.5, 5, 4.7])
@pytest.mark.parametrize("voxels", [127, 128])
def test_like_gives_exactly_the_grid_that_was_degraded(factor: float, voxels: int, make_scan: MakeScan) -> None:
    path = make_scan((30, voxels, 24), ISOTROPIC, tilt_deg=8, name="truth.nii.gz")
    truth = nib.load(path)
    low, geometry = simulate_slices(truth.get_fdata(dtype=np.float32), 0.15, 1, factor)
    affine = truth.affine.copy()
    affine[:3, 1] *= factor
    affine[:3, 3] += truth.affine[:3, 1] * (voxels - 1) / 2 - affine[:3, 1] * (geometry.slices - 1) / 2
    got = plan_scan(low.shape, affine, like=grid_of(path))
    assert [grid.voxels for grid in got.grids] == [30, voxels, 24]
    np.testing.assert_allclose(output_affine(got), truth.affine, rtol=0, atol=1e-6)
    assert not resamples_in_plane(got)
    assert got.geometry.offset_mm == pytest.approx(0, abs=1e-6)  # the header's float32
    np.testing.assert_allclose(got.geometry.slice_spacing_mm, geometry.slice_spacing_mm, rtol=1e-6)


def test_like_in_another_orientation_and_off_centre(make_scan: MakeScan) -> None:
    shape, affine = grid_affine((40, 10, 36), CORONAL, tilt_deg=8)
    moved = affine @ np.array([[1.2, 0, 0, -2.3], [0, 0.2, 0, -0.7], [0, 0, 1.1, 0.4], [0, 0, 0, 1]])
    other = nib.Nifti1Image(np.zeros((38, 52, 33), dtype=np.uint8), moved)
    flipped = other.as_reoriented(nib.orientations.axcodes2ornt("SPR"))
    path = make_scan(name="x.nii").with_name("like.nii")
    nib.save(flipped, path)
    got = plan_scan(shape, affine, like=grid_of(path))
    assert [grid.voxels for grid in got.grids] == [38, 52, 33]
    np.testing.assert_allclose(output_affine(got), moved, rtol=0, atol=1e-5)
    assert got.geometry.offset_mm == pytest.approx(-0.1 * 0.75, rel=1e-4)  # a tenth of a slice


@pytest.mark.parametrize(
    ("change", "options", "pieces"),
    [
        ({"tilt_deg": 0.2}, {}, ("like.nii", "axes of rat.nii", "directions", "resample")),
        ({"tilt_deg": 0.01}, {}, ("like.nii", "axes of rat.nii", "directions", "resample")),  # 0.02 voxel at 256
        ({"shape": (40, 40, 36)}, {}, ("like.nii", "must cover rat.nii", "along A", "another file")),
        ({}, {"factor": 5}, ("--like", "--factor", "one of them")),
        ({}, {"spacing": 0.2}, ("--like", "--spacing", "one of them")),
    ],
)
def test_like_refused(change: dict[str, Any], options: dict[str, Any], pieces: Any, make_scan: MakeScan) -> None:
    path = make_scan(**({"shape": (40, 50, 36), "spacing_mm": ISOTROPIC, "name": "like.nii"} | change))
    with pytest.raises(BidaError) as caught:
        plan(like=grid_of(path), name="rat.nii", **options)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)


def test_like_that_reaches_beyond_the_scan_is_noted(make_scan: MakeScan) -> None:
    # 4.02 mm beyond 40 voxels on R, one slice beyond on A, none on S
    path = make_scan(shape=(48, 66, 36), spacing_mm=ISOTROPIC, name="like.nii")
    shape, affine = (40, 10, 36), grid_affine((40, 10, 36), CORONAL)[1]
    wide, wide_affine = (48, 66, 36), nib.load(path).affine
    centre = wide_affine[:3, :3] @ ((np.array(wide) - 1) / 2) + wide_affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    first, second, _ = plan_scan(shape, affine, like=grid_of(path)).warnings
    assert first == "the --like grid reaches 0.6 mm beyond the scan along R: its edge values are repeated there"
    assert second == "the --like grid reaches 1.2 mm beyond the scan along A: the prior alone fills it"


@pytest.mark.parametrize("name", ["mouse-rtg4510", "mouse-sherm"])
def test_like_takes_slices_simulated_from_a_real_mouse(name: str, shared_data: Path, tmp_path: Path) -> None:
    # the truth's directions come from float32 rows or a quaternion, the slices' from float32 rows
    for number, path in enumerate(sorted((shared_data / name).glob("sub-*/anat/*.nii.gz"))):
        truth = nib.load(path)
        canonical = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(truth.shape[:3], np.uint8), truth.affine))
        shape, size = list(canonical.shape), spacing_of(canonical.affine)
        grids = [AxisGrid(shape[0], size[0]), AxisGrid(-(-shape[1] // 5), 5 * size[1]), AxisGrid(shape[2], size[2])]
        low = tuple(grid.voxels for grid in grids)
        low_path = tmp_path / f"{number}.nii"
        write_volume(low_path, np.zeros(low), resampled_affine(canonical.affine, shape, size, grids))
        got = plan_scan(low, nib.load(low_path).affine, PlanOptions(axis="A"), like=grid_of(path))
        np.testing.assert_allclose(output_affine(got), canonical.affine, rtol=0, atol=1e-5)


def test_profile_file_gives_the_thickness(tmp_path: Path) -> None:
    path = str(profile_file(tmp_path))
    got = plan(profile=path, sidecar={"SliceThickness": 0.5}).geometry
    assert (got.profile, got.slice_spacing_mm) == (path, pytest.approx(0.75))
    assert got.thickness_mm == pytest.approx(0.3)
    got = plan(profile=path, thickness=0.5, gap=0.3).geometry  # together they say the spacing alone
    assert (got.slice_spacing_mm, got.thickness_mm) == (pytest.approx(0.8), pytest.approx(0.3))


@pytest.mark.parametrize(
    ("options", "half_mm", "pieces"),
    [
        ({"thickness": 0.5}, 0.3, ("--thickness must be left out", "measured.txt", "0.3 mm", "together")),
        ({"gap": 0.2}, 0.3, ("--gap must be left out", "measured.txt", "together")),
        ({}, 300, ("slice thickness must be", "got 300 mm", "correct", "measured.txt")),  # micrometres
        ({}, -1, ("measured.txt", "depths must increase")),
        ({"profile": "sinc"}, 0.3, ("profile must be slr, gaussian, box or a file", "'sinc'")),
    ],
)
def test_profile_file_refused(options: dict[str, Any], half_mm: float, pieces: Any, tmp_path: Path) -> None:
    with pytest.raises(BidaError) as caught:
        plan(**({"profile": profile_file(tmp_path, half_mm)} | options))
    assert "\n" not in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)


def test_grids_survive_json() -> None:
    grids = (AxisGrid(40, 0.15), AxisGrid(127, 0.1 / 3, -0.07), AxisGrid(36, 0.15))
    assert grids_from_json(grids_to_json(grids)) == grids


def test_real_mouse_is_refused_as_isotropic(shared_data: Path) -> None:
    image = nib.load(shared_data / "mouse-rtg4510/sub-05/anat/sub-05_T2w.nii.gz")
    with pytest.raises(ScanError, match=r"isotropic voxels of 0\.15"):
        plan_scan(image.shape, image.affine)


def test_real_rat_is_coronal(shared_data: Path) -> None:
    image = nib.load(shared_data / "rat-nirodents/sub-15/anat/sub-15_T2w.nii.gz")
    got = plan_scan(image.shape, image.affine)
    assert (got.geometry.axis, got.geometry.slices, got.geometry.voxels) == (1, 24, 213)
    assert not resamples_in_plane(got)


def told(mm: float | None, high_mm: float | None = None) -> ThicknessEstimate:
    """What a scan says of its slices, 0.75 mm apart."""
    if mm is None:
        return ThicknessEstimate(high_mm=high_mm, reason="its edges differ too much")
    return ThicknessEstimate(mm, 0.86 * mm, 1.16 * mm, mm / 0.75)


@pytest.mark.parametrize(
    ("found", "options", "sidecar", "thickness", "source", "note"),
    [
        (told(0.8), {"thickness": "estimate"}, {}, 0.8, "estimate", None),
        (told(0.8), {"thickness": "estimate"}, {"SliceThickness": 0.5}, 0.8, "estimate", "what the sidecar says"),
        (told(0.95), {"thickness": "estimate"}, {}, 0.95, "estimate", "not 0.75 mm, the slice spacing"),
        (
            told(None),
            {"thickness": "estimate"},
            {},
            0.75,
            "assumed",
            "how thick its slices are: its edges",
        ),
        (told(None), {"thickness": "estimate"}, {"SliceThickness": 0.5}, 0.5, "sidecar", "can't tell how thick"),
        (told(0.95), {}, {}, 0.75, "assumed", "taken as 0.75 mm thick, the slice spacing: give --thickness estimate"),
        (told(0.8), {}, {}, 0.75, "assumed", None),
        (told(None), {}, {}, 0.75, "assumed", None),
        (told(None, 0.675), {}, {}, 0.75, "assumed", "look thinner than 0.675 mm, but are taken as 0.75 mm thick"),
    ],
)
def test_the_scan_is_asked_for_its_thickness(
    found: ThicknessEstimate,
    options: dict[str, Any],
    sidecar: dict[str, float],
    thickness: float,
    source: str,
    note: str | None,
) -> None:
    got = plan(sidecar=sidecar, estimate=lambda spacings_mm, axis: found, **options)
    assert (got.geometry.thickness_mm, got.thickness_from, got.estimate) == (pytest.approx(thickness), source, found)
    notes = [warning for warning in got.warnings if "is not in the file" not in warning]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0], notes


@pytest.mark.parametrize(
    ("options", "sidecar"), [({"thickness": 0.6}, {}), ({"gap": 0.1}, {}), ({}, {"SliceThickness": 0.5})]
)
def test_a_known_thickness_is_not_estimated(options: dict[str, float], sidecar: dict[str, float]) -> None:
    def never(spacings_mm: Any, axis: int) -> ThicknessEstimate:
        raise AssertionError("the thickness is known")

    assert plan(sidecar=sidecar, estimate=never, **options).estimate is None


def test_the_estimate_gets_the_slice_spacing_put_right() -> None:
    seen = []
    plan(sidecar={"SpacingBetweenSlices": 0.8}, estimate=lambda *given: seen.append(given) or told(None))
    ((spacings, axis),) = seen
    np.testing.assert_allclose(spacings, (0.15, 0.8, 0.15), rtol=1e-12)
    assert axis == 1


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({"gap": 0.2}, ("--gap says the thickness", "0.2", "one of them")),
        ({}, ("--thickness estimate needs the voxels of rat.nii",)),
        ({"profile": "FILE"}, ("--thickness estimate must be left out with a profile file", "0.3 mm")),
    ],
)
def test_estimate_refused(options: dict[str, Any], pieces: Any, tmp_path: Path) -> None:
    if "profile" in options:
        options = {"profile": profile_file(tmp_path)}
    with pytest.raises(SettingsError) as caught:
        plan(thickness="estimate", name="rat.nii", **options)
    assert "\n" not in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)
