"""Training batches made where the network is: crops, turns, contrast, thick slices, noise and diffusion in one go.

What `bida.transforms.augment` does to one slice after the other is done here to a batch at once, on a CPU or a GPU.
Thick slices have the whole noise of acquired ones, which averaging sharp slices takes out, and the network is told how
much; what it shall find is the slice without noise. Some crops have a second scan, with slices across those of the
first, and a guide that is made of both; some have lesions, which no animal in the bank has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from bida.diffusion.prediction import diffuse, prediction_target
from bida.diffusion.prior import GUIDE_RANGE, SPREAD, X0_RANGE, condition_class, relative_alpha_bar
from bida.diffusion.schedule import alpha_bar_of
from bida.errors import SettingsError
from bida.physics.crossed import crossed_correction
from bida.physics.grid import PLANES
from bida.physics.guide import NOISE_UNIT
from bida.physics.joint import LEAST_NOISE
from bida.training.bank import SliceBank
from bida.training.geometries import Geometries
from bida.training.label_maps import LabelBank
from bida.training.painting import Painting, paint
from bida.transforms.augment.thicken import AIR

SAGITTAL = PLANES.index("sagittal")
SMALLEST_CROP = 16  # rows and columns


@dataclass(frozen=True)
class Variation:
    """How training slices are varied; the shares are of slices, all else is drawn evenly within its range.

    Attributes:
        moved: share that is turned, shifted and scaled.
        rotate: largest turn, degrees.
        scale: range of the scale, even in its logarithm; above 1 the anatomy grows.
        contrast: share whose gain and gamma are changed.
        gamma: range of the exponent, even in its logarithm.
        gain: range of the factor.
        noise: range of the standard deviation of a thick slice's noise, even in its logarithm, on the scale of [-1, 1].
        noisy: share of thick slices that get noise.
        rician: share of those whose noise is a magnitude's (Gudbjartsson & Patz 1995), the others' is Gaussian.
        masked: share of those whose exact background stays without noise, as in brain-extracted scans.
        told: standard deviation of the logarithm of the noise that the network is told, over the true one.
        grain: share whose target is the slice as scanned, from slices without added noise.
        noiseless: share of the others whose thick slices are made of the denoised slice.
        highest: share of slices that are diffused to the mean of the noise at the highest time, as for the mean in one
            step; the others' times are spread evenly.
        unguided: share of slices without a guide, so that the prior can also be sampled without.
        second: share of those that are not grained that have a second scan, its slices across those of the first.
        alike: share of second scans whose slices lie as those of the first.
        other_noise: standard deviation of the logarithm of a second scan's noise over that of the first.
        lesions: share of crops with one to three lesions, bright or dark discs.
        painted: share of crops that are painted on label maps, where there are any (`bida.training.painting`).
        inverted: share of the others whose tissue has the reverse contrast.
        radius: range of their radius, pixels, even in its logarithm.
        lesion: range of their contrast, over the brightness of the tissue there.
        emphasis: times are T u^(1 / emphasis), u spread evenly: above 1 for more of the high ones.
    """

    moved: float = 0.3
    rotate: float = 10.0
    scale: tuple[float, float] = (0.6, 1.6)
    contrast: float = 0.5
    gamma: tuple[float, float] = (0.8, 1.25)
    gain: tuple[float, float] = (0.85, 1.15)
    noise: tuple[float, float] = (0.01, 0.3)
    noisy: float = 0.6
    rician: float = 0.6
    masked: float = 0.5
    told: float = 0.1
    grain: float = 0.1
    noiseless: float = 0.4
    highest: float = 0.5
    unguided: float = 0.0
    second: float = 0.3
    alike: float = 0.5
    other_noise: float = 0.2
    lesions: float = 0.3
    painted: float = 0.3
    inverted: float = 0.0
    radius: tuple[float, float] = (0.8, 5.0)
    lesion: tuple[float, float] = (0.1, 0.6)
    emphasis: float = 1.0


class ThickBatches:
    """Batches without end for training a guided prior, made on the device of the bank; batch i depends on the seed.

    Args:
        bank: The sharp slices.
        batch_size: Crops of a batch.
        crop: Rows and columns of a crop, the same.
        factors: Range of slice spacing over voxel size.
        variation: See `Variation`; a mapping of its fields, or None for its defaults.
        prediction, timesteps, schedule: Of the prior.
        seed: Of all chance.
        geometries: Number of ways in which slices lie that are drawn from.
        length: Number of batches of a pass; without end when None.
        rank, world: This process and the number of processes; each makes batches of its own.
        labels: Label maps that heads are painted on; None for none.
        painting: How, a `Painting` or a mapping of its fields.

    Attributes:
        start: The first batch; a resumed run sets it.

    Raises:
        SettingsError: The crop is no square of even size, or too small, or a batch has none.
    """

    def __init__(
        self,
        bank: SliceBank,
        batch_size: int = 16,
        crop: Sequence[int] = (64, 64),
        factors: Sequence[float] = (1.5, 10.0),
        variation: Variation | dict[str, Any] | None = None,
        prediction: str = "v",
        timesteps: int = 1000,
        schedule: str = "cosine",
        seed: int = 0,
        geometries: int = 1024,
        length: int | None = None,
        rank: int = 0,
        world: int = 1,
        labels: LabelBank | None = None,
        painting: Painting | dict[str, Any] | None = None,
    ) -> None:
        """Keep the parameters and build the geometries."""
        if len(crop) != 2 or crop[0] != crop[1] or crop[0] < SMALLEST_CROP or crop[0] % 2:
            raise SettingsError(
                f"crop: must be rows and columns, alike, even and at least {SMALLEST_CROP}, "
                f"got {list(crop)}; give [64, 64]"
            )
        if batch_size < 1:
            raise SettingsError(f"batch_size: must be at least 1, got {batch_size}; raise it")
        self.bank, self.batch_size, self.size = bank, batch_size, int(crop[0])
        self.vary = variation if isinstance(variation, Variation) else Variation(**(variation or {}))
        self.prediction, self.alpha_bar, self.seed = prediction, alpha_bar_of(schedule, timesteps), seed
        self.geometries = Geometries(self.size, geometries, factors, seed, bank.device)
        self.length, self.rank, self.world, self.start = length, rank, world, 0
        self.labels = labels
        self.painting = painting if isinstance(painting, Painting) else Painting(**(painting or {}))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches from `start`, or those of one pass."""
        index = self.start
        while self.length is None or index < self.length:
            yield self.batch(index * self.world + self.rank)
            index += 1

    def batch(self, index: int) -> dict[str, Tensor]:
        """Return batch ``index``: image [B, 9, H, W], label [B, 1, H, W], timesteps and planes, the classes, [B]."""
        chance = _Chance(np.random.SeedSequence([self.seed, index]), self.bank.device)
        pair, planes = self.crops(chance)
        grain = chance.share(self.batch_size, self.vary.grain)
        bare = chance.share(self.batch_size, self.vary.noiseless) & ~grain
        place = chance.whole(self.batch_size, len(self.geometries))
        guide, y = self.shown(pair, bare, grain, place, chance)
        clean = torch.where(_like(grain, pair), pair[:, :1], pair[:, 1:])
        # a grained target keeps what its slices, which have no noise of their own, measured
        A, pinv = self.geometries.operator[place], self.geometries.pinv[place]
        again = clean + (pinv @ (y - A @ clean[:, 0]))[:, None]
        clean = torch.where(_like(grain, pair), again, clean)
        guide = guide.clamp(*GUIDE_RANGE)
        (t, first), device = self.times(chance), self.bank.device
        without = torch.rand(self.batch_size, generator=chance.host) < self.vary.unguided
        signal = torch.where(without, self.alpha_bar[t], relative_alpha_bar(self.alpha_bar[t])).to(device)
        alone = _like(without.to(device), clean)
        guide = torch.where(alone, torch.zeros_like(guide), guide)
        # without a guide the slice itself is diffused, else what the guide lacks
        lacking = torch.where(alone, clean, (clean - guide[:, :1]) / SPREAD)
        noise = chance.normal(clean.shape) * _like(~first.to(device), clean)
        image = torch.cat([diffuse(lacking, noise, signal), guide], dim=1)
        label = prediction_target(lacking, noise, signal, self.prediction)
        classes = torch.tensor([[condition_class(0, shown, kind) for kind in (False, True)] for shown in (True, False)])
        classes = planes + classes[without.long(), grain.cpu().long()]
        return {"image": image, "label": label, "timesteps": t.to(device), "planes": classes.to(device)}

    def times(self, chance: _Chance) -> tuple[Tensor, Tensor]:
        """Return diffusion times [B], spread evenly but for a share of the highest one, and which are of that share.

        Those start from the mean of the noise, zero, as the mean in one step does.
        """
        T, count = len(self.alpha_bar), self.batch_size
        even = (torch.arange(count) + float(torch.rand((), generator=chance.host))) / count
        even = (
            (even ** (1 / self.vary.emphasis) * T).long().clamp(max=T - 1)[torch.randperm(count, generator=chance.host)]
        )
        first = torch.rand(count, generator=chance.host) < self.vary.highest
        return torch.where(first, T - 1, even), first

    def crops(self, chance: _Chance) -> tuple[Tensor, Tensor]:
        """Return pairs [B, 2, H, W] on the device, the thick axis first, varied, and their planes [B]."""
        bank, vary, n = self.bank, self.vary, self.size
        painted = 0
        if self.labels is not None:
            painted = int((torch.rand(self.batch_size, generator=chance.host) < vary.painted).sum())
        count = self.batch_size - painted
        index, planes = bank.draw(count, chance.host)
        moved = torch.rand(count, generator=chance.host) < vary.moved
        room = bank.sizes[index] - n
        corners = (torch.rand(count, 2, generator=chance.host) * (room.clamp(min=0) + 1)).long()
        corners = torch.where(room < 0, room // 2, corners)
        pair = bank.windows(index, corners, (n, n))
        if bool(moved.any()):
            pair[moved.nonzero()[:, 0].to(bank.device)] = self.turned(index[moved], corners[moved], chance)
        mirror = (torch.rand(count, generator=chance.host) < 0.5) & (planes != SAGITTAL)  # H is R
        pair = torch.where(_like(mirror.to(bank.device), pair), pair.flip(2), pair)
        turn = chance.share(count, 0.5)
        pair = self.reversed(torch.where(_like(turn, pair), pair.mT, pair), chance)
        if painted and self.labels is not None:
            heads, of = paint(self.labels, painted, n, self.painting, chance)
            pair, planes = torch.cat([pair, heads.expand(-1, 2, -1, -1)]), torch.cat([planes, of])
        return self.diseased(self.contrasted(pair, chance), chance), planes

    def reversed(self, pair: Tensor, chance: _Chance) -> Tensor:
        """Return pairs of which a share has the reverse contrast where there is tissue: bright becomes dark."""
        if not self.vary.inverted:
            return pair
        tissue = ((pair[:, 1:] - X0_RANGE[0]) / (4 * AIR)).clamp(0, 1)
        other = X0_RANGE[0] + tissue * (2.4 - (pair - X0_RANGE[0])).clamp(min=0.1)
        return torch.where(_like(chance.share(len(pair), self.vary.inverted), pair), other, pair)

    def turned(self, index: Tensor, corners: Tensor, chance: _Chance) -> Tensor:
        """Return windows [K, 2, H, W] turned and scaled about their middle, never beyond the range around it."""
        vary, n, count = self.vary, self.size, len(index)
        low, high = vary.scale
        step = 1 / (low * (high / low) ** torch.rand(count, generator=chance.host))
        angle = torch.deg2rad((2 * torch.rand(count, generator=chance.host) - 1) * vary.rotate)
        margin = (
            math.ceil(n / 2 * (math.sqrt(2) * math.cos(math.pi / 4 - math.radians(min(vary.rotate, 45))) / low - 1)) + 2
        )
        wide = self.bank.windows(index, corners - margin, (n + 2 * margin, n + 2 * margin))
        cos, sin = step * angle.cos(), step * angle.sin()
        theta = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1) * (n / (n + 2 * margin))
        theta = torch.cat([theta, torch.zeros(count, 2, 1)], dim=2).to(wide)
        grid = affine_grid(theta, [count, 2, n, n], align_corners=False)
        out = grid_sample(wide, grid, mode="bicubic", padding_mode="border", align_corners=False)
        # splines overshoot at edges: never beyond the own range, so that background stays exact
        return out.clamp(wide.amin(dim=(2, 3), keepdim=True), wide.amax(dim=(2, 3), keepdim=True))

    def contrasted(self, pair: Tensor, chance: _Chance) -> Tensor:
        """Return pairs of which a share has another gain and gamma above the background."""
        vary, count = self.vary, len(pair)
        low, high = vary.gamma
        gamma = _like(low * (high / low) ** chance.even(count), pair)
        gain = _like(vary.gain[0] + (vary.gain[1] - vary.gain[0]) * chance.even(count), pair)
        other = (2 * gain * ((pair + 1) / 2).clamp_min(0) ** gamma - 1).clamp(*X0_RANGE)
        return torch.where(_like(chance.share(count, vary.contrast), pair), other, pair)

    def diseased(self, pair: Tensor, chance: _Chance) -> Tensor:
        """Return pairs of which a share has lesions: discs in tissue, soft over a pixel, brighter or darker than it."""
        vary, n, most = self.vary, self.size, 3
        shape = (len(pair), most)
        sick = (chance.share(len(pair), vary.lesions))[:, None]
        sick = sick & (torch.arange(most, device=pair.device) <= chance.whole(len(pair), most)[:, None])
        low, high = vary.radius
        radius = low * (high / low) ** chance.evenly(shape)
        contrast = vary.lesion[0] + (vary.lesion[1] - vary.lesion[0]) * chance.evenly(shape)
        contrast = contrast * torch.where(chance.evenly(shape) < 0.5, -1.0, 1.0) * sick
        centre = chance.evenly((*shape, 2)) * n - 0.5
        line = torch.arange(n, device=pair.device)
        away = torch.hypot(line[:, None] - centre[..., 0, None, None], line - centre[..., 1, None, None])
        share = (radius[..., None, None] + 0.5 - away).clamp(0, 1)
        denoised = pair[:, 1:]
        tissue = denoised > X0_RANGE[0] + AIR
        change = (share * contrast[..., None, None]).sum(dim=1, keepdim=True) * (denoised - X0_RANGE[0]) * tissue
        return (pair + change).clamp(*X0_RANGE)

    def shown(self, pair: Tensor, bare: Tensor, grain: Tensor, place: Tensor, chance: _Chance) -> tuple[Tensor, Tensor]:
        """Return what the network is shown [B, 8, H, W], and the thick slices y [B, M, W] that it is made of."""
        vary, matrices, count = self.vary, self.geometries, len(pair)
        sharp = torch.where(bare[:, None, None], pair[:, 1], pair[:, 0])
        low, high = vary.noise
        sigma = low * (high / low) ** chance.even(count)
        sigma = sigma * (chance.share(count, vary.noisy) & ~grain)
        rician, masked = chance.share(count, vary.rician), chance.share(count, vary.masked)
        y = self.noised(matrices.operator[place] @ sharp, place, sigma, rician, masked, chance)
        # the slices' own noise: what denoising took from the tissue, as far as averaging leaves it
        tissue = pair[:, 1] > X0_RANGE[0] + AIR
        own = ((pair[:, 0] - pair[:, 1]).square() * tissue).sum((1, 2)) / tissue.sum((1, 2)).clamp(min=1)
        own = torch.where(bare, torch.zeros_like(own), own.sqrt() * matrices.kept[place])
        told = torch.hypot(own, sigma) * torch.exp(vary.told * chance.normal((count,)))
        g, measured = matrices.guide[place] @ y, matrices.pinv[place] @ y
        # the second scan, of the same noise but for a factor
        both = chance.share(count, vary.second) & ~grain
        across = torch.where(chance.share(count, vary.alike), place, chance.whole(count, len(matrices)))
        ratio = torch.exp(vary.other_noise * chance.normal((count,)))
        second = matrices.operator[across] @ sharp.mT
        second = self.noised(second, across, ratio * sigma, rician, masked, chance)
        levels = torch.stack([told, ratio * told])
        joint = joint_guide(matrices, (place, across), (y, second), levels)
        told = torch.where(both, levels.square().reciprocal().mean(dim=0).rsqrt(), told)
        told_of = torch.tensor([0.0, 1 / NOISE_UNIT, 0.0, 0.0], device=y.device)
        made = matrices.made[place] + told_of * told[:, None]
        made[:, 3] = torch.where(both, matrices.made[across][:, 0], 0.0)
        phase = torch.where(both[:, None], matrices.phase[across], 0.0)
        either = both[:, None, None]
        parts = [torch.where(either, joint, g), torch.where(either, joint, measured)]
        parts += [matrices.phase[place][:, :, None].expand_as(g)]
        parts += [made[:, k, None, None].expand_as(g) for k in range(made.shape[1])]
        parts += [phase[:, None, :].expand_as(g)]
        return torch.stack(parts, dim=1), y

    def noised(
        self, y: Tensor, place: Tensor, sigma: Tensor, rician: Tensor, masked: Tensor, chance: _Chance
    ) -> Tensor:
        """Return thick slices [B, M, W] with noise of a standard deviation, [B], of a magnitude or Gaussian."""
        s = sigma[:, None, None]
        real, imaginary = s * chance.normal(y.shape), s * chance.normal(y.shape)
        magnitude = torch.hypot(y - X0_RANGE[0] + real, imaginary) + X0_RANGE[0]
        noised = torch.where(rician[:, None, None], magnitude, y + real)
        noised = torch.where((y < X0_RANGE[0] + AIR) & masked[:, None, None], y, noised)
        rows = self.geometries.operator[place].any(dim=2)[:, :, None]  # those that are slices
        return torch.where(rows & (s > 0), noised, y)


