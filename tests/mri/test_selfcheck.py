import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import inferer_of

import bida
from bida.diffusion.leaning import best_weight
from bida.diffusion.schedule import cosine_alpha_bar
from bida.mri.familiarity import USUAL_DB, familiarity, is_mere_noise, kind_of_scan
from bida.mri.measurement import Measurement
from bida.mri.record import check_warnings, verdict
from bida.mri.selfcheck import (
    SLICES,
    SelfCheck,
    averaged_weight,
    check_of,
    chosen_indices,
    self_check,
    slice_geometry,
    window,
)
from bida.mri.settings import Settings
from bida.mri.slice_errors import ACROSS, LEAST_VOXELS, Z90, Errors, Restored, Slices, Voxels
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.consistency import TISSUE, interpolated
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, resampled_affine
from bida.physics.guide import guide
from bida.physics.interpolation import cubic
from bida.physics.operators import SliceOperator
from bida.physics.rician import tissue
from bida.physics.simulate import simulate_slices

GEOMETRY = SliceGeometry(1, 12, 0.75, 0.75, 60, 0.15)


def scan(seed=0, shape=(40, 12, 48)):
    """Slices with edges, which interpolation blurs."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(-0.8, 0.8, (shape[0] // 4, shape[1], shape[2] // 4)).astype(np.float32)
    return torch.from_numpy(np.repeat(np.repeat(blocks, 4, axis=0), 4, axis=2))


class FlatPrior:
    """A prior without knowledge: the clean estimate is the noised slice, scaled to its own power."""

    alpha_bar = cosine_alpha_bar()
    stride = 8
    prediction = "v"
    x0_range = (-1.0, 2.0)
    guided = False

    def predict(self, x, t, plane, guide=None, grain=True):
        ab = float(self.alpha_bar[t])
        x0 = math.sqrt(ab) * x
        return x0, (x - math.sqrt(ab) * x0) / math.sqrt(1 - ab)


class BlockPrior(FlatPrior):
    """A prior that knows that tissue comes in blocks of four by four voxels."""

    def predict(self, x, t, plane, guide=None, grain=True):
        ab, power = float(self.alpha_bar[t]), 0.2
        mean = torch.nn.functional.avg_pool2d(x, 4).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        x0 = math.sqrt(ab) * power / (ab * power + (1 - ab) / 16) * mean
        return x0, (x - math.sqrt(ab) * x0) / math.sqrt(1 - ab)


def thickened(y):
    """Return what the self-check makes of slices of `GEOMETRY`, along both axes, and how it lies."""
    own = [slice_geometry(GEOMETRY, axis, truth_of(y).shape[axis]) for axis in (0, 2)]
    return [(SliceOperator.build(one).forward(truth_of(y)), one) for one in own]


def truth_of(y):
    return window(y[:, chosen_indices(y, 1)], 1, 8)


def test_a_prior_that_knows_the_truth_gets_all_the_weight():
    y = scan()
    check = self_check(y, GEOMETRY, FlatPrior(), lambda thick, own, plane: Restored(truth_of(y)))
    assert check.weight == 1
    assert check.gain_db > 60 and check.gain_shrunk_db == check.gain_db
    assert check.plane == "coronal" and check.slices == SLICES


def test_a_prior_that_paints_noise_gets_none():
    noise = torch.randn(40, SLICES, 48, generator=torch.Generator().manual_seed(1))

    def painting(thick, own, plane):
        A = SliceOperator.build(own)
        return Restored(A.project(guide(thick, own) + 0.5 * noise, thick))

    check = self_check(scan(), GEOMETRY, FlatPrior(), painting)
    assert check.gain_db < -1
    assert check.weight < 0.05
    assert check.gain_shrunk_db >= -1e-9


def test_half_of_the_way_is_found():
    """Truth plus an error as large as the guide's own, independent of it: the best weight is one half."""
    y, noise = scan(), torch.randn(40, SLICES, 48, generator=torch.Generator().manual_seed(2))

    def noisy(thick, own, plane):
        reference = guide(thick, own)
        size = (truth_of(y) - reference)[truth_of(y) > TISSUE].square().mean().sqrt()
        return Restored(truth_of(y) + size * noise)

    check = self_check(y, GEOMETRY, FlatPrior(), noisy)
    assert check.weight == pytest.approx(0.5, abs=0.05)
    assert check.gain_shrunk_db == pytest.approx(10 * math.log10(2), abs=0.15)
    assert abs(check.gain_db) < 0.3


