"""Self-supervised super-resolution: its training pairs, where its network is applied, and that it learns."""

import numpy as np
import pytest
import torch

from bida.errors import SettingsError
from bida.eval import psnr
from bida.experiment.baselines import selfsr
from bida.experiment.baselines.selfsr import SelfSRSettings, self_super_resolve
from bida.experiment.baselines.selfsr_data import Lines, PatchSampler, foreground, intensities
from bida.experiment.baselines.selfsr_network import SelfSRNetwork
from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic, project
from bida.physics.operators import SliceOperator
from bida.physics.simulate import simulate_slices

QUICK = SelfSRSettings(
    steps=3, batch_size=2, patch_size=16, channels=8, blocks=1, learning_rate=1e-3, device="cpu", dtype="float32"
)


def along(axis, factor=2.5, slices=8, offset_mm=0.0, profile="box"):
    size = 0.15
    voxels = int(slices * factor)
    return SliceGeometry(axis, slices, factor * size, factor * size, voxels, size, profile, offset_mm)


def random_slices(geometry, shape=(17, 18, 19), seed=0):
    """Return slices of noise [R, A, S]; the shape has odd sizes, and none twice."""
    shape = [geometry.slices if axis == geometry.axis else size for axis, size in enumerate(shape)]
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def balls(shape=(40, 45, 42), seed=0):
    """Return many overlapping balls of several sizes, sharp to a voxel: as much structure along each axis."""
    rng = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")).astype(np.float32)
    volume = np.zeros(shape, dtype=np.float32)
    for _ in range(60):
        centre, radius = rng.random(3) * shape, rng.uniform(2, 7)
        distance = np.sqrt(((index - centre[:, None, None, None]) ** 2).sum(axis=0))
        volume = np.maximum(volume, rng.uniform(40, 100) * np.clip(radius - distance + 0.5, 0, 1))
    return volume


# ---- training pairs


@pytest.mark.parametrize("factor", [1.5, 2.5, 5])
def test_a_line_is_degraded_as_the_scan_is(factor):
    """Not by the module's own matrices: by simulating the slices of a volume and interpolating them."""
    volume = np.random.default_rng(0).random((3, int(8 * factor), 4)).astype(np.float32)
    slices, geometry = simulate_slices(volume, 0.15, 1, factor)
    lines = Lines.of(geometry.padded(2, 1))
    found = torch.einsum("knj,rjs->krns", lines.degrade, torch.from_numpy(volume)).numpy()
    np.testing.assert_allclose(found[0], cubic(slices, geometry), atol=1e-5)
    pinv = np.linalg.pinv(SliceOperator.build(geometry).matrix)
    np.testing.assert_allclose(found[1], np.einsum("nm,rms->rns", pinv, slices), atol=1e-5)


def test_lines_lie_where_an_offset_puts_them():
    geometry = along(1, offset_mm=0.04)
    slices = random_slices(geometry)
    found = torch.einsum("nm,rms->rns", Lines.of(geometry).interpolate[0], torch.from_numpy(slices))
    np.testing.assert_allclose(found, cubic(slices, geometry), atol=1e-5)


def coded_sampler(shape=(5, 23, 31), slices=8, inside=None, patch=12, **options):
    """Return a sampler of images whose pixels tell slice, row and column."""
    geometry = along(0, slices=slices, **options)
    code = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    inside = np.ones(shape, bool) if inside is None else inside
    return PatchSampler(code, inside, Lines.of(geometry), patch, 16, seed=1), geometry


@pytest.mark.parametrize("slices", [4, 10, 16], ids=["line shorter", "line as long", "line longer"])
def test_patches_are_what_the_scan_would_make_of_a_slice(slices, monkeypatch):
    """Record the whole lines that patches were cut from, degrade them anew, and look where patches lie in them."""
    sampler, geometry = coded_sampler(slices=slices)
    blocks, original = [], sampler._block
    monkeypatch.setattr(sampler, "_block", lambda: blocks.append(original()) or blocks[-1])
    degraded, sharp = sampler.draw()
    assert degraded.shape == (16, 2, min(12, geometry.voxels), 12) and sharp.shape == (16, 1, *degraded.shape[2:])
    for (block, row), found, truth in zip(blocks, degraded, sharp):
        volume = block[:, :, None]  # [n, width, 1], the through-plane axis first
        slices_ = SliceOperator.build(geometry).forward(torch.from_numpy(np.ascontiguousarray(volume))).numpy()
        window = slice(row, row + found.shape[1])
        np.testing.assert_array_equal(truth[0], block[window])
        np.testing.assert_allclose(found[0], cubic(slices_, geometry)[window, :, 0], rtol=1e-4)


