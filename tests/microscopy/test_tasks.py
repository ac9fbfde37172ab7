"""Masked slices: what is shown, what is asked and what counts, against loops over rows."""

import math

import numpy as np
import pytest
import torch

from bida.diffusion.schedule import cosine_alpha_bar
from bida.errors import SettingsError
from bida.microscopy.prior import REACH, SETTINGS, UNIT, MaskedPrior, RowLoss, method_settings
from bida.microscopy.tasks import LEAST, MARGIN, GuideRowsd, MaskRowsd, RowTripletsd, cut_size, row_task

H, W = 12, 5


def shown(task, seed=0, index=7, channels=2):
    image = torch.from_numpy(np.random.default_rng(1).normal(size=(channels, H, W)).astype(np.float32))
    task.set_random_state(seed=seed)
    return image, task({"image": image, "index": index})


def test_the_number_of_known_rows_is_uniform_and_so_is_their_place():
    task = MaskRowsd("image", rows=(2, 5))
    task.set_random_state(seed=0)
    draws = 6000
    known = torch.stack([task.known_rows(H) for _ in range(draws)])
    share = torch.bincount(known.sum(dim=1), minlength=H + 1) / draws
    expected = torch.tensor([0, 0, *[1 / 4] * 4, *[0] * 7])
    # five standard errors of a share of 1/4
    assert float((share - expected).abs().max()) < 5 * math.sqrt(0.25 * 0.75 / draws), share
    place = known.double().mean(dim=0)
    assert float((place - 3.5 / H).abs().max()) < 5 * math.sqrt(0.3 * 0.7 / draws), place
    # brute force: all sets of two rows of twelve are met, each about as often as any other
    pairs = known[known.sum(dim=1) == 2].double()
    together = (pairs.T @ pairs).fill_diagonal_(0)[np.triu_indices(H, 1)] / len(pairs)
    assert float((together - 1 / 66).abs().max()) < 5 * math.sqrt(1 / 66 / len(pairs)), together


@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_known_rows_are_clean_the_others_are_noised_and_the_target_is_theirs(prediction):
    image, found = shown(MaskRowsd("image", rows=(4, 4), prediction=prediction, mask_channel=True))
    mask = found["image"][2]
    assert mask.sum() == 4 * W and bool((mask == mask[:, :1]).all())
    ab = float(cosine_alpha_bar()[found["timesteps"]])
    a, s = math.sqrt(ab), math.sqrt(1 - ab)
    for row in range(H):
        if mask[row, 0]:
            assert torch.equal(found["image"][:2, row], image[:, row])
            assert not found["label"][2, row].any()
            continue
        x0, x_t, target = image[:, row], found["image"][:2, row], found["label"][:2, row]
        noise = (x_t - a * x0) / s  # Eq. 3 solved for it
        assert float(noise.abs().max()) < 5
        expected = {"eps": noise, "v": a * noise - s * x0, "x0": x0}[prediction]
        torch.testing.assert_close(target, expected, atol=2e-5, rtol=1e-5)
        assert bool((found["label"][2, row] == 1).all())


def test_msunet_sees_noise_that_does_not_depend_on_the_slice():
    image, found = shown(row_task("msunet", rows=(4, 4)))
    other = row_task("msunet", rows=(4, 4))
    other.set_random_state(seed=0)
    again = other({"image": 2 * image, "index": 7})
    unknown = found["label"][2, :, 0].bool()
    assert torch.equal(found["image"][:, unknown], again["image"][:, unknown])
    assert torch.equal(found["image"][:, ~unknown], image[:, ~unknown])
    assert torch.equal(found["label"][:2], image) and found["timesteps"] == 0


def test_triplets_of_rows():
    x = torch.arange(2 * 7 * 3, dtype=torch.float32).reshape(2, 7, 3)
    found = RowTripletsd("image")({"image": x})
    for k, i in enumerate((0, 2, 4)):
        assert torch.equal(found["image"][:2, k], x[:, i]) and torch.equal(found["image"][2:, k], x[:, i + 2])
        assert torch.equal(found["label"][:2, k], x[:, i + 1])
    assert found["image"].shape == (4, 3, 3) and bool((found["label"][2] == 1).all())
    with pytest.raises(SettingsError, match="odd number of rows, got 6"):
        RowTripletsd("image")({"image": x[:, :6]})


@pytest.mark.parametrize("method, crop, found", [("e2e", (48, 24), [49, 24]), ("diffusion", (24, 40), [24, 40])])
def test_what_is_cut_from_a_slice_fits_the_network(method, crop, found):
    assert cut_size(method, crop, (64, 128, 256)) == found
    image = torch.zeros(1, *found)
    task = row_task(method, rows=None if method == "e2e" else (2, 3))
    assert all(side % 8 == 0 for side in task({"image": image, "index": 0})["image"].shape[1:])


