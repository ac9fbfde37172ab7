import numpy as np
import pytest
import torch
from conftest import inferer_of

from bida.diffusion.prior import SHOWN, PlanePrior
from bida.diffusion.resnet import SliceResNet
from bida.mri.content import CONSTANT, MARGIN, PIXELS, SLICES, Cut, at_once, brightest, content, cuts, slices_at_once
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import guide
from bida.physics.operators import SliceOperator

GEOMETRY = SliceGeometry(axis=1, slices=16, slice_spacing_mm=0.6, thickness_mm=0.6, voxels=64, voxel_mm=0.15)
OPERATOR = SliceOperator.build(GEOMETRY)


def blob(size=64, low=-1.0):
    """Return an ellipsoid of tissue in exact background, [size, 64, size]."""
    r, a, s = np.meshgrid(*(np.linspace(-1, 1, n) for n in (size, 64, size)), indexing="ij")
    inside = (r / 0.4) ** 2 + (a / 0.6) ** 2 + (s / 0.3) ** 2 < 1
    tissue = np.random.default_rng(0).normal(0.3, 0.2, inside.shape)
    return torch.from_numpy(np.where(inside, tissue, low).astype(np.float32))


@pytest.mark.parametrize("low", [-1.0, -0.4])
def test_content_is_what_a_slice_with_tissue_sees(low):
    x = blob(low=low)
    held = content(OPERATOR.forward(x), OPERATOR)
    assert held.shape == x.shape
    assert held[x > low + 0.01].all()
    inside = x != low
    # beyond the tissue it reaches along the through-plane axis alone
    assert torch.equal(held.any(dim=1), inside.any(dim=1))
    assert held.float().mean() < 2.5 * inside.float().mean()


def test_the_ringing_of_a_resampling_is_no_background():
    y = OPERATOR.forward(blob())
    y[30, :, 30] -= 0.5  # below the air, as a cubic spline leaves it beside bright tissue
    held = content(y, OPERATOR)
    assert held[30, 20:40, 30].all()
    assert held.float().mean() < 0.1


def test_a_slice_that_hardly_varies_about_the_background_holds_something():
    y = torch.full((12, 16, 12), -1.0)
    y[6, 8, 5], y[6, 8, 6] = -1.0 - 0.6 * CONSTANT, -1.0 + 0.6 * CONSTANT
    held, active = content(y, OPERATOR), torch.tensor([6])
    (cut,) = cuts(held, active, 8, stride=4)  # sagittal
    assert cut.index.tolist() == [6] and held[6].any()


def test_noise_in_the_air_counts_as_content():
    y = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 16, 12)).astype(np.float32))
    assert content(y, OPERATOR).float().mean() > 0.99


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_cuts_hold_every_slice_once_with_all_that_it_holds(micro_batch):
    held = content(OPERATOR.forward(blob()), OPERATOR).movedim(2, 0)  # axial, [N, R, A]
    active = torch.nonzero(held.flatten(1).any(dim=1)).squeeze(1)
    found = cuts(held, active, micro_batch, stride=4)
    assert sorted(i for cut in found for i in cut.index.tolist()) == active.tolist()
    assert all(len(cut.index) == micro_batch for cut in found[:-1])
    for cut in found:
        assert all(side % 4 == 0 and side <= whole for side, whole in zip(cut.size, held.shape[1:]))
        windows = cut.of(held[:, None])
        assert torch.equal(windows.flatten(1).sum(1), held[cut.index].flatten(1).sum(1))
    areas = [cut.size[0] * cut.size[1] for cut in found]
    assert areas[0] < areas[-1] < held[0].numel()
    once = torch.zeros_like(held[:, None], dtype=torch.int64)
    for cut in found:
        cut.put(cut.of(once) + 1, once)
    assert once.max() == 1 and once[held[:, None]].all()


def test_windows_have_a_margin_where_there_is_room():
    held = torch.zeros(1, 64, 64, dtype=torch.bool)
    held[0, 20:31, 0:5] = True
    (cut,) = cuts(held, torch.tensor([0]), 8, stride=8)
    (top, left), (height, width) = cut.corners[0], cut.size
    assert top <= 20 - MARGIN and top + height >= 31 + MARGIN
    assert left == 0 and width >= 5 + MARGIN


