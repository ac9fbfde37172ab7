import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import bida
from bida.cli.parser import main
from bida.errors import ScanError, SettingsError
from bida.io.files import sidecar_path, write_json
from bida.mri import combine
from bida.mri.combine import least_squares, restore_combined
from bida.mri.settings import Settings
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.grid import AxisGrid, resampled_affine
from bida.physics.interpolation import cubic
from bida.physics.rician import add_noise_of_snr
from bida.physics.simulate import simulate_slices

MM = 0.15
FACTOR = 5
EXACT = Settings(n4=False, noise=0, align=False, device="cpu", self_check=False)


@pytest.fixture(scope="module")
def head():
    """Return a made brain [R, A, S] and its affine."""
    return synthetic_brain(MM, (72, 80, 60))


@pytest.fixture(scope="module")
def files(head, tmp_path_factory):
    """Return a function that writes thick slices of the brain across an axis."""
    folder = tmp_path_factory.mktemp("scans")
    volume, affine = head

    def write(axis, snr=None, name=None, data=volume, where=affine):
        slices, geometry = simulate_slices(data, MM, axis, FACTOR)
        if snr is not None:
            slices, _ = add_noise_of_snr(slices, axis, snr, axis)
        grids = [AxisGrid(n, MM) for n in data.shape]
        grids[axis] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
        path = folder / f"{name or 'RAS'[axis]}{snr or ''}.nii.gz"
        image = nib.Nifti1Image(slices, resampled_affine(where, data.shape, [MM] * 3, grids))
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        sizes = {"SliceThickness": geometry.thickness_mm, "SpacingBetweenSlices": geometry.slice_spacing_mm}
        write_json(sidecar_path(path), sizes, overwrite=True)
        return path

    return write


def error(volume, truth):
    return float(np.square(volume - truth).mean())


def test_two_scans_make_a_better_volume_than_one_or_than_least_squares(files, head):
    cor, ax = files(1), files(2)
    one = bida.superres(cor, replace(EXACT, align=True))
    two = bida.superres([cor, ax], EXACT)
    plain = least_squares([cor, ax], EXACT)
    assert two.data.shape == one.data.shape == head[0].shape
    np.testing.assert_allclose(two.affine, one.affine)
    errors = [error(result.data, head[0]) for result in (one, plain, two)]
    interpolated = cubic(nib.load(cor).get_fdata(dtype=np.float32), simulate_slices(head[0], MM, 1, FACTOR)[1])
    assert errors[1] < 0.7 * error(interpolated, head[0])  # without a prior
    assert errors[2] < 0.6 * min(errors[:2])
    # degraded again it is both scans
    for path, axis in ((cor, 1), (ax, 2)):
        y = nib.load(path).get_fdata()
        again, _ = simulate_slices(two.data, MM, axis, FACTOR)
        assert np.abs(again - y).max() < 1e-4 * np.ptp(y)
    assert [scan["joined"] for scan in two.record["scans"]] == [True, True]
    assert [scan["through_plane_axis"] for scan in two.record["scans"]] == ["A", "S"]
    assert all(scan["residual"] < 1e-4 for scan in two.record["scans"])
    assert one.record["scans"] is None
    json.dumps(two.record)
    assert two.std is not None and two.std.shape == two.data.shape and bool((two.std >= 0).all())


def test_where_one_scan_ends_the_other_goes_on_as_if_alone(files, head):
    volume, _ = head
    cor, whole = files(1), files(2)
    image = nib.load(whole)
    part = whole.with_name("part.nii.gz")
    nib.save(image.slicer[:36, :, :], part)  # sees the left half alone
    both, one = bida.superres([cor, part], EXACT), bida.superres(cor, replace(EXACT, align=True))
    left, right = (slice(0, 30), slice(42, 72))
    errors = [[error(found.data[side], volume[side]) for found in (both, one)] for side in (left, right)]
    assert errors[0][0] < 0.6 * errors[0][1]  # two scans
    assert errors[1][0] < 1.01 * errors[1][1]  # one