@pytest.mark.parametrize(("share", "weight"), [(0.004, 0.0), (0.01, 1.0)])
def test_a_prior_that_hardly_gains_is_not_worth_a_risk(share, weight):
    """Of the way to the truth it goes 0.4% or 1%: 0.03 or 0.09 dB, without any risk here."""
    y = scan()

    def nearer(thick, own, plane):
        return Restored(guide(thick, own).lerp(truth_of(y), share))

    check = self_check(y, GEOMETRY, FlatPrior(), nearer)
    assert check.weight == pytest.approx(weight)
    assert check.gain_db == pytest.approx(-20 * math.log10(1 - share), rel=0.01)
    assert check.gain_shrunk_db == pytest.approx(weight * check.gain_db, abs=1e-6)


def test_the_best_weight_is_that_of_least_squares_and_careful():
    rr, xr = torch.tensor([4.0, 4.0, 4.0, 4.0]), torch.tensor([2.0, 2.0, 2.0, 2.0])
    assert best_weight(rr, xr) == 0.5  # all slices agree: no caution
    assert best_weight(rr, torch.tensor([4.0, 0.0, 4.0, 0.0])) == pytest.approx(0.5 - 4 / 16)
    assert best_weight(rr, -xr) == 0
    assert best_weight(rr, 3 * xr) == 1
    assert best_weight(0 * rr, 0 * xr) == 1


def test_the_mean_of_estimates_bears_the_weight_that_is_best_for_it():
    """Two estimates with errors of their own: the weight found without the truth is that of least squares with it."""
    truth, g, *errors = torch.randn(4, 8, 40, 40, generator=torch.Generator().manual_seed(3))
    g = truth + g
    estimates = [truth + 0.8 * error for error in errors]
    single = best_of([estimates[0]], truth, g)
    assert averaged_weight(single, estimates, g) == pytest.approx(best_of(estimates, truth, g), abs=0.02)
    assert single == pytest.approx(1 / 1.64, abs=0.02)


def best_of(estimates, truth, g):
    r = torch.stack(estimates).mean(dim=0) - g
    return float(((truth - g) * r).sum() / r.square().sum())


def test_the_weight_of_a_mean_keeps_its_bounds():
    g, r = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    assert averaged_weight(0.4, [r], g) == 0.4  # one estimate
    assert averaged_weight(0.4, [r, r], g) == pytest.approx(0.4)  # that agree
    assert averaged_weight(0.4, [r, 0.1 * r], g) == pytest.approx(0.4 * 0.505 / 0.55**2)
    assert averaged_weight(0.9, [r, 0.0 * r], g) == 1
    assert averaged_weight(0.0, [r, 0.0 * r], g) == 0
    assert averaged_weight(0.4, [g, g], g) == averaged_weight(0.4, [r, -r], g) == 0.4  # nothing to draw


@pytest.mark.parametrize(
    "weight, better, said",
    [
        (0.4, 0.92, "on this scan: 0.9 dB better than interpolation, by its own slices"),
        (0.4, 0.03, "on this scan: no better than interpolation"),
        (0.0, 0.50, "on this scan: no better than interpolation"),
    ],
)
def test_the_verdict_is_one_sentence_with_one_number(weight, better, said):
    check = SelfCheck(-0.5, 0.3, weight, "coronal", 4, 1.0, better)
    assert verdict(check.record()).startswith(said)
    assert verdict(None) is None


def test_a_scan_on_which_less_than_half_of_the_usual_is_gained_is_warned_of():
    strange = SelfCheck(-0.5, 0.0, 0.0, "coronal", 4, -0.7, 0.02)
    assert "unlike what the priors know" in check_warnings(Settings(), strange.record())[0]
    assert check_warnings(Settings(), replace(strange, familiarity=0.494).record())
    assert not check_warnings(Settings(), replace(strange, familiarity=0.496).record())  # it is shown as 0.50
    assert not check_warnings(Settings(), strange.record(), several=True)  # the usual gain is that of one scan
    assert "too small or too empty" in check_warnings(Settings(), None)[0]