def test_lines_come_from_every_slice_along_both_axes_mirrored_and_not():
    sampler, _ = coded_sampler(slices=16)  # 40 voxels: lines reach over the ends of images of 23 and 31
    shape, seen, phases = sampler.images.shape, set(), set()
    for _ in range(300):
        block, _ = sampler._block()
        slice_, rows, columns = (part.reshape(block.shape) for part in np.unravel_index(block.astype(int), shape))
        assert len(np.unique(slice_)) == 1
        turned = len(np.unique(rows[0])) == 1  # then the columns of the image run along the width
        line, across = (rows[:, 0], columns[0]) if turned else (columns[:, 0], rows[0])
        steps = np.diff(line)
        assert set(steps) <= {0, 1} or set(steps) <= {0, -1}
        inner = np.flatnonzero(steps)  # repeated at the ends alone
        assert (np.diff(inner) == 1).all() and len(inner) > 0
        assert (np.diff(across) == 1).all() or (np.diff(across) == -1).all()
        seen.add((int(slice_[0, 0]), turned, steps.sum() > 0, across[1] > across[0]))
        phases.add(int(line[20] - 20 * np.sign(steps.sum())) % 5)
    assert len(seen) == shape[0] * 8
    assert phases == {0, 1, 2, 3, 4}  # slice centres repeat every 5 voxels at 2.5x: every voxel meets every place


def test_patches_hold_foreground():
    inside = np.zeros((5, 23, 31), bool)
    inside[2, 20:22, 3:5] = True
    sampler, _ = coded_sampler(inside=inside)
    wanted = set(np.flatnonzero(inside))
    for _ in range(10):
        _, sharp = sampler.draw()
        assert all(wanted & set(patch.numpy().astype(int).ravel()) for patch in sharp)


def test_foreground_is_the_bright_part_whatever_the_offset_and_hot_voxels():
    volume = np.full((20, 20, 20), -500.0, dtype=np.float32)
    volume[5:15, 5:15, 5:15] = -400
    volume[0, 0, 0] = 1e6
    inside = foreground(volume)
    assert inside.sum() == 1001
    line = intensities(volume, inside)
    assert line.low == -500 and line.high == -400
    np.testing.assert_allclose(line.restore(line.normalise(volume)), volume, rtol=1e-6)


# ---- where the network is applied


@pytest.fixture
def untrained(monkeypatch):
    """Replace training by a function of the images [B, 2, H, W] that a test gives."""

    def put(function):
        monkeypatch.setattr(selfsr, "_train", lambda *_: function)

    return put


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_network_that_adds_nothing_gives_the_cubic_volume(axis, untrained):
    geometry = along(axis, offset_mm=0.02)
    slices = 1000 * random_slices(geometry) - 200
    untrained(lambda images: images[:, :1])
    found = self_super_resolve(slices, geometry.padded(3, 4), QUICK)
    np.testing.assert_allclose(found, cubic(slices, geometry), rtol=1e-5, atol=1e-2)
    assert found.dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_network_sees_both_planes_with_the_through_plane_axis_first(axis, untrained):
    """Rolled along their rows, all images are the volume rolled along its axis; scaled by width, the planes show."""
    geometry = along(axis)
    slices = random_slices(geometry)
    untrained(lambda images: images[:, :1].roll(1, dims=2) * images.shape[3])
    found = self_super_resolve(slices, geometry, QUICK)
    line = intensities(slices, foreground(slices))
    widths = [size for k, size in enumerate(slices.shape) if k != axis]
    wanted = line.restore(np.roll(line.normalise(cubic(slices, geometry)), 1, axis) * np.mean(widths))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_network_keeps_odd_sizes_and_starts_as_its_first_channel():
    network = SelfSRNetwork(2, 8, 1)
    images = torch.randn(3, 2, 7, 9)
    torch.testing.assert_close(network(images), images[:, :1])


# ---- the whole


@pytest.mark.parametrize("factor", [2.5, 5.0])
def test_it_learns_what_interpolation_cannot_know(factor):
    truth = balls()
    slices, geometry = simulate_slices(truth, 0.15, 1, factor, profile="box")
    settings = SelfSRSettings(
        steps=80, batch_size=8, patch_size=32, channels=32, blocks=3, learning_rate=3e-3, device="cpu", dtype="float32"
    )
    found = self_super_resolve(slices, geometry, settings)
    plain = cubic(slices, geometry)
    gains = [psnr(x, truth, 100) - psnr(plain, truth, 100) for x in (found, project(plain, slices, geometry))]
    print(f"dB above cubic: selfsr {gains[0]:.2f}, cubic + projection {gains[1]:.2f}")
    assert gains[0] > 1 and gains[0] > gains[1] + 0.5