def test_with_noise_it_is_better_than_either_scan(files, head):
    cor, ax = files(1, 10), files(2, 10)
    auto = replace(EXACT, noise="auto")
    two = restore_combined([cor, ax], auto)
    interpolations = [cubic(nib.load(p).get_fdata(dtype=np.float32), simulate_slices(head[0], MM, axis, FACTOR)[1])
                      for p, axis in ((cor, 1), (ax, 2))]  # fmt: skip
    assert error(two.data, head[0]) < 0.5 * min(error(one, head[0]) for one in interpolations)
    assert all(0.6 < scan["residual_over_noise"] < 1.3 for scan in two.record["scans"])


@pytest.mark.slow
def test_a_scan_that_was_moved_is_found(files, head):
    volume, affine = head
    shifted = affine.copy()
    shifted[:3, 3] += (0.3, -0.3, 0.15)  # its header is wrong by whole voxels
    cor, ax = files(1), files(2, name="moved", where=shifted)
    found = bida.superres([cor, ax], replace(EXACT, align=True))
    pose = np.array(found.record["scans"][1]["pose"])
    np.testing.assert_allclose(pose[:3, 3] + (pose[:3, :3] - np.eye(3)) @ shifted[:3, 3], (-0.3, 0.3, -0.15), atol=0.06)
    assert error(found.data, volume) < 1.1 * error(bida.superres([cor, files(2)], EXACT).data, volume)
    assert found.record["scans"][1]["shift_mm"] == pytest.approx(0.45, abs=0.06)