def test_what_is_promised_of_a_noisy_scan_is_without_its_noise():
    """A restoration that gives the noise-free slices gains what there is to gain, not what noise hides."""
    clean = torch.nn.functional.avg_pool2d(scan(shape=(80, 12, 80)).movedim(1, 0), 3, 1, 1).movedim(0, 1)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    geometry = SliceGeometry(1, 12, 0.75, 0.75, 60, 0.15)
    shown = []

    def perfect(thick, own, plane):
        shown.append(thick)
        return Restored(window(clean[:, chosen_indices(noisy, 1)], 1, 8))

    check = self_check(noisy, geometry, FlatPrior(), perfect, noise=0.1)
    assert check.weight > 0.8 and check.better_db > 5
    sharp = window(clean[:, chosen_indices(noisy, 1)], 1, 8)
    thick = [SliceOperator.build(slice_geometry(geometry, axis, 80)).forward(sharp) for axis in (0, 2)]
    for seen, without in zip(shown, thick):
        assert float((seen - without).std()) == pytest.approx(0.1, rel=0.25)  # as much as a slice of the scan


def test_detail_that_a_filter_takes_for_noise_is_not_promised():
    """The gain is that on the anatomy, whatever a filter leaves of it, and no greater than noise lets one tell."""
    rng = np.random.default_rng(0)

    def drawn(size):
        return size * torch.from_numpy(rng.standard_normal((40, 12, 40)).astype(np.float32))

    x, nothing = drawn(0.1), torch.zeros(40, 12, 40)
    slices = Slices(nothing, x + drawn(0.2), 1, 0.2)  # the filter took all of the anatomy away
    better = Errors.of(slices, nothing, Restored(x + drawn(0.08)), x + drawn(0.16)).better_db(1.0, [12])
    assert better == pytest.approx(20 * math.log10(2), abs=0.5)
    exact = Errors.of(slices, nothing, Restored(x), x + drawn(0.2)).better_db(1.0, [12])
    assert exact == pytest.approx(10, abs=0.3)
    quiet = Errors.of(Slices(x, x, 1, 0.0), nothing, Restored(x + drawn(0.01)), x + drawn(0.1))
    assert quiet.better_db(1.0, [12]) > 19
    noisy = Errors.of(slices, nothing, Restored(x + drawn(0.08)), x + drawn(0.16))
    assert Errors.joined([quiet, noisy]).better_db(1.0, [12, 12]) == pytest.approx(better, abs=0.5)  # the lesser one


def test_slices_are_spread_over_those_with_content():
    y = torch.zeros(16, 20, 16)
    y[:, 4:16] = torch.randn(16, 12, 16)
    assert chosen_indices(y, 1) == [5, 8, 11, 14]
    assert chosen_indices(torch.zeros(8, 8, 8), 1) == []


def test_the_window_holds_the_content():
    y = torch.full((300, 2, 40), -1.0)
    y[200:260] = 1.0
    cut = window(y, 1, 8)
    assert cut.shape == (128, 2, 40)
    assert (cut == 1).any(dim=2)[:, 0].sum() == 60


def test_slices_of_another_axis_lie_as_the_scans_do():
    own = slice_geometry(GEOMETRY, 2, 48)
    assert (own.axis, own.slices, own.voxels, own.factor) == (2, 9, 48, pytest.approx(5))
    assert own.thickness_mm == GEOMETRY.thickness_mm


def test_no_check_where_there_is_nothing_to_check():
    def never(thick, own, plane):
        raise AssertionError("nothing to restore")

    assert self_check(torch.zeros(40, 12, 48), GEOMETRY, FlatPrior(), never) is None
    assert self_check(scan(shape=(8, 12, 8)), GEOMETRY, FlatPrior(), never) is None  # one slice of five voxels
    assert self_check(scan(shape=(4, 12, 48)), GEOMETRY, FlatPrior(), never) is None  # below the network's stride


