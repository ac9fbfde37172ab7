"""Programs as skull strippers: exact geometry whatever they want, and one clear error for whatever they do."""

import os
import sys

import fake_programs
import nibabel as nib
import numpy as np
import pytest
from conftest import grid_affine
from fake_programs import CODES, PRELUDE, SHAPE, blob, refusal

from bida.errors import BidaError, ExternalError, SettingsError
from bida.eval.skullstrip import command
from bida.eval.skullstrip.strippers import CommandStripper, make_stripper

in_process, program = fake_programs.in_process, fake_programs.program  # fixtures

# programs: geometry


@pytest.mark.parametrize(
    "codes, orientation", [(c, "RSP") for c in CODES] + [("RAS", o) for o in CODES] + [(c, None) for c in CODES[::7]]
)
def test_whatever_the_orientation_the_mask_comes_back_exactly(in_process, codes, orientation):
    shape, affine = grid_affine(SHAPE, (0.15, 0.3, 0.1), codes, tilt_deg=11)
    x = blob(shape)
    mask = CommandStripper("x {in} {out}", orientation, minimum_in_plane=19, minimum_in_plane_mm=3)(x, affine)
    np.testing.assert_array_equal(mask, x > 0.5)
    assert nib.aff2axcodes(in_process.affine) == tuple(orientation or codes)
    spacing_mm = np.linalg.norm(in_process.affine[:3, :2], axis=0)
    for size, step in zip(in_process.data.shape, spacing_mm):
        assert size >= 19 and size * step >= 3 - 1e-6


def test_a_sheared_grid_comes_back_exactly_too(in_process):
    shape, affine = grid_affine(SHAPE, (0.15, 0.3, 0.1), "RAS", tilt_deg=20, shear=0.3)
    np.testing.assert_array_equal(CommandStripper("x {in} {out}", "RSP", 32)(blob(shape), affine), blob() > 0.5)


def test_every_voxel_is_handed_over_where_it_lies(in_process):
    """By position: the world coordinates of the bright voxels are those of the volume."""
    shape, affine = grid_affine(SHAPE, (0.15, 0.3, 0.1), "RAS", tilt_deg=11)
    x = blob(shape)
    CommandStripper("x {in} {out}", "RSP", minimum_in_plane=31)(x, affine)
    for value in (100, 50, 7):
        there = nib.affines.apply_affine(in_process.affine, np.argwhere(in_process.data == value))
        here = nib.affines.apply_affine(affine, np.argwhere(x == value))
        np.testing.assert_allclose(np.unique(there.round(4), axis=0), np.unique(here.round(4), axis=0), atol=2e-4)


def test_no_more_is_padded_than_is_missing(in_process):
    CommandStripper("x {in} {out}", minimum_in_plane=17, minimum_in_plane_mm=2.0)(blob(), np.diag([0.1, 0.1, 0.1, 1]))
    assert in_process.data.shape == (20, 20, 17)


@pytest.mark.parametrize("voxels", range(22, 32))
def test_a_length_of_whole_voxels_is_not_rounded_up(in_process, voxels):
    shape, affine = grid_affine(SHAPE, (0.1, 0.1, 0.1), tilt_deg=7)
    CommandStripper("x {in} {out}", minimum_in_plane_mm=voxels * 0.1)(blob(shape), affine)
    assert in_process.data.shape == (voxels, voxels, 17)


def test_padding_is_air_within_the_range_of_the_volume(in_process):
    for offset in (0.0, 50.0, -500.0):
        x = blob() + np.float32(offset)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "check_mask", lambda mask, *_: mask)
            CommandStripper("x {in} {out}", minimum_in_plane=40)(x, np.eye(4))
        assert in_process.data[0, 0, 0] == np.clip(0, x.min(), x.max())


# programs: what they may do wrong


def strip(command, **options):
    return CommandStripper(command, **{"name": "mine", "timeout_s": 60.0, **options})(blob(), np.eye(4))


def test_a_program_is_run(program):
    np.testing.assert_array_equal(strip(program("write((x > 0.5).astype(np.uint8))")), blob() > 0.5)