@pytest.mark.parametrize(
    "method, crop, message",
    [
        ("e2e", (24, 48), r"crop: rows must be a multiple of 16 \(twice the stride, 2 x 8, .*, got 24; take 32$"),
        ("e2e", (48, 20), r"crop: columns must be a multiple of 8 \(the network's stride; .*, got 20; take 16$"),
        ("msunet", (20, 48), r"crop: rows must be a multiple of 8 .*, got 20; take 16$"),
        ("diffusion", (0, 48), r"crop: rows must be a multiple of 8 .*, got 0; take 8$"),
    ],
)
def test_a_crop_that_the_network_cannot_take_is_refused(method, crop, message):
    with pytest.raises(SettingsError, match=message):
        cut_size(method, crop, (64, 128, 256))


def test_the_loss_is_the_mean_over_unknown_values():
    rng = np.random.default_rng(0)
    prediction, target = (torch.from_numpy(rng.normal(size=(3, 2, H, W))) for _ in range(2))
    unknown = torch.from_numpy(rng.random((3, 1, H, 1)) < 0.6).expand(3, 1, H, W).double()
    total, count = 0.0, 0
    for b in range(3):
        for row in range(H):
            if unknown[b, 0, row, 0]:
                for channel in range(2):
                    for column in range(W):
                        total += abs(float(prediction[b, channel, row, column] - target[b, channel, row, column]))
                        count += 1
    found = float(RowLoss()(prediction, torch.cat([target, unknown], dim=1)))
    assert found == pytest.approx(total / count, rel=1e-12), (found, total / count)


def test_what_known_rows_predict_has_no_gradient():
    prediction = torch.randn(1, 1, 4, 3, requires_grad=True)
    label = torch.cat([torch.randn(1, 1, 4, 3), torch.zeros(1, 1, 4, 3)], dim=1)
    label[:, 1, 2] = 1
    RowLoss()(prediction, label).backward()
    assert bool((prediction.grad[0, 0, [0, 1, 3]] == 0).all()) and bool((prediction.grad[0, 0, 2] != 0).all())


@pytest.mark.parametrize("rows", [(0, 3), (5, 4), (1, 2, 3)])
def test_a_bad_range_of_rows_is_refused(rows):
    with pytest.raises(SettingsError, match="rows: must be the lowest and the highest"):
        MaskRowsd("image", rows=rows)


def test_a_slice_that_would_be_known_whole_is_refused():
    with pytest.raises(SettingsError, match="rows: must leave a row of 12 unknown, got up to 12"):
        shown(MaskRowsd("image", rows=(3, 12)))


@pytest.mark.parametrize("method, channels", [("diffusion", 3), ("msunet", 3), ("e2e", 4)])
def test_weights_tell_how_to_build_their_network(tmp_path, method, channels):
    from bida.io.weights import save_weights

    torch.manual_seed(0)
    own = {"prediction": "eps", "timesteps": 500} if method == "diffusion" else {}
    prior = MaskedPrior(method, 2, (16, 32), 1, **own, mask_channel=method != "e2e")
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_weights(prior, tmp_path / "model.pt")
    found = MaskedPrior.load(tmp_path / "model.pt")
    assert (found.method, found.prediction) == (method, "eps" if method == "diffusion" else "x0")
    assert len(found.alpha_bar) == own.get("timesteps", 1000) and found.weights_sha256
    x = torch.randn(2, channels, 16, 16)
    expected = prior.half().float()(x, torch.tensor([3]))
    torch.testing.assert_close(found(x, torch.tensor([3])), expected)


@pytest.mark.parametrize(
    "options", [{"method": "gan"}, {"prediction": "noise"}, {"method": "e2e", "mask_channel": True}]
)
def test_a_network_that_cannot_be_is_refused(options):
    with pytest.raises(SettingsError, match="must be"):
        MaskedPrior(**options)


def test_settings_are_those_of_the_method():
    assert method_settings("diffusion", rows=None, timesteps=20) == {**SETTINGS["diffusion"], "timesteps": 20}
    assert method_settings("msunet", rows=[2, 3], prediction=None) == {"rows": [2, 3]}
    assert method_settings("e2e", rows=None) == {}
    task = row_task("diffusion")
    assert (task.rows, task.prediction, len(task.alpha_bar)) == ((5, 20), "v", 1000)
    with pytest.raises(SettingsError, match="method: must be one of diffusion, msunet, e2e, guided, got 'gan'"):
        row_task("gan")


@pytest.mark.parametrize(
    "method, name, value",
    [
        ("msunet", "prediction", "v"),
        ("msunet", "timesteps", 1000),
        ("e2e", "rows", (5, 20)),
        ("e2e", "prediction", "x0"),
        ("e2e", "timesteps", 500),
    ],
)
def test_a_setting_that_the_method_has_no_use_for_is_refused(method, name, value):
    message = f"^{name}: must be null with method {method}, which has no use for it, got .*; leave it out$"
    for make in (method_settings, row_task, *([] if name == "rows" else [MaskedPrior])):
        with pytest.raises(SettingsError, match=message):
            make(method, **{name: value})