def test_the_result_of_any_weight_agrees_with_the_scan():
    y = scan()
    inputs = SliceOperator.build(GEOMETRY).pinv(y)
    inputs = torch.nn.functional.pad(inputs, (0, 0, 2, 2))[None, None]
    geometry = GEOMETRY.padded(2, 2)
    inferer = inferer_of(steps=2)
    plain = next(inferer.draws(Measurement.of(inputs, 8, geometry), FlatPrior())).volume
    for weight in (0.0, 0.3, 1.0):
        draw = next(inferer.draws(Measurement.of(inputs, 8, geometry), FlatPrior(), weight=weight))
        x, used = draw.volume, draw.weight
        assert used == weight if weight in (0.0, 1.0) else weight < used < 1
        torch.testing.assert_close(SliceOperator.build(geometry).forward(x), y, rtol=0, atol=1e-5)
        torch.testing.assert_close(x, guide(y, geometry) + used * (plain - guide(y, geometry)), rtol=0, atol=1e-5)


def test_padding_has_no_part_in_the_weight_of_the_mean():
    margins = [(8, 0), (10, 10), (0, 8)]
    thick = np.pad(SliceOperator.build(GEOMETRY).pinv(scan()), [(8, 0), (0, 0), (0, 8)], mode="reflect")
    inputs = torch.from_numpy(np.pad(thick, [(0, 0), (10, 10), (0, 0)]))[None, None]
    geometry, inferer = GEOMETRY.padded(10, 10), inferer_of(steps=2)
    found = next(inferer.draws(Measurement.of(inputs, 8, geometry, margins), BlockPrior(), weight=0.3)).weight
    measured = Measurement.of(inputs, 8, geometry, margins)
    volumes, g = next(inferer.sampled(measured, BlockPrior(), ("axial", "sagittal"))), guide(measured.y, geometry)
    inside = (slice(8, 48), slice(10, 70), slice(0, 48))
    assert found == pytest.approx(averaged_weight(0.3, [v[inside] for v in volumes], g[inside]), rel=1e-6)
    assert found != pytest.approx(averaged_weight(0.3, volumes, g), rel=0.01)


def test_a_noisy_scan_is_drawn_towards_interpolation_that_knows_the_noise():
    y = scan()
    inputs = torch.nn.functional.pad(SliceOperator.build(GEOMETRY).pinv(y), (0, 0, 2, 2))[None, None]
    geometry = GEOMETRY.padded(2, 2)
    A, inferer = SliceOperator.build(geometry), inferer_of(steps=3, noise=0.3)
    plain = next(inferer.draws(Measurement.of(inputs, 8, geometry), FlatPrior())).volume
    assert (A.forward(plain) - y).abs().max() > 0.01
    draw = next(inferer.draws(Measurement.of(inputs, 8, geometry), FlatPrior(), weight=0.2))
    smooth = interpolated(A.forward(inputs[0, 0]), geometry, 0.3)
    torch.testing.assert_close(draw.volume, smooth + draw.weight * (plain - smooth), rtol=0, atol=1e-5)


def test_a_run_with_the_check_uses_its_weight():
    y = scan()
    inputs = SliceOperator.build(GEOMETRY).pinv(y)
    inputs = torch.nn.functional.pad(inputs, (0, 0, 2, 2))[None, None]
    geometry = GEOMETRY.padded(2, 2)
    measured, prior = Measurement.of(inputs, 8, geometry), BlockPrior()
    checked, unchecked = (inferer_of(steps=2, samples=2, self_check=on) for on in (True, False))
    found = checked.restore(measured, prior, checked.check(measured, prior))
    plain = unchecked.restore(measured, prior, unchecked.check(measured, prior))
    assert plain.check is None
    assert found.check.weight < found.check.weight_of_result < 1
    torch.testing.assert_close(found.std, found.check.weight_of_result * plain.std, rtol=0, atol=1e-5)