def test_a_program_that_works_on_folders_is_run(program):
    body = """
import pathlib
found = list(pathlib.Path(sys.argv[1]).iterdir())
assert [p.name for p in found] == ["scan_0000.nii.gz"], found
image = nib.load(found[0])
nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 0.5).astype(np.uint8), image.affine), sys.argv[2] + "/any.nii")
"""
    command = program(body, "{in_dir} {out_dir}", prelude="import sys, nibabel as nib, numpy as np")
    np.testing.assert_array_equal(strip(command), blob() > 0.5)


@pytest.mark.parametrize(
    "values",
    [
        "(x > 0.5) * np.float32(1)",
        "(x > 0.5) * np.uint8(255)",
        "np.clip(x, 0, 1)",
        "(x > 0.5)[..., None] * np.uint8(3)",
    ],
    ids=["float", "255", "probabilities", "labels with a fourth axis"],
)
def test_masks_of_every_kind_are_read(in_process, values):
    in_process.body = f"write({values})"
    np.testing.assert_array_equal(strip("x {in} {out}"), blob() > 0.5)


@pytest.mark.parametrize(
    "body, words",
    [
        ("pass", ["wrote nothing"]),
        ("open(sys.argv[-1], 'w').write('hello')", ["NIfTI"]),
        ("write((x > 0.5).astype(np.uint8)); f = open(sys.argv[-1], 'r+b'); f.truncate(80)", ["NIfTI"]),
        ("write((x[:-1] > 0.5).astype(np.uint8))", ["(19, 14, 17)", "(20, 14, 17)"]),
        ("write((x[..., None] > [0.5, 9]).astype(np.uint8))", ["(20, 14, 17, 2)"]),
        (
            "write((x > 0.5).astype(np.uint8), image.affine @ nib.affines.from_matvec(np.eye(3), [0.02, 0, 0]))",
            ["0.02"],
        ),
        ("write((x > 0.5).astype(np.uint8), np.diag([1.01, 1, 1, 1]))", ["0.19"]),
        ("write(np.zeros_like(x))", ["empty"]),
        ("write(np.ones_like(x))", ["100%"]),
        ("write(x)", ["extracted brain"]),
        ("write(np.where(x > 0.5, np.nan, 0))", ["probabilities"]),
        ("write(np.where(x > 0.5, np.inf, 0))", ["probabilities"]),
    ],
    ids=["nothing", "text", "cut", "shape", "4D", "moved", "scaled", "empty", "full", "brain", "NaN", "Inf"],
)
def test_a_mask_that_cannot_be_used_gives_one_clear_error(in_process, body, words):
    in_process.body = body
    text = refusal(strip, "x {in} {out}")
    assert text.startswith("stripper mine: ")
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "body, prelude, words",
    [
        ("sys.exit('no weights')", "import sys\n", ["got 1", "no weights"]),
        ("pass", "", ["wrote nothing"]),
        ("time.sleep(60)", "import time\n", ["within 2 s"]),
        ("write((x[:-1] > 0.5).astype(np.uint8))", PRELUDE, ["(19, 14, 17)", "not resampled"]),
    ],
    ids=["fails", "writes nothing", "hangs", "writes another grid"],
)
def test_a_program_that_misbehaves_gives_one_clear_error(program, body, prelude, words):
    """Whether its children are stopped, too, is in test_external.py."""
    timeout_s = 2.0 if "sleep" in body else 60.0
    text = refusal(lambda: strip(program(body, prelude=prelude), timeout_s=timeout_s), error=BidaError)
    assert text.startswith("stripper mine: ")
    for word in words:
        assert word in text


def test_nothing_is_left_in_the_temporary_folder(program, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = program("raise SystemExit(1)", prelude="")
    before = sorted(tmp_path.iterdir())
    refusal(strip, command, error=ExternalError)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "command, word",
    [
        ("rbm {in}", "{out}"),
        ("rbm {out}", "{in}"),
        ("", "{in}"),
        ("rbm {in} {out} {mask}", "{mask}"),
        ("rbm {in} {out} {}", "{}"),
        ("rbm {in!r} {out}", "{in!r}"),
        ("rbm {in:>9} {out}", "{in:>9}"),
        ("rbm {in} {out} {", "braces"),
        ("rbm '{in} {out}", "quotation"),
    ],
)
def test_a_command_that_cannot_be_used_is_refused(command, word):
    assert word in refusal(lambda: CommandStripper(command, name="mine"), error=SettingsError)


@pytest.mark.parametrize("orientation", ["RAA", "RA", "XYZ", "ras", ""])
def test_an_orientation_that_is_none_is_refused(orientation):
    assert "orientation" in refusal(lambda: CommandStripper("x {in} {out}", orientation), error=SettingsError)


