import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation
from scipy.special import erf

from bida.errors import SettingsError
from bida.physics.slice_profile import (
    NAMED,
    SliceProfile,
    box,
    design_slr,
    from_file,
    full_width_half_maximum,
    gaussian,
    make_profile,
    measured_thickness,
    slr,
)

THICKNESSES = (0.2, 0.75, 1.5)


def bloch_transverse(pulse, depths):
    """Rotate +z magnetisation by each sample of the pulse in turn (real 3-vectors, no spinors): |Mxy| at each depth."""
    magnetisation = np.tile([0.0, 0.0, 1.0], (depths.size, 1))
    for sample in pulse:
        gradient = 2 * np.pi / pulse.size * depths
        field = np.stack([np.full_like(depths, sample.real), np.full_like(depths, sample.imag), gradient], axis=1)
        magnetisation = Rotation.from_rotvec(-field).apply(magnetisation)
    return np.hypot(magnetisation[:, 0], magnetisation[:, 1])


@pytest.fixture(scope="module")
def pulse():
    from sigpy.mri.rf.slr import dzrf

    return dzrf(128, 16, ptype="ex", ftype="ls", d1=0.01, d2=0.01)


def half_crossings(profile):
    half = profile.amplitudes.max() / 2
    shifted = lambda z: np.interp(z, profile.positions_mm, profile.amplitudes) - half  # noqa: E731
    reach = 0.3 * profile.positions_mm[-1]
    return brentq(shifted, -reach, 0), brentq(shifted, 0, reach)


@pytest.mark.parametrize("thickness", THICKNESSES)
@pytest.mark.parametrize("make", [slr, gaussian])
def test_fwhm_is_the_thickness(make, thickness):
    profile = make(thickness)
    low, high = half_crossings(profile)
    # the table is linear over 1/1000 of a thickness: the crossing is within 1e-6 of the true curve's
    assert high - low == pytest.approx(thickness, rel=2e-6)
    assert low == pytest.approx(-high, rel=2e-6)
    assert profile.fwhm_mm == pytest.approx(thickness, rel=2e-6)
    assert profile.positions_mm[[0, -1]] == pytest.approx([-2.5 * thickness, 2.5 * thickness])


def test_slr_design_is_wider_than_nominal_before_rescaling(pulse):
    unit = np.linspace(-1, 1, 4001)
    width = full_width_half_maximum(unit, bloch_transverse(pulse, 16 * unit))
    assert width == pytest.approx(1.0065, abs=3e-4)  # DESIGN's figure, from a grid; interpolated it is 1.00675


def test_slr_is_the_bloch_simulation_of_the_pulse(pulse):
    profile = slr(1.0)
    chosen = slice(None, None, 25)
    # the rescaling is taken from the Bloch simulation itself, not from the module
    dense = np.linspace(-1, 1, 8001)
    width = full_width_half_maximum(dense, bloch_transverse(pulse, 16 * dense))
    expected = bloch_transverse(pulse, 16 * width * profile.positions_mm[chosen])
    got = profile.amplitudes[chosen]
    assert np.abs(got - expected).max() < 1e-5, (got, expected)


def test_slr_has_a_flat_top_and_a_quiet_stop_band():
    profile = slr(1.0)
    depth, p = np.abs(profile.positions_mm), profile.amplitudes
    assert p[depth < 0.4].min() > 0.98  # ripple 0.01 on M_z; M_xy stays within 2%
    assert p[depth > 0.65].max() < 0.02
    assert np.allclose(p, p[::-1], atol=1e-6)


@pytest.mark.parametrize("thickness", THICKNESSES)
def test_gaussian_integral_is_the_error_function(thickness):
    profile, sigma = gaussian(thickness), thickness / 2.3548200450309493
    low, high = np.linspace(-2, 1.5, 23) * thickness, np.linspace(-1.8, 2, 23) * thickness
    expected = sigma * np.sqrt(np.pi / 2) * (erf(high / sigma / np.sqrt(2)) - erf(low / sigma / np.sqrt(2)))
    # a linear table misses the curvature: h^2/12 p' <= (1/1000)^2 / 12 x 2.4 of the peak
    assert profile.integral(low, high) == pytest.approx(expected, abs=1e-6 * thickness)


def test_box_integral_is_the_overlap():
    profile = box(0.8)
    low, high = np.linspace(-1, 0.9, 20), np.linspace(-0.9, 1.0, 20)
    overlap = np.clip(np.minimum(high, 0.4) - np.maximum(low, -0.4), 0, None)
    assert profile.integral(low, high) == pytest.approx(overlap, abs=1e-15)
    assert profile.area == pytest.approx(0.8)


