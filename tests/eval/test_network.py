"""The built-in stripper: geometry with an oracle network, normalisation, and the released weights on heads."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import grid_affine, world

from bida.errors import ScanError
from bida.eval.skullstrip.network import VOXEL_MM, BrainUNet, largest_body, normalise, resize


class Bright(torch.nn.Module):
    """A network that calls every voxel above one half brain."""

    def forward(self, x):
        return (x - 0.5) * 100


def stripper() -> BrainUNet:
    found = BrainUNet()
    found.__dict__["_network"] = Bright()
    return found


def ball(shape, affine, centre=(0.4, -0.3, 0.2), radius=2.2):
    return np.linalg.norm(world(shape, affine) - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius


@pytest.mark.parametrize("codes, tilt", [("RAS", 0), ("LPI", 0), ("SRA", 0), ("RSP", 12)])
@pytest.mark.parametrize("spacing", [(0.15, 0.15, 0.15), (0.1, 0.6, 0.1), (0.25, 0.25, 1.0)])
def test_the_mask_lies_on_the_scans_own_grid(codes, tilt, spacing):
    size = [round(8 / s) for s in spacing]
    shape, affine = grid_affine(size, spacing, codes, tilt)
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]  # centred
    truth = ball(shape, affine)
    mask = stripper()(truth.astype(np.float32) * 900 + 10, affine)
    assert mask.shape == tuple(shape) and mask.dtype == bool
    overlap = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    # the surface is off by less than half of a voxel of either grid: 2 r^2 pi shell over the ball's volume
    assert overlap > 1 - 1.5 * 0.25 * max(VOXEL_MM, *spacing) / 2.2, overlap


class SureOfOne(torch.nn.Module):
    """A network that is sure where what is bright is longest along one axis, expects errors elsewhere, and counts."""

    def __init__(self, axis, unsure):
        super().__init__()
        self.axis, self.unsure, self.calls = axis, unsure, 0

    def forward(self, x):
        self.calls += 1
        places = (x[0, 0] > 0.5).nonzero()
        sure = int((places.max(dim=0).values - places.min(dim=0).values).argmax()) == self.axis
        return (x - 0.5) * (100 if sure else self.unsure)


@pytest.mark.parametrize(
    "longest, axis, unsure, looks, sure",
    [
        (1, 1, 9, 1, True),  # sure at once
        (2, 1, 9, 2, True),  # somewhat in doubt: A and S are exchanged, then it is sure
        (0, 1, 9, 2, False),  # no better so, but nothing else is tried
        (0, 1, 2, 6, True),  # in doubt: all orders are
    ],
)
def test_axes_are_exchanged_where_the_network_is_in_doubt(longest, axis, unsure, looks, sure):
    volume = np.zeros((40, 40, 40), np.float32)
    block = [slice(12, 28)] * 3
    block[longest] = slice(6, 34)
    volume[tuple(block)] = 1
    network = BrainUNet()
    network.__dict__["_network"] = seen = SureOfOne(axis, unsure)
    found = network.probability(volume + 1e-3, np.diag([VOXEL_MM] * 3 + [1]))
    assert np.array_equal(found > 0.5, volume > 0), "the answer lies on the volume's own axes"
    assert seen.calls == 2 * looks, "as it is and mirrored"
    assert (found[volume > 0].min() > 0.999) == sure


def test_percentiles_leave_the_outside_of_the_field_of_view_out():
    image = torch.zeros(1, 20, 20, 20)
    image[:, 5:15, 5:15, 5:15] = torch.linspace(100, 300, 1000).reshape(10, 10, 10)
    found = normalise(image)
    assert found[image == 0].max() == 0
    assert float(found.max()) == pytest.approx(300 / (100 + 0.995 * 200), rel=0.01)


@pytest.mark.parametrize("scale", [1e-3, 1e5])
def test_normalisation_does_not_depend_on_the_scale(scale):
    image = torch.rand(1, 16, 16, 16) + 0.1
    torch.testing.assert_close(normalise(image * scale), normalise(image), rtol=1e-4, atol=1e-5)


def test_nothing_stays_nothing():
    assert normalise(torch.zeros(1, 8, 8, 8)).abs().max() == 0


def test_resize_keeps_a_ramp():
    ramp = torch.arange(40.0).reshape(1, 40, 1, 1).expand(1, 40, 8, 8)
    half = resize(ramp, (20, 8, 8))[0, :, 4, 4]
    # MONAI cuts the Gaussian at 4 sigma, which leaves a share of 6e-5 of its weight out on either side
    torch.testing.assert_close(half[4:-4], torch.arange(20.0)[4:-4] * 2 + 0.5, rtol=0, atol=4e-3)


def test_the_largest_body_is_kept_and_filled():
    mask = np.zeros((20, 20, 20), bool)
    mask[2:12, 2:12, 2:12] = True
    mask[5, 5, 5] = False
    mask[15:18, 15:18, 15:18] = True
    found = largest_body(mask)
    assert found.sum() == 1000 and found[5, 5, 5] and not found[16, 16, 16]


def test_no_brain_is_an_error():
    with pytest.raises(ScanError, match="mask is empty"):
        largest_body(np.zeros((4, 4, 4), bool))


def test_it_can_be_sent_to_another_process():
    import pickle

    assert "_network" not in vars(pickle.loads(pickle.dumps(stripper())))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    "data, scans, least",
    [
        ("mouse-sherm", ["sub-02/anat/sub-02_T1w"], 0.92),
        ("rat-bold-pontes", ["sub-25/func/sub-25_run-1_boldref", "sub-30/func/sub-30_run-1_boldref"], 0.95),
    ],
)
@pytest.mark.slow
def test_the_released_weights_find_the_brain_in_heads_they_never_saw(shared_data, data, scans, least):
    scores = []
    for scan in scans:
        image = nib.load(shared_data / data / f"{scan}.nii.gz")
        mask = shared_data / data / "derivatives" / "masks" / f"{scan.rpartition('_')[0]}_desc-brain_mask.nii.gz"
        found = BrainUNet()(np.asarray(image.dataobj, dtype=np.float32), image.affine)
        scores.append(dice(found, np.asarray(nib.load(mask).dataobj) > 0))
    assert np.mean(scores) >= least, scores


@pytest.mark.slow
def test_muscle_below_the_brain_of_a_rat_is_not_taken_for_brain(shared_data):
    """A T2w rat in thick slices, without a mask: an adult's brain has 1,700 to 2,400 mm3, above its jaw."""
    image = nib.load(shared_data / "rat-nirodents" / "sub-15" / "anat" / "sub-15_T2w.nii.gz")
    found = BrainUNet()(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    volume = found.sum() * np.prod(image.header.get_zooms())
    assert 1700 < volume < 2400, volume
    low = np.nonzero(found.any(axis=(0, 1)))[0].min()
    assert low > 70, "muscle and jaw reach down to voxel 20 of the third axis, the brain to 77"