@pytest.mark.parametrize("key", ["minimum_in_plane", "minimum_in_plane_mm", "timeout_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_sizes_must_be_positive(key, value):
    assert key in refusal(lambda: CommandStripper("x {in} {out}", **{key: value}), error=SettingsError)


# presets and names

RBM = """
seen = nib.aff2axcodes(image.affine)
windows = [size * step / 0.1 for size, step in zip(x.shape[:2], image.header.get_zooms())]
good = seen[2] in "AP" and min(x.shape[:2]) >= 128 and min(windows) >= 128 - 1e-3
write((x > 0.5).astype(np.uint8) if good else np.zeros(x.shape, np.uint8))
"""
RS2 = """
import argparse, pathlib, nibabel as nib, numpy as np
parser = argparse.ArgumentParser()
for flag in ("-i", "-o", "-m", "-device"):
    parser.add_argument(flag, required=True)
given = parser.parse_args()
assert (given.m, given.device) == ("my weights.pt", "cpu"), given
for path in pathlib.Path(given.i).glob("*_0000.nii.gz"):
    image = nib.load(path)
    mask = (np.asarray(image.dataobj) > 0.5).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, image.affine), pathlib.Path(given.o) / path.name)
"""
FAKE_MODULES = {
    "ants": "import nibabel as nib\nimage_read = nib.load\nimage_write = nib.save\n",
    "antspynet": """
import nibabel as nib, numpy as np
def mouse_brain_extraction(image, modality):
    assert modality == "t2"
    return nib.Nifti1Image(np.clip(np.asarray(image.dataobj), 0, 1), image.affine)
""",
}


def install(folder, name, text):
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


@pytest.mark.parametrize("spacing_mm", [(0.2, 0.2, 0.2), (0.05, 0.05, 0.05), (0.05, 0.5, 0.1)])
def test_rbm_gets_coronal_planes_of_128_voxels_and_of_its_own_size(in_process, spacing_mm):
    in_process.body = RBM
    shape, affine = grid_affine(SHAPE, spacing_mm, tilt_deg=5)
    np.testing.assert_array_equal(make_stripper("rbm")(blob(shape), affine), blob() > 0.5)
    assert "empty" in refusal(make_stripper("command:rbm {in} {out}"), blob(), affine)


def test_rbm_is_run(tmp_path, monkeypatch):
    install(tmp_path, "rbm", PRELUDE + RBM)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    np.testing.assert_array_equal(make_stripper("rbm", timeout_s=60)(blob(), np.eye(4)), blob() > 0.5)


def test_rs2net_gets_folders_and_its_weights(tmp_path, monkeypatch):
    install(tmp_path, "RS2_predict", RS2)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    stripper = make_stripper("rs2net", weights="my weights.pt")
    np.testing.assert_array_equal(stripper(blob(), np.eye(4)), blob() > 0.5)
    assert "weights must be given" in refusal(lambda: make_stripper("rs2net"), error=SettingsError)


def test_antspynet_is_called_and_its_probabilities_are_read(tmp_path, monkeypatch):
    for name, text in FAKE_MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    np.testing.assert_array_equal(make_stripper("antspynet")(blob(), np.eye(4)), blob() > 0.5)


def test_a_program_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    text = refusal(make_stripper("rbm"), blob(), np.eye(4), error=ExternalError)
    assert text.startswith("stripper rbm: ") and "'rbm' was not found" in text


@pytest.mark.parametrize("text", ["rbm -v {in} {out}", '"rbm -v {in} {out}"', " rbm  -v {in} '{out}'"])
def test_a_command_may_be_quoted_as_a_whole(monkeypatch, text):
    seen = []
    monkeypatch.setattr(command, "run_external", lambda command, *_: seen.extend(command))
    refusal(make_stripper(f"command:{text}"), blob(), np.eye(4))
    assert (
        seen[:2] == ["rbm", "-v"] and len(seen) == 4 and not {c for word in seen for c in "{}'\""} & set("".join(seen))
    )


def test_doubled_braces_are_braces(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "run_external", lambda command, *_: seen.extend(command))
    refusal(make_stripper("command:x {in} {out} '{{y}}'"), blob(), np.eye(4))
    assert seen[-1] == "{y}"