def test_the_command_writes_one_volume(files, tmp_path, capsys):
    cor, ax, out = files(1, 10), files(2, 10), tmp_path / "both.nii.gz"
    words = ["superres", "--combine", str(cor), str(ax), "-o", str(out), "--no-align", "--no-n4", "--device", "cpu"]
    assert main([*words, "--uncertainty", str(tmp_path / "std.nii.gz")]) == 0
    told = capsys.readouterr().out
    assert f"{cor}: moved by 0.000 mm and 0.00 degrees; made thick again the result differs from it by" in told
    assert "on these scans: " in told and "better than interpolation of the best one" in told
    record = json.loads((tmp_path / "both.json").read_text(encoding="utf-8"))
    assert len(record["scans"]) == 2 and record["self_check"]["plane"] == "coronal+axial"
    assert nib.load(out).shape == (72, 80, 60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--combine", "{cor}", "-o", "{out}"], "must be two scans or more, got 1"),
        (["--combine", "{cor}", "{cor}", "-o", "{out}"], "must differ, got it twice"),
        (["--combine", "{cor}", "{ax}"], "the file to write must be named, got none; give -o OUT"),
        (["{cor}", "--combine", "{ax}", "-o", "{out}"], "must name every scan"),
        (["--combine", "{cor}", "{ax}", "-o", "{out}", "--factor", "5"], "--factor: is for one scan, got 2"),
        (["--combine", "{cor}", "{ax}", "-o", "{out}", "--axis", "A"], "--axis: is for one scan, got 2"),
        (["--combine", "{cor}", "{ax}", "-o", "{ax}"], "output"),
        (["{cor}", "{out}", "--no-align"], "is for scans that are combined, got one"),
        (["{cor}"], "one file to write must be named, got none"),
        (["{cor}", "{out}", "-o", "{out}"], "one file to write must be named, got"),
        ([], "a scan must be named, got none"),
    ],
)
def test_wrong_words_end_in_one_line(files, tmp_path, capsys, words, message):
    names = {"cor": files(1), "ax": files(2), "out": tmp_path / "out.nii.gz"}
    assert main(["superres", *(word.format(**names) for word in words)]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told and not (tmp_path / "out.nii.gz").exists()


def spoilt(problem, refused):
    """Return an alignment that cannot join the second scan."""
    real = combine.align

    def stand_in(scans, search=True):
        found = real(scans, search=False)
        return [found[0], replace(found[1], problem=problem, refused=refused)]

    return stand_in


def test_a_scan_of_something_else_is_refused(files, monkeypatch):
    monkeypatch.setattr("bida.mri.combine.align", spoilt("it shows another contrast", True))
    with pytest.raises(ScanError, match=r"S.nii.gz: must show what .*A.nii.gz shows, it shows another contrast"):
        bida.superres([files(1), files(2)], EXACT)


def test_a_scan_that_cannot_be_aligned_is_left_out_with_a_note(files, monkeypatch):
    monkeypatch.setattr("bida.mri.combine.align", spoilt("it could not be aligned", False))
    cor, ax = files(1), files(2)
    found = bida.superres([cor, ax], EXACT)
    assert any(f"{ax} was left out: it could not be aligned" in note for note in found.warnings)
    assert np.array_equal(found.data, bida.superres(cor, replace(EXACT, align=True)).data)
    assert [scan["joined"] for scan in found.record["scans"]] == [True, False]
    assert found.record["scans"][1]["problem"] == "it could not be aligned"


@pytest.mark.slow
def test_what_does_not_go_together_is_told(files, head):
    cor, ax = files(1), files(2)
    wrong = nib.load(ax)
    thin = ax.with_name("thin.nii.gz")
    nib.save(wrong, thin)
    write_json(sidecar_path(thin), {"SliceThickness": 0.5, "SpacingBetweenSlices": 0.75}, overwrite=True)
    assert any("the scans contradict each other by" in note for note in bida.superres([cor, thin], EXACT).warnings)
    assert not bida.superres([cor, ax], EXACT).warnings
    image = nib.load(ax)
    affine = image.affine.copy()
    affine[:3, :2] *= 2
    coarse = ax.with_name("coarse.nii.gz")
    found = nib.Nifti1Image(np.asarray(image.dataobj)[::2, ::2], affine)
    found.header.set_xyzt_units("mm")
    nib.save(found, coarse)
    notes = bida.superres([cor, coarse], EXACT).warnings
    assert any("in-plane voxels of 0.3 mm are coarser than the result's 0.15 mm" in note for note in notes)


def test_a_scan_of_unknown_noise_does_not_overrule_noisy_ones(files):
    parts = combine.read([files(1, 10), files(2)], replace(EXACT, noise="auto"))
    blind = replace(parts[1], located=replace(parts[1].located, noise=0.0), image=replace(parts[1].image, meta={}))
    told = combine.told_noise([parts[0], blind])
    assert told[1].located.noise == told[0].located.noise > 0
    exact = [replace(part, located=replace(part.located, noise=0.0)) for part in parts]
    assert [part.located.noise for part in combine.told_noise(exact)] == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.slow
def test_one_bias_field_is_taken_out_of_all(files, head):
    """The same coil: with N4 the scans agree as well as without, though each alone would get a field of its own."""
    volume, _ = head
    place = np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.shape], indexing="ij")
    field = np.exp(0.3 * place[0] - 0.2 * place[1] * place[2]).astype(np.float32)
    cor, ax = (files(axis, name=f"coil{axis}", data=volume * field) for axis in (1, 2))
    found = bida.superres([cor, ax], replace(EXACT, n4=True))
    assert found.record["scans"][1]["residual"] < 1e-4  # what was measured is compared, with the field within a slice
    alone = bida.superres(cor, replace(EXACT, align=True))
    assert error(found.data, volume * field) < 0.8 * error(alone.data, volume * field)


def test_no_source_is_one_line():
    with pytest.raises(SettingsError, match=r"must be a path, a nibabel image, .* got NoneType"):
        bida.superres(None)


def test_settings_are_not_those_of_one_scan():
    with pytest.raises(SettingsError, match="--no-align: is for scans that are combined"):
        bida.superres("nowhere.nii", align=False)


def test_a_scan_that_cannot_be_read_can_be_left_out(files, head):
    volume, affine = head
    even = files(1).with_name("even.nii.gz")
    nib.save(nib.Nifti1Image(volume, affine), even)
    with pytest.raises(ScanError, match=r"even\.nii\.gz: .*or leave it out of --combine"):
        bida.superres([files(1), even], EXACT)
    uneven = even.with_name("uneven.nii.gz")
    nib.save(nib.Nifti1Image(volume[:, :, ::2], affine @ np.diag([1, 1, 2, 1])), uneven)
    with pytest.raises(SettingsError, match="--like: voxels must be as large on every axis"):
        bida.superres([files(1), files(2)], replace(EXACT, like=uneven))