def joint_guide(
    matrices: Geometries, places: tuple[Tensor, Tensor], slices: tuple[Tensor, Tensor], noise: Tensor
) -> Tensor:
    """Return the guide of two scans of crops, [B, N, N], see `bida.physics.joint`.

    Args:
        matrices: of the ways in which slices lie.
        places: which of them, [B] each.
        slices: thick along the crop's first axis, [B, M, N], and along its second, transposed, likewise.
        noise: standard deviation of each scan's noise, [2, B].
    """
    least = noise.amin(dim=0).clamp(min=LEAST_NOISE)
    weights = (least / noise.clamp(min=LEAST_NOISE)).square()
    guides = [matrices.guide[place] @ y for place, y in zip(places, slices)]
    shares = weights / weights.sum(dim=0)
    start = shares[0, :, None, None] * guides[0] + shares[1, :, None, None] * guides[1].mT
    rest = [y - matrices.operator[place] @ x for place, y, x in zip(places, slices, (start, start.mT))]
    back = [matrices.operator[place].mT @ r for place, r in zip(places, rest)]
    right = weights[0, :, None, None] * back[0] + weights[1, :, None, None] * back[1].mT
    vectors = [matrices.vectors[place] for place in places]
    values = weights[0, :, None, None] * matrices.values[places[0]][:, :, None]
    values = values + weights[1, :, None, None] * matrices.values[places[1]][:, None, :]
    return start + crossed_correction(right, vectors[0], vectors[1], values, least[:, None, None])


class _Chance:
    """The chance of one batch: of its numbers on the CPU, of its pixels on the device."""

    def __init__(self, seed: np.random.SeedSequence, device: torch.device) -> None:
        host, own = (int(word) for word in seed.generate_state(2, np.uint64) >> np.uint64(1))
        self.host, self.device = torch.Generator().manual_seed(host), device
        self.own = torch.Generator(device).manual_seed(own)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(*shape, generator=self.own, device=self.device)

    def even(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.own, device=self.device)

    def evenly(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(*shape, generator=self.own, device=self.device)

    def share(self, count: int, share: float) -> Tensor:
        return self.even(count) < share

    def whole(self, count: int, below: int) -> Tensor:
        return torch.randint(below, (count,), generator=self.own, device=self.device)


def _like(values: Tensor, images: Tensor) -> Tensor:
    """Return values [B] in a shape that broadcasts over images [B, C, H, W]."""
    return values.reshape(-1, *[1] * (images.ndim - 1))