def test_windows_end_with_what_is_asked_for_but_for_whole_strides():
    held = torch.ones(2, 64, 72, dtype=torch.bool)
    held[1, :40] = False
    whole, part = (
        cuts(held, torch.tensor([0]), 8, 2)[0],
        cuts(held, torch.tensor([0]), 8, 2, [range(1, 62), range(6, 70)])[0],
    )
    assert whole.size == (64, 72) and part.size == (62, 64)
    assert part.corners[0][0] in (0, 1) and part.corners[0][1] == 6
    (low,) = cuts(held, torch.tensor([1]), 8, 8, [range(0, 62), range(6, 70)])
    assert low.size == (32, 64) and low.corners[0][0] == 64 - 32  # from 36, a margin above what there is, to 62 and on


@pytest.mark.parametrize("size", [(5, 6), (16, 20)])
def test_windows_are_the_same_copied_row_by_row_as_by_index(size):
    slices = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 16, 20)).astype(np.float32))
    cut = Cut(torch.tensor([3, 1]), [(0, 0), (16 - size[0], 20 - size[1])], size)
    found, (n, rows, columns) = cut.of(slices), cut._places
    assert torch.equal(found, slices.movedim(1, -1)[n, rows, columns].movedim(-1, 1))
    other = torch.zeros_like(slices)
    cut.put(found, other)
    assert torch.equal(cut.of(other), found) and not other[[0, 2]].any()
    assert int((other != 0).sum()) == found.numel()


def test_slices_at_once_are_of_the_kind_of_device(monkeypatch):
    assert slices_at_once("cpu", 100, 64, 64) == SLICES and at_once("cpu") == {"slices": SLICES}
    monkeypatch.setitem(PIXELS, "cuda", 10 * 64 * 64)
    assert at_once("cuda") == {"pixels": 10 * 64 * 64}
    assert [slices_at_once("cuda", n, 64, 64) for n in (0, 1, 10, 11, 25)] == [1, 1, 10, 6, 9]
    assert slices_at_once("cuda", 3, 4096, 4096) == 1  # however large one is


def test_nothing_is_cut_where_nothing_is_active():
    assert cuts(torch.zeros(3, 8, 8, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), 8, 4) == []


def test_a_window_sees_the_guide_of_its_own_place():
    """What comes back of a prior that returns its guide is the guide, where there is something."""

    sizes = []

    class Returns(PlanePrior):
        def predict(self, x, t, plane, guide=None, grain=True, along=0):
            assert guide.shape[1] == SHOWN
            sizes.append(x.shape[2:])
            return guide[:, :1], x

    x = blob()
    y = OPERATOR.forward(x)
    prior = Returns(SliceResNet(8, 1), guided=True)
    inputs = OPERATOR.pinv(y)[None, None]
    result = inferer_of(steps=1)(inputs, prior, geometry=GEOMETRY)[0, 0]
    error = (result - guide(y, GEOMETRY)).abs()[content(y, OPERATOR)]
    assert error.mean() < 0.02  # of tissue with a standard deviation of 0.2
    assert min(h * w for h, w in sizes) < 64 * 64 / 2


def test_the_brightest_parts_are_found_wherever_they_lie():
    """Of two objects with air between them the middle of what holds both shows neither."""
    slices = torch.full((6, 1, 48, 160), -1.0)
    slices[:, :, 8:40, 8:40], slices[:, :, 8:40, 120:152] = 0.5, 0.8
    found = brightest(cuts(slices[:, 0] > -1, torch.arange(6), 4, 8), slices, 2, 32, 8)
    assert [part.size for part in found] == [(32, 32)] * 2
    for part in found:
        assert float(part.of(slices).mean()) > 0.1  # the window lies on multiples of 8


def test_the_brightest_parts_are_of_bright_slices_where_noise_in_the_air_makes_all_slices_alike():
    """A head of few slices between many of air, all windows being whole slices: none of the air is taken."""
    rng = np.random.default_rng(0)
    slices = torch.from_numpy(rng.normal(-0.9, 0.02, (40, 1, 24, 32)).astype(np.float32))
    slices[12:28, :, 4:20, 8:28] += 1.2
    found = brightest(cuts(slices[:, 0] > -2, torch.arange(40), 8, 8), slices, 2, 16, 8)
    assert all(12 <= int(part.index) < 28 for part in found) and int(found[0].index) != int(found[1].index)
    assert all(float(part.of(slices).mean()) > -0.3 for part in found)
