"""Restoring stacks: acquired planes come back exactly, seeds and batches do what they say, E2E doubles."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bida.diffusion.noise import INITIAL, volume_noise
from bida.errors import SettingsError
from bida.microscopy.grid import StackGrid
from bida.microscopy.inferer import MaskedSliceInferer, acquired, stack_noise
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.volumes import BLUR_SIGMA, blurred, doubled

C, M, Y, X = 2, 4, 9, 11


def prior(method="diffusion", **options):
    torch.manual_seed(3)
    network = MaskedPrior(method, C, (8, 16), 1, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def guided(**options):
    torch.manual_seed(3)
    network = MaskedPrior("guided", 1, (16,), 2, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def planes(seed=0, m=M):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, C, m, Y, X)).astype(np.float32))


def restore(network, inputs, factor=3.0, **options):
    settings = {"steps": 3, "tile": 16, "overlap": 4, "micro_batch": 4, **options}
    return MaskedSliceInferer(factor, **settings)(inputs, network)


NETWORKS = {
    "v": prior(),
    "eps": prior(prediction="eps"),
    "mask": prior(mask_channel=True),
    "msunet": prior("msunet", mask_channel=True),
    "guided": guided(),
}


@pytest.mark.parametrize(
    "network, fusion",
    [
        pytest.param(network, fusion, id=f"{name}-{fusion}")
        for name, network in NETWORKS.items()
        for fusion in ("final", "step", "alternate", "single-xz", "single-yz")
        if (name, fusion) != ("msunet", "alternate")  # refused: one pass has one turn
    ],
)
def test_acquired_planes_come_back_exactly(network, fusion):
    y = planes()
    found = restore(network, y, fusion=fusion, eta=0.5)
    assert found.shape == (1, C, 10, Y, X)
    assert torch.equal(found[:, :, ::3], y)
    assert float((found - found.mean()).abs().max()) > 0.1


@pytest.mark.parametrize("fusion", ["final", "single-xz", "single-yz"])
def test_acquired_planes_come_back_exactly_from_e2e(fusion):
    y = planes()
    found = restore(prior("e2e"), y, 4.0, fusion=fusion)
    assert found.shape == (1, C, 13, Y, X) and torch.equal(found[:, :, ::4], y)


@pytest.mark.parametrize(
    "method, fusion",
    [
        *(("diffusion", fusion) for fusion in ("final", "step", "alternate", "single-yz")),
        *(("msunet", fusion) for fusion in ("final", "step", "single-yz")),
    ],
)
@pytest.mark.parametrize("m, factor", [(5, 2.5), (4, 2.5), (5, 4 / 3)])
def test_planes_between_voxels_are_their_interpolation(method, m, factor, fusion):
    y, grid = planes(m=m), StackGrid(m, factor)
    found = restore(prior(method), y, factor, fusion=fusion)
    assert found.shape[2] == grid.voxels
    assert torch.equal(found[:, :, torch.from_numpy(grid.rows)], y[:, :, torch.from_numpy(grid.on_grid)])
    inside = grid.positions <= grid.voxels - 1
    met = np.einsum("ij,cjyx->ciyx", grid.matrix()[inside, : grid.voxels], found[0].double().numpy())
    np.testing.assert_allclose(met, y[0, :, inside].numpy(), atol=2e-6)


@pytest.mark.parametrize("factor, finer", [(3, 3), (3, 4), (2.5, 2.5), (2.5, 4)])
def test_a_textured_draw_builds_on_the_mean(factor, finer):
    y, network, told = planes(m=5), NETWORKS["guided"], []
    how = {"steps": 3, "as_factor": finer, "progress": lambda done, total: told.append((done, total))}
    found, grid = restore(network, y, factor, fusion="textured", **how), StackGrid(5, factor)
    assert told == [(i + 1, len(told)) for i in range(len(told))]
    assert len(told) == 2 * C * (3 + (1 if finer == factor else 2))
    torch.testing.assert_close(
        found[:, :, torch.from_numpy(grid.rows)], y[:, :, torch.from_numpy(grid.on_grid)], atol=2e-6, rtol=0
    )
    inside = grid.positions <= grid.voxels - 1
    met = np.einsum("ij,cjyx->ciyx", grid.matrix()[inside, : grid.voxels], found[0].double().numpy())
    np.testing.assert_allclose(met, y[0, :, inside].numpy(), atol=5e-6)
    mean = restore(network, y, factor, steps=1, as_factor=finer)
    missing = np.setdiff1d(np.arange(grid.voxels), grid.rows)
    assert float((found - mean)[:, :, missing].std()) > 0.05
    if len(grid.on_grid) == 5:  # what planes between voxels ask for goes beyond
        assert found.max() <= y.max() and found.min() >= y.min()
    again = [restore(network, y, factor, fusion="textured", steps=3, as_factor=finer, batch_size=n) for n in (1, 7)]
    assert torch.equal(again[0], again[1]) and torch.equal(again[0], found)
    assert not torch.equal(restore(network, y, factor, fusion="textured", steps=3, as_factor=finer, seed=1), found)


@pytest.mark.parametrize("network, steps", [("guided", 1), ("guided", None), ("v", 3), ("msunet", None)])
def test_texture_is_that_of_draws_by_guided_weights(network, steps):
    with pytest.raises(SettingsError, match="fusion: must be textured for guided weights in several steps alone"):
        restore(NETWORKS[network], planes(), fusion="textured", steps=steps)


def test_the_network_is_shown_the_planes_at_every_call():
    network, seen = prior(), []
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    y = planes()
    restore(network, y, fusion="single-xz", tile=64, overlap=8, micro_batch=Y)
    assert len(seen) == 3
    for x in seen:  # [Y, C, 12, 12]: z, padded from 10, and X, padded from 11
        assert torch.equal(x[:, :, 0:10:3, :X], y[0].permute(2, 0, 1, 3))


def test_one_seed_one_result():
    network, y = prior(), planes()
    first = restore(network, y, seed=5)
    assert torch.equal(first, restore(network, y, seed=5))
    assert not torch.equal(first, restore(network, y, seed=6))


@pytest.mark.parametrize("fusion", ["final", "step", "alternate"])
def test_batches_change_nothing(fusion):
    network, y = prior(), planes()
    found = [restore(network, y, batch_size=size, fusion=fusion) for size in (1, 7, 64)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_final_averages_volumes_of_independent_noise():
    network, y = prior(), planes()
    parts = [restore(network, y, fusion=f"single-{plane}") for plane in ("xz", "yz")]
    torch.testing.assert_close(restore(network, y), (parts[0] + parts[1]) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fusion, streams", [("final", [1, 2]), ("step", [3]), ("alternate", [3]), ("single-yz", [2])])
def test_every_volume_has_noise_of_its_own(monkeypatch, fusion, streams):
    from bida.microscopy import inferer

    drawn = []

    def keyed(shape, plane, seed, draw, stream, step, device, first):
        drawn.append((stream, step))
        return stack_noise(shape, plane, seed, draw, stream, step, device, first)

    monkeypatch.setattr(inferer, "stack_noise", keyed)
    restore(prior(), planes(), fusion=fusion, eta=0.5)
    # x_T and the steps but the last, which adds none
    assert drawn == [(stream, step) for stream in streams for step in (INITIAL, 0, 1)]


def test_noise_of_a_stack_has_a_stream_a_channel():
    noise = stack_noise((2, 4, 5, 6), "coronal", 1, 0, 2, INITIAL)
    assert noise.shape == (2, 4, 5, 6) and not torch.equal(noise[0], noise[1])
    expected = volume_noise((6, 5, 4), "coronal", 1, 0, 2, INITIAL)  # [X, Y, Z]
    assert torch.equal(noise[0], expected.permute(2, 1, 0))


def test_doubling_against_a_loop():
    def middle(pairs):
        return 0.25 * pairs[:, :C] + 0.75 * pairs[:, C:] ** 2

    rows = torch.randn(3, C, 5, 4)
    found = doubled(doubled(rows, middle), middle)
    for n in range(3):
        for c in range(C):
            known = [rows[n, c, i] for i in range(5)]
            for _ in range(2):
                longer = [known[0]]
                for before, after in pairwise(known):
                    longer += [0.25 * before + 0.75 * after**2, after]
                known = longer
            torch.testing.assert_close(found[n, c], torch.stack(known))


def mirror(side):
    """Indices up to the next multiple of the stride 4, mirrored beyond the end."""
    there_and_back = [*range(side), *range(side - 2, 0, -1)] if side > 1 else [0]
    return (there_and_back * 4)[: -(-side // 4) * 4]


def test_e2e_recursion_against_its_network_row_by_row():
    """8x unrolled by hand, with the network called on the pairs of every level."""
    network, y = prior("e2e"), planes(m=3)
    found = restore(network, y, 8.0, fusion="single-xz", tile=64, overlap=0)
    for place in range(Y):
        x = y[0, :, :, place]  # [C, m, X]
        for _ in range(3):
            pairs = torch.cat([x[:, :-1], x[:, 1:]])[None]
            rows, columns = (mirror(side) for side in pairs.shape[2:])
            with torch.no_grad():
                between = network(pairs[:, :, rows][..., columns], torch.tensor([0]))[0, :, : pairs.shape[2], :X]
            unrolled = []
            for i in range(x.shape[1] - 1):
                unrolled += [x[:, i], between[:, i]]
            x = torch.stack([*unrolled, x[:, -1]], dim=1)
        torch.testing.assert_close(found[0, :, :, place], x, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "method, fusion, factor, passes",
    [
        ("diffusion", "final", 3.0, 6),
        ("diffusion", "step", 3.0, 3),
        ("diffusion", "alternate", 3.0, 3),
        ("msunet", "final", 3.0, 2),
        ("e2e", "final", 8.0, 6),
        ("e2e", "single-yz", 4.0, 2),
        ("e2e", "final", 1.0, 0),
    ],
)
def test_every_pass_over_a_volume_is_reported(method, fusion, factor, passes):
    reported = []
    restore(prior(method), planes(), factor, fusion=fusion, progress=lambda *done: reported.append(done))
    assert reported == [(done, passes) for done in range(1, passes + 1)]


def test_blur_against_scipy():
    from scipy.ndimage import gaussian_filter

    volume = torch.randn(2, 5, 6, 7)
    expected = [gaussian_filter(part, BLUR_SIGMA, mode="nearest", radius=1) for part in volume.double().numpy()]
    np.testing.assert_allclose(blurred(volume).numpy(), expected, atol=1e-6)
    network, y = prior(), planes()
    torch.testing.assert_close(restore(network, y, blur=True)[0], blurred(restore(network, y)[0]))


def test_a_known_plane_is_not_noised_by_the_condition():
    grid = StackGrid(3, 2.0)
    y = torch.randn(1, 3, 2, 2)
    known = acquired(y, grid)
    assert known.between is None
    x = torch.randn(1, 5, 2, 2)
    written = known.write(x)
    assert torch.equal(written[:, ::2], y) and torch.equal(written[:, 1::2], x[:, 1::2])


@pytest.mark.parametrize(
    "network, options, message",
    [
        (prior("e2e"), {"factor": 3.0}, "factor: must be a power of 2 with e2e weights, got 3"),
        (prior("e2e"), {"factor": 2.5}, "factor: must be a power of 2"),
        (prior("e2e"), {"factor": 2.0, "fusion": "step"}, "fusion: must be final, single-xz or single-yz"),
        (prior("msunet"), {"fusion": "alternate"}, "fusion: must not be alternate with msunet weights"),
        (prior("e2e"), {"factor": 2.0, "fusion": "alternate"}, "fusion: must be final, single-xz or single-yz"),
        (prior(), {"factor": 0.5}, "factor: must be a number >= 1"),
        (prior(), {"fusion": "mean"}, "fusion: must be one of final, textured, step"),
        (prior(), {"steps": 0}, "steps: must be at least 1"),
        (prior(), {"tile": 18}, "tile: must be a multiple of the network's stride 4"),
        (MaskedPrior(image_channels=1), {}, r"inputs: must be \[1, 1, Z, Y, X\]"),
    ],
)
def test_what_does_not_fit_is_refused(network, options, message):
    with pytest.raises(SettingsError, match=message):
        restore(network, planes(), **options)


@pytest.mark.parametrize("factor", [3.0, 2.5])
def test_a_guided_network_that_knows_nothing_gives_linear_interpolation(factor):
    network = guided()
    for parameter in network.network.out.parameters():
        torch.nn.init.zeros_(parameter)
    y = planes(m=5)
    found = restore(network, y, factor, steps=None)
    z = np.arange(found.shape[2]) / factor
    column = [np.interp(z, np.arange(5), y[0, 1, :, 4, 7].numpy())]
    if factor == 3:
        np.testing.assert_allclose(found[0, 1, :, 4, 7].numpy(), column[0], atol=1e-5)
    grid = StackGrid(5, factor)
    assert torch.equal(found[:, :, grid.rows], y[:, :, grid.on_grid])
    # planes between voxels are what interpolation of the result gives, too
    back = torch.einsum("ij,cjyx->ciyx", torch.from_numpy(grid.matrix()).float(), found[0])
    torch.testing.assert_close(back, y[0], atol=1e-4, rtol=1e-4)


def test_a_guided_network_serves_each_channel_by_itself():
    y = planes()
    both, alone = restore(guided(), y, steps=None), restore(guided(), y[:, 1:], steps=None)
    torch.testing.assert_close(both[:, 1:], alone)


def test_the_mean_of_a_guided_network_has_no_noise_and_its_draws_have():
    y = planes()
    assert torch.equal(restore(guided(), y, steps=None), restore(guided(), y, steps=1, seed=5))
    draws = [restore(guided(), y, steps=4, seed=seed) for seed in (0, 5)]
    assert not torch.equal(*draws)
    assert not torch.equal(draws[0][:, 0], restore(guided(), y.flip(1), steps=4)[:, 1])  # noise of its own each


@pytest.mark.parametrize("factor, finer", [(2.0, 3), (2.5, 4), (3.0, 6)])
def test_a_finer_restoration_is_brought_to_the_factor(factor, finer):
    given = planes()
    whole = restore(NETWORKS["guided"], given, float(finer), steps=1)[0]
    found = restore(NETWORKS["guided"], given, factor, steps=1, as_factor=finer)[0]
    grid = StackGrid(M, factor)
    assert found.shape == (C, grid.voxels, Y, X)
    places = np.arange(grid.voxels) * finer / factor
    expected = np.apply_along_axis(lambda column: np.interp(places, np.arange(len(column)), column), 1, whole.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert torch.equal(found[:, grid.rows], given[0][:, grid.on_grid])
    assert torch.equal(restore(NETWORKS["guided"], given, factor, steps=1, as_factor=factor)[0],
                       restore(NETWORKS["guided"], given, factor, steps=1)[0])  # fmt: skip


@pytest.mark.parametrize("network, steps", [("v", 3), ("guided", 3), ("msunet", 1)])
def test_only_the_mean_is_restored_finer(network, steps):
    with pytest.raises(SettingsError, match="as_factor: must be left out but for guided weights in one step, got 4"):
        restore(NETWORKS[network], planes(), steps=steps, as_factor=4)


def test_a_coarser_restoration_is_refused():
    with pytest.raises(SettingsError, match=r"as_factor: must be at least the factor of 3, got 2\.5"):
        MaskedSliceInferer(3, as_factor=2.5)
