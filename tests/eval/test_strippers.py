"""Skull strippers: a usable mask on the volume's grid, or one clear error."""

import pickle
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from fake_programs import SHAPE, ball, blob, dice, refusal
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from bida.errors import SettingsError
from bida.eval.skullstrip.strippers import PRESETS, StripperError, ThresholdStripper, check_mask, make_stripper

# the contract


def test_a_mask_is_returned_as_it_is():
    mask = blob() > 0.5
    assert check_mask(mask, blob(), "x") is mask


@pytest.mark.parametrize(
    "mask, word",
    [
        (np.zeros(SHAPE, bool), "empty"),
        (np.ones(SHAPE, bool), "100%"),
        (np.ones(SHAPE[::-1], bool), r"\(17, 14, 20\)"),
        ((blob() > 0.5).astype(np.uint8), "uint8"),
    ],
)
def test_an_unusable_mask_is_refused(mask, word):
    with pytest.raises(StripperError, match=f"stripper mine: .*{word}"):
        check_mask(mask, blob(), "mine")


# threshold


def test_threshold_finds_the_ball_and_fills_its_holes():
    brain = ball()
    x = 100.0 * brain
    x[18:22, 20:23, 17:20] = 3  # a ventricle
    x[2:4, 2:4, 2:4] = 100  # and a speck outside
    np.testing.assert_array_equal(ThresholdStripper()(x, np.eye(4)), brain)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.5])
def test_threshold_lies_where_a_blurred_edge_crosses_it(share):
    """Blurred by a Gaussian of sigma, a ball's edge falls to p of its level where Phi((R - r) / sigma) = p.

    To first order in the curvature the crossing moves inwards by sigma^2 / R. A fortieth of a voxel is what the mask's
    grid leaves of such a radius.
    """
    radius, sigma = 30.0, 1.5
    x = gaussian_filter(100.0 * ball((76, 76, 76), radius, np.full(3, 37.5)), sigma)
    found = (ThresholdStripper(share=share)(x, np.eye(4)).sum() / (4 / 3 * np.pi)) ** (1 / 3)
    expected = radius - sigma * ndtri(share) - sigma**2 / radius
    assert found == pytest.approx(expected, abs=0.03), f"{found} against {expected}"


def test_threshold_does_not_depend_on_scale_nor_field_of_view():
    x = gaussian_filter(100.0 * ball(), 1.0)
    mask = ThresholdStripper()(x, np.eye(4))
    np.testing.assert_array_equal(ThresholdStripper()(1e-3 * x, np.eye(4)), mask)
    padded = ThresholdStripper()(np.pad(x, 30), np.eye(4))
    np.testing.assert_array_equal(padded, np.pad(mask, 30))


def test_threshold_withstands_noise_and_ringing_around_zero():
    x = 100.0 * ball()
    x = x + 0.1 * (gaussian_filter(x, 1) - gaussian_filter(x, 3))  # about 3% beyond the edge, either sign
    x = x + np.random.default_rng(0).normal(0, 3, x.shape)
    assert dice(ThresholdStripper()(x, np.eye(4)), ball()) > 0.99


def test_threshold_refuses_noisy_air():
    noise = np.random.default_rng(0).normal(0, 6, (2, 40, 44, 36))
    text = refusal(ThresholdStripper(), np.hypot(100.0 * ball() + noise[0], noise[1]), np.eye(4))
    assert "brain-extracted" in text and "builtin" in text


def test_threshold_refuses_a_head_whose_air_is_zeroed():
    """A tube along the second axis that the field of view cuts at three faces."""
    head = np.zeros((40, 44, 36))
    head[8:32, :, 10:] = 100
    assert "3 faces" in refusal(ThresholdStripper(), head, np.eye(4))


def test_threshold_takes_a_slab_of_a_brain():
    slab = 100.0 * ball(radius=16.0)[:, 12:32]
    np.testing.assert_array_equal(ThresholdStripper()(slab, np.eye(4)), slab > 0)


@pytest.mark.parametrize("x", [np.zeros(SHAPE), -blob(), np.where(ball(), 100, np.nan), 2 * ball() - 1.0])
def test_threshold_refuses_what_has_no_dark_background_or_no_tissue(x):
    refusal(ThresholdStripper(), x, np.eye(4))


def test_threshold_checks_its_share():
    refusal(lambda: ThresholdStripper(share=1.0), error=SettingsError)


def test_threshold_on_real_scans(shared_data):
    """The extracted brain is what is not zero in the scan; a head is refused."""
    scan = shared_data / "mouse-rtg4510" / "sub-15" / "anat" / "sub-15_T2w.nii.gz"
    x = np.asarray(nib.load(scan).dataobj, dtype=np.float32)
    assert dice(ThresholdStripper()(x, np.eye(4)), x > 0) > 0.98
    head = shared_data / "rat-nirodents" / "sub-15" / "anat" / "sub-15_T2w.nii.gz"
    refusal(ThresholdStripper(), np.asarray(nib.load(head).dataobj, dtype=np.float32), np.eye(4))


OPTIONS = {"rs2net": {"weights": "w.pt"}, "seg4": {"weights": "w.whl"}}


@pytest.mark.parametrize("name", ["builtin", "threshold", "command:x {in} {out}", *PRESETS])
def test_strippers_have_names_and_cross_processes(name):
    stripper = pickle.loads(pickle.dumps(make_stripper(name, **OPTIONS.get(name, {}))))
    assert stripper.name == name.removeprefix("command:")


@pytest.mark.parametrize("name", ["rmb", "", "command", "Builtin"])
def test_an_unknown_name_lists_the_known_ones(name):
    text = refusal(lambda: make_stripper(name), error=SettingsError)
    for known in ("builtin", "threshold", "command:", *PRESETS):
        assert known in text


@pytest.mark.parametrize("name", ["builtin", "threshold", "command:x {in} {out}", *PRESETS])
def test_an_unknown_option_is_refused(name):
    options = {**OPTIONS.get(name, {}), "colour": 1}
    assert "colour" in refusal(lambda: make_stripper(name, **options), error=SettingsError)


def test_nothing_heavy_is_imported():
    code = "import sys, bida.eval.skullstrip.strippers; print({'torch', 'monai', 'skimage', 'ants'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