def test_triplets_have_no_mask_to_show():
    with pytest.raises(SettingsError, match="mask_channel: must be false with method e2e"):
        row_task("e2e", mask_channel=True)


def test_weights_of_another_kind_are_refused(tmp_path):
    from bida.errors import WeightsError

    torch.save({"kind": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="those of 'bida train-masked'"):
        MaskedPrior.load(tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="weights must exist"):
        MaskedPrior.load(tmp_path / "none.pt")


@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
@pytest.mark.parametrize("highest", [0.0, 1.0])
def test_evenly_spaced_rows_are_interpolated_and_what_they_lack_is_noised(prediction, highest):
    """Against loops over rows: known rows lack nothing; interpolation, noise and target give the slice again."""
    task = GuideRowsd("image", factors=(3.0, 3.0), prediction=prediction, highest=highest)
    height = 20 + 2 * MARGIN
    image = torch.from_numpy(np.random.default_rng(1).normal(size=(1, height, W)).astype(np.float32))
    for seed in range(8):
        task.set_random_state(seed=seed)
        found = task({"image": image, "index": 11})
        noised, guide, below, above = found["image"]
        x, weight = image[0, MARGIN:-MARGIN], found["label"][1, :, 0]
        known = [row for row in range(20) if weight[row] == 0]
        if not np.array_equal(np.diff(known), np.full(len(known) - 1, 3)):
            continue  # of the draws in quarters: every fourth row or so is none of the slice's
        ab = float(cosine_alpha_bar()[found["timesteps"]])
        a, s = math.sqrt(ab), math.sqrt(1 - ab)
        for row in range(20):
            down, up = (row - known[0]) % 3, (known[0] - row) % 3
            assert (below[row] * REACH).tolist() == [down] * W and (above[row] * REACH).tolist() == [up] * W
            first, last = image[0, MARGIN + row - down], image[0, MARGIN + row + up]
            expected = first if down == up == 0 else (first * up + last * down) / (down + up)
            torch.testing.assert_close(guide[row], expected, atol=1e-5, rtol=1e-5)
            if row in known:
                assert not noised[row].any()
                continue
            lacking, target = (x[row] - guide[row]) / UNIT, found["label"][0, row]
            noise = torch.zeros(W) if highest else (noised[row] - a * lacking) / s
            if highest:
                assert found["timesteps"] == 999
                torch.testing.assert_close(noised[row], a * lacking, atol=1e-4, rtol=1e-4)
            expected = {"eps": noise, "v": a * noise - s * lacking, "x0": lacking}[prediction]
            torch.testing.assert_close(target, expected, atol=3e-4, rtol=1e-4)
        assert len({float(w) for w in weight}) == 2 and 0 < float(weight.max()) <= LEAST**-0.5


def test_distances_of_rows_are_drawn_in_their_range_and_every_start_is_met():
    task = GuideRowsd("image", factors=(2.0, 5.0))
    task.set_random_state(seed=0)
    drawn = [task.positions(40) for _ in range(600)]
    steps = [positions[1] - positions[0] for positions in drawn]
    whole = [step for step in steps if step == round(step)]
    assert min(steps) >= 2 and max(steps) <= 5 and {2.0, 3.0, 4.0, 5.0} <= set(whole)
    assert 0.7 < len(whole) / len(steps) < 0.95  # three of four, and a quarter of the others
    assert {float(p[0]) for p in drawn if p[1] - p[0] == 5} == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert all(positions[-1] <= 39 and 39 - positions[-1] < positions[1] - positions[0] for positions in drawn)
    with pytest.raises(SettingsError, match=r"rise from 1.5 to 8, got \[1, 9\]"):
        GuideRowsd("image", factors=(1, 9))


def test_what_a_guided_network_has_no_use_for_is_refused():
    with pytest.raises(SettingsError, match="is shown distances from the known rows"):
        row_task("guided", mask_channel=True)
    with pytest.raises(SettingsError, match="rows: must be null with method guided"):
        row_task("guided", rows=(5, 9))
    with pytest.raises(SettingsError, match=r"one width, of one channel, with method guided, got \[8, 16\]"):
        MaskedPrior("guided", 1, (8, 16))
    assert cut_size("guided", [48, 32], [64]) == [48 + 2 * MARGIN, 32]


def test_squared_errors_count_by_their_weight():
    prediction, label = torch.tensor([[[[3.0], [5.0]]]]), torch.tensor([[[[1.0], [9.0]], [[1.0], [3.0]]]])
    assert float(RowLoss(squared=True)(prediction, label)) == (4 + 3 * 16) / 4
    assert float(RowLoss()(prediction, label)) == (2 + 3 * 4) / 4