@pytest.mark.parametrize("low, high", [(-0.31, 0.17), (-9.0, -0.2), (0.3, 9.0), (-9.0, 9.0), (2.0, 3.0)])
def test_integral_of_an_uneven_table_is_exact(low, high):
    z, p = np.array([-0.5, -0.3, 0.05, 0.1, 0.6]), np.array([0.0, 0.7, 1.0, 0.4, 0.1])
    profile = SliceProfile("measured", z, p)
    inside = [k for k in z if low < k < high]
    expected, _ = quad(lambda t: np.interp(t, z, p, left=0, right=0), low, high, points=inside or None)
    assert profile.integral(low, high) == pytest.approx(expected, abs=1e-12)
    assert profile.integral(high, low) == pytest.approx(-expected, abs=1e-12)


def test_slr_is_designed_once_and_scales():
    one, two = slr(1.0), slr(2.0)
    assert np.array_equal(one.amplitudes, two.amplitudes)
    assert two.area == pytest.approx(2 * one.area, rel=1e-12)


def test_the_table_of_the_slr_profile_is_what_sigpy_designs():
    designed, table = design_slr(), slr(1.0).amplitudes
    assert table.dtype == np.float64 and table.shape == designed.shape
    # rounding makes the two halves of the profile, which are equal, differ by 1.6e-9; the least of its features is a
    # ripple of 1e-2
    assert np.abs(table - designed).max() < 1e-7, np.abs(table - designed).max()


@pytest.mark.slow
def test_a_run_needs_neither_sigpy_nor_numba():
    code = (
        "import sys, bida.mri.pipeline\n"
        "from bida.physics.geometry import SliceGeometry\n"
        "from bida.physics.operators import SliceOperator\n"
        "SliceOperator(SliceGeometry(axis=1, slices=8, slice_spacing_mm=0.75, thickness_mm=0.75, voxels=40,"
        " voxel_mm=0.15, profile='slr'))\n"
        "print(sorted({'sigpy', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("separator", [" ", "\t", ", ", ",", ";"])
def test_file_is_taken_as_it_is(tmp_path, separator):
    file = tmp_path / "profile.txt"
    rows = [(-0.3, 0.0), (-0.1, 2.0), (0.2, 2.0), (0.3, -0.1)]
    lines = [f"{z}{separator}{p}" for z, p in rows]
    file.write_text("# mm amplitude\n\n" + lines[0] + "  # first\n" + "\n".join(lines[1:]) + "\n")
    profile = make_profile(str(file), thickness_mm=5.0)
    assert np.array_equal(profile.positions_mm, [z for z, _ in rows])
    assert np.array_equal(profile.amplitudes, [p for _, p in rows])
    assert profile.name == str(file)
    assert profile.fwhm_mm == pytest.approx(0.2 + 0.1 / 2.1 - -0.2)  # crossings of 1.0: -0.2 and 0.2 + 0.1 x 1/2.1


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "at least 2 points"),
        ("0 1\n", "at least 2 points"),
        ("0\n1\n", "line 1 must hold two columns (mm, amplitude), got 1"),
        ("0 1\n1 1 1\n", "line 2 must hold two columns (mm, amplitude), got 3"),
        ("mm amplitude\n0 1\n", "line 1 must hold two numbers, got 'mm amplitude'"),
        ("0 1\n-1 1\n", "depths must increase from point to point, got 0 then -1 mm"),
        ("0 1\n0 2\n1 1\n", "depths must increase"),
        ("0 1\n1 nan\n", "must be finite"),
        ("0 0\n1 0\n", "must have a positive integral, got 0"),
        ("0 -1\n1 -1\n", "must have a positive integral, got -1"),
    ],
)
def test_bad_files_get_one_line(tmp_path, text, message):
    file = tmp_path / "bad.txt"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        from_file(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files_get_one_line(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        from_file(tmp_path / "absent.txt")
    binary = tmp_path / "scan.nii.gz"
    binary.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(SettingsError, match="not a text file"):
        from_file(binary)
    with pytest.raises(SettingsError, match="must be slr, gaussian, box or a file of mm and amplitude, got 'sinc'"):
        make_profile("sinc", 1.0)


@pytest.mark.parametrize("thickness", [0.0, -0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("make", list(NAMED.values()))
def test_thickness_must_be_positive(make, thickness):
    with pytest.raises(SettingsError, match="slice thickness must be > 0 mm, got"):
        make(thickness)


def test_table_must_have_two_equal_columns():
    with pytest.raises(SettingsError, match="two columns"):
        SliceProfile("x", np.zeros(3), np.zeros(2))


def test_measured_thickness_is_that_of_a_file_alone(tmp_path):
    (tmp_path / "measured.txt").write_text("-0.3 0\n0 1\n0.3 0\n")
    assert measured_thickness(str(tmp_path / "measured.txt")) == pytest.approx(0.3)  # a triangle: half its base
    assert [measured_thickness(name) for name in NAMED] == [None] * len(NAMED)
    with pytest.raises(SettingsError, match="must be slr, gaussian, box or a file"):
        measured_thickness("sinc")