def test_familiarity_is_the_gain_over_that_of_the_kind():
    brain = torch.where(torch.arange(1000) < 500, -1.0, 0.5)
    assert (kind_of_scan(brain), kind_of_scan(brain.clamp(min=-0.9))) == ("brain", "head")
    assert familiarity(0.8, "head") == pytest.approx(0.5) and familiarity(1.3, "brain") == pytest.approx(0.5)
    errors = Errors(*(torch.tensor([v, v]) for v in (4.0, 1.0, 2.0, 4.0)))  # |x - r|^2 = 1: 6 dB below |x - g|^2
    found = check_of(errors, [1, 1], "coronal", 1, "head")
    assert found.familiarity == pytest.approx(20 * math.log10(2) / USUAL_DB["head"])


def test_what_is_told_of_errors_is_scaled_so_that_nine_of_ten_lie_within():
    draw = torch.Generator().manual_seed(0)
    told = 0.5 + torch.rand(20_000, generator=draw)
    lacking, added = 3 * told * torch.randn(20_000, generator=draw), torch.zeros(20_000)
    voxels = Voxels(lacking, added, told)
    assert voxels.scale(1.0) == pytest.approx(3.0 * ACROSS, rel=0.03)
    # of a result that is half the guide, half of what is told counts, and half of how far the prior went away from it
    half = Voxels(lacking, 2 * told, told)
    within = (lacking - told).abs() <= Z90 * half.scale(0.5) / ACROSS * torch.hypot(told / 2, told)
    assert float(within.float().mean()) == pytest.approx(0.9, abs=0.001)
    assert Voxels(*(part[: LEAST_VOXELS - 1] for part in voxels)).scale(1.0) is None
    assert Voxels(lacking, added, torch.zeros(20_000)).scale(1.0) is None  # nowhere was the network asked


def test_the_slices_of_the_scan_tell_how_large_its_errors_are():
    """A network that tells half or twice of an error is put right, and one that tells none has no scale."""
    y = scan()

    def told(deviation):
        def restore(thick, own, plane):
            volume = guide(thick, own).lerp(truth_of(y), 0.5)
            return Restored(volume, None if deviation is None else torch.full_like(volume, deviation))

        found = self_check(y, GEOMETRY, FlatPrior(), restore)
        assert found.weight == 1
        return found.spread_scale

    assert told(None) is None
    errors = torch.cat([(0.5 * (truth_of(y) - guide(thick, own)))[truth_of(y) > TISSUE] for thick, own in thickened(y)])
    assert told(0.2) == pytest.approx(float(errors.abs().quantile(0.9)) / 0.2 / Z90 * ACROSS, rel=1e-4)
    assert told(0.05) == pytest.approx(4 * told(0.2), rel=1e-4)


def test_noise_is_no_anatomy_whatever_is_gained_by_smoothing_it():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(40, 40)).astype(np.float32))
    assert is_mere_noise(0.3 * noise, 0.4) and not is_mere_noise(0.3 * noise, 0.1)
    assert not is_mere_noise(0.3 * noise, 0.0)
    assert is_mere_noise(torch.full((4, 4), -1.0), 0.1)
    errors = Errors(*(torch.tensor([v, v]) for v in (4.0, 1.0, 2.0, 4.0)))
    found = check_of(errors, [1, 1], "coronal", 1, "head", mere_noise=True)
    assert (found.familiarity, found.better_db) == (0, 0)
    assert found.weight == check_of(errors, [1, 1], "coronal", 1, "head").weight > 0, "interpolation keeps the noise"
    assert verdict(found.record()).startswith("on this scan: its slices hold hardly more than noise")


@pytest.mark.slow
def test_anatomy_under_strong_noise_comes_out_better_than_by_interpolation() -> None:
    truth, affine = synthetic_brain(0.25)
    slices, geometry = simulate_slices(truth, 0.25, 1, 2.5, snr=2.5)
    grids = [AxisGrid(size, 0.25) for size in truth.shape]
    grids[1] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
    found = bida.superres(slices, affine=resampled_affine(affine, truth.shape, (0.25,) * 3, grids), n4=False)
    inside = tissue(truth, 1)
    errors = [float(np.square(one - truth)[inside].mean()) for one in (found.data, cubic(slices, geometry))]
    assert found.record["self_check"]["familiarity"] == 0, "the case that was taken for noise alone"
    assert errors[0] < 0.7 * errors[1]