@pytest.mark.parametrize("slices, shape", [(3, (9, 1, 8)), (2, (64, 1, 5))], ids=["3 slices", "2 slices, narrow"])
def test_few_slices_and_small_images_will_do(slices, shape):
    geometry = along(1, slices=slices)
    thick = random_slices(geometry, shape)
    found = self_super_resolve(thick, geometry, QUICK)
    assert found.shape == (shape[0], geometry.voxels, shape[2]) and np.isfinite(found).all()


def test_the_result_depends_on_the_seed_alone():
    geometry = along(1)
    slices = random_slices(geometry)
    torch.manual_seed(5)
    first = self_super_resolve(slices, geometry, QUICK)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after  # the caller's random numbers go on as if nothing had been drawn
    np.testing.assert_array_equal(first, self_super_resolve(slices, geometry, QUICK))
    other = self_super_resolve(slices, geometry, SelfSRSettings(**{**vars(QUICK), "seed": 1}))
    assert np.abs(first - other).max() > 1e-6


def test_it_does_not_care_for_units_and_the_name_of_the_axis():
    geometry = along(1)
    slices = random_slices(geometry)
    first = self_super_resolve(slices, geometry, QUICK)
    np.testing.assert_array_equal(self_super_resolve(4 * slices, geometry, QUICK), 4 * first)  # 4 is exact in binary
    turned = self_super_resolve(np.ascontiguousarray(slices.swapaxes(0, 1)), along(0), QUICK)
    np.testing.assert_allclose(turned.swapaxes(0, 1), first, atol=1e-5)


def test_projection_is_a_choice():
    geometry = along(1)
    slices = random_slices(geometry)
    A = SliceOperator.build(geometry)
    off = self_super_resolve(slices, geometry, QUICK)
    other = slices.astype(np.float64)[::-1].copy()[::-1]  # of negative strides, and of a type that is not asked for
    on = self_super_resolve(other, geometry, SelfSRSettings(**{**vars(QUICK), "project": True}))
    assert on.dtype == np.float32
    np.testing.assert_allclose(A.forward(torch.from_numpy(on)), slices, atol=1e-5)
    assert np.abs(A.forward(torch.from_numpy(off)).numpy() - slices).max() > 1e-3


def test_progress_runs_to_its_end():
    geometry, calls = along(2), []
    self_super_resolve(random_slices(geometry), geometry, QUICK, lambda done, total: calls.append((done, total)))
    done = [first for first, _ in calls]
    assert done == sorted(set(done)) and {total for _, total in calls} == {done[-1]} == {3 + 17 + 18}


def test_bfloat16_is_close_to_float32():
    geometry = along(1)
    slices = random_slices(geometry)
    found = [
        self_super_resolve(slices, geometry, SelfSRSettings(**{**vars(QUICK), "dtype": dtype}))
        for dtype in ("float32", "bfloat16")
    ]
    moved = np.abs(found[0] - cubic(slices, geometry)).max()
    apart = np.abs(found[0] - found[1]).max()
    print(f"apart {apart:.4f}, what the network did {moved:.4f}")
    assert 0 < apart < 0.3 * moved


def test_what_does_not_fit_is_refused():
    geometry = along(1)
    slices = random_slices(geometry)
    with pytest.raises(SettingsError, match="with 8 along A, got shape"):
        self_super_resolve(slices[:, 1:], geometry, QUICK)
    with pytest.raises(SettingsError, match=r"of the grid's size, 0\.15 mm, got 0\.2 mm along S"):
        self_super_resolve(slices, geometry, QUICK, spacing_mm=(0.15, 0.375, 0.2))
    self_super_resolve(slices, geometry, QUICK, spacing_mm=(0.15, 0.375, 0.15))
    with pytest.raises(SettingsError, match="must have contrast, got 3"):
        self_super_resolve(np.full_like(slices, 3), geometry, QUICK)
    with pytest.raises(SettingsError, match="must be finite"):
        self_super_resolve(np.where(slices < 0.01, np.nan, slices), geometry, QUICK)


@pytest.mark.parametrize(
    "name, value", [("steps", 0), ("batch_size", 0), ("patch_size", 7), ("channels", 0), ("blocks", 0), ("seed", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(SettingsError, match=f"selfsr {name}: must be at least"):
        SelfSRSettings(**{name: value})
    with pytest.raises(SettingsError, match="learning_rate"):
        SelfSRSettings(learning_rate=0)
