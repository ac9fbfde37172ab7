"""The diffusion prior of the three planes: what the network predicts, turned into the clean slice and the noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bida.diffusion.prediction import PREDICTIONS, error_share, estimates
from bida.diffusion.schedule import SCHEDULES, alpha_bar_of
from bida.diffusion.scriptable import ScriptablePrior
from bida.physics.grid import PLANES
from bida.physics.guide import SHOWN

# The 1st and 99th percentile of a volume go to -1 and 1. Training slices, and the network's clean estimates, are
# clipped half a range above: in a brain on black 6-7% of the brain lies above the volume's 99th percentile,
# and would be flattened.
X0_RANGE = (-1.0, 2.0)
# Where a head ends in black, interpolation undershoots, and by how much tells where within a slice it ends: a guide is
# clipped further out.
GUIDE_RANGE = (-2.0, 3.0)
CLASSES = 4 * len(PLANES)  # of a guided prior
MEASURED = ("uncertainty_scale", "uncertainty_floor", "spread_scale", "spread_floor", "spread_noise")
# What a guide lacks, clean slice less guide, has about this standard deviation in tissue on that scale.
SPREAD = 0.2


def condition_class(plane: int, guided: bool, grain: bool) -> int:
    """Return the class of a guided prior, one of `CLASSES`: the plane, a guide or none, clean tissue or grain."""
    return plane + len(PLANES) * (int(guided) + 2 * int(not grain))


def is_guided(classes: Tensor, planes: int = len(PLANES)) -> Tensor:
    """Return which of the classes [B] of `condition_class` have a guide."""
    return classes // planes % 2 == 1


def relative_alpha_bar(alpha_bar: Tensor) -> Tensor:
    """Return alpha-bar of what a guide lacks, in units of its standard deviation.

    With r = (x0 - g) / SPREAD for a guide g, the state is x_t = sqrt(ab) g + gain z, gain^2 = ab SPREAD^2 + 1 - ab,
    and z = sqrt(ab') r + sqrt(1 - ab') noise: an ordinary diffusion of r, at ab' = ab SPREAD^2 / gain^2. Its v is the
    preconditioned output of Karras et al. 2022 (Table 1), with g where theirs has zero.
    """
    signal = alpha_bar * SPREAD**2
    return signal / (signal + 1 - alpha_bar)


def with_guide(x: Tensor, guide: Tensor | None) -> Tensor:
    """Return slices [B, 1, H, W] with what is shown beside them, clipped, as [B, 9, H, W]; zero where there is nothing.

    A guide [B, 8, H, W] is what `bida.physics.guide.shown` returns.
    """
    beside = torch.zeros_like(x).repeat(1, SHOWN, 1, 1) if guide is None else guide.clamp(*GUIDE_RANGE)
    return torch.cat([x, beside], dim=1)


MOST_TIMES = 100_000  # of a schedule that weights may name


def kind_of(kind: Tensor) -> tuple[str, int, str]:
    """Return (prediction, timesteps, schedule) as weights hold them; the oldest know the cosine schedule alone.

    Raises:
        ValueError: It names none that there are.
    """
    prediction, timesteps, schedule = [*kind.tolist(), 0][:3]
    if not (0 <= prediction < len(PREDICTIONS) and 0 <= schedule < len(SCHEDULES) and 1 <= timesteps <= MOST_TIMES):
        raise ValueError(f"kind must be known, is {kind.tolist()}")
    return PREDICTIONS[prediction], timesteps, list(SCHEDULES)[schedule]


class Estimate(NamedTuple):
    """What a prior says of noised slices.

    Attributes:
        x0: Clean slices [B, 1, H, W], float32, not clipped.
        e: The noise in the noised ones, likewise.
        spread: Standard deviation of the error of x0, likewise; None where the network tells none.
    """

    x0: Tensor
    e: Tensor
    spread: Tensor | None = None


class PlanePrior(nn.Module):
    """A 2D diffusion prior for axial, coronal and sagittal slices.

    A guided prior has more input channels, the guide (`bida.physics.guide.shown`), and is told by its class whether it
    is there and whether to draw the grain of a scan or clean tissue: one network serves sampling with and without.

    Args:
        network: One network conditioned on the class by ``class_labels`` (``SliceUNet``, or MONAI's
            ``DiffusionModelUNet``), or a mapping from plane to network. The class is the plane, ``num_class_embeds=3``;
            with ``guided`` one of `CLASSES`, ``num_class_embeds=12`` and ``in_channels=2``.
        prediction: What the network predicts: ``v``, ``eps`` or ``x0``.
        timesteps: Length T of the schedule.
        dtype: Arithmetic of the network, ``float32`` or ``bfloat16``; inputs and outputs are float32.
        guided: The network takes a guide.
        schedule: ``cosine`` or ``linear`` (`bida.diffusion.schedule`).

    Attributes:
        int8: The mean in one step is computed in 8-bit integers (`bida.diffusion.int8`), as far as it can be; for
            those who make it to heed.

    Raises:
        ValueError: ``prediction`` or ``dtype`` is unknown, or a plane has no network.
        SettingsError: ``schedule`` is unknown.
    """

    def __init__(
        self,
        network: nn.Module | Mapping[str, nn.Module],
        prediction: str = "v",
        timesteps: int = 1000,
        dtype: str = "float32",
        guided: bool = False,
        schedule: str = "cosine",
    ) -> None:
        """Hold the planes' networks as submodules."""
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        self.shared = isinstance(network, nn.Module)
        networks = {"shared": network} if isinstance(network, nn.Module) else dict(network)
        if not self.shared and set(networks) != set(PLANES):
            raise ValueError(
                f"a network for each of {', '.join(PLANES)} is needed, got {', '.join(networks) or 'none'}"
            )
        self.networks = nn.ModuleDict(networks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        self.prediction, self.x0_range, self.guided = prediction, X0_RANGE, guided
        # in the state dict, so that weights of another prediction or schedule are refused and not misread
        alpha_bar = alpha_bar_of(schedule, timesteps)
        kind = (PREDICTIONS.index(prediction), timesteps, list(SCHEDULES).index(schedule))
        self.register_buffer("kind", torch.tensor(kind, dtype=torch.int32))
        # see `uncertainty`; 1 and 0 where nobody measured them
        for name in MEASURED:
            self.register_buffer(name, torch.ones(()) if name.endswith("scale") else torch.zeros(()))
        self.uncertainty_scale: Tensor
        self.uncertainty_floor: Tensor
        self.spread_scale: Tensor
        self.spread_floor: Tensor
        self.spread_noise: Tensor
        self.weights_sha256 = ""  # of the file that the weights were loaded from
        self.int8 = False
        self.kind: Tensor
        self.alpha_bar: Tensor = alpha_bar
        # MONAI's U-Net does not say its stride; 8 serves its default four levels
        self.stride = max(getattr(net, "stride", 8) for net in self.networks.values())
        self.set_dtype(dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Refuse weights that were trained for another prediction or schedule, as a mismatch that torch reports."""
        for name in MEASURED:
            state_dict.setdefault(f"{prefix}{name}", torch.ones(()) if name.endswith("scale") else torch.zeros(()))
        name = f"{prefix}kind"
        if name in state_dict:
            found, expected = kind_of(state_dict[name]), kind_of(self.kind)
            if found != expected:
                errors = args[-1]  # torch's list of messages
                errors.append(
                    "the weights predict {} over {} {} steps, this prior {} over {} {}".format(*found, *expected)
                )
            state_dict[name] = self.kind
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_dtype(self, dtype: str) -> PlanePrior:
        """Choose the network's arithmetic, ``float32`` or ``bfloat16``, and return self."""
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
        self.compute_dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        return self

    def arithmetic(self, mean: bool) -> str:
        """Return the name of the arithmetic of the mean in one step, or of draws."""
        return "int8" if mean and self.int8 else str(self.compute_dtype).removeprefix("torch.")

    def uncertainty(
        self, std: NDArray[np.float64], unit: float, drawn: bool = True, noise: float = 0.0
    ) -> NDArray[np.float64]:
        """Return the standard deviation of a result's error, sqrt((a std)^2 + (b unit)^2 + (c noise)^2).

        The draws agree where all of them err alike, the spread that the network tells is that of one plane's estimate,
        and neither has the noise with which a scanner would measure the voxel, or what of the slices' noise a result
        keeps. So a, b and c are measured on animals, for each of both, and stored with the weights:
        ``uncertainty_scale`` and ``uncertainty_floor`` of draws (c is 0), ``spread_scale``, ``spread_floor`` and
        ``spread_noise`` of the mean in one step.

        Args:
            std: standard deviation over the draws, or that which the network tells, any shape, in the scan's
                intensities.
            unit: 1 on the prior's scale of [-1, 1], in the intensities of the scan after bias correction.
            drawn: whether it is that of draws.
            noise: standard deviation of a slice's noise, in those intensities.
        """
        if drawn:
            return np.hypot(float(self.uncertainty_scale) * std, float(self.uncertainty_floor) * unit)
        least = np.hypot(float(self.spread_floor) * unit, float(self.spread_noise) * noise)
        return np.hypot(float(self.spread_scale) * std, least)

    def set_uncertainty(self, scale: float = 1.0, floor: float = 0.0, drawn: bool = True, noise: float = 0.0) -> None:
        """Set the numbers of `uncertainty`, a, b and c; by default to those of weights that nobody measured."""
        name = "uncertainty" if drawn else "spread"
        getattr(self, f"{name}_scale").fill_(scale)
        getattr(self, f"{name}_floor").fill_(floor)
        if not drawn:
            self.spread_noise.fill_(noise)

    @property
    def default_class(self) -> int:
        """The class of slices of which nothing is said: axial, of a guided prior with a guide and without grain."""
        return condition_class(0, self.guided, not self.guided)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what TorchScript takes in its place; PyTorch asks for it where a module is scripted."""
        return ScriptablePrior(self)

    def guided_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of what is shown a guide: of a `NetworkPair` the one network."""
        return [p for network in self.networks.values() for p in getattr(network, "guided", network).parameters()]

    def forward(self, x: Tensor, timesteps: Tensor | None = None, planes: Tensor | None = None) -> Tensor:
        """Return the raw prediction, float32.

        Args:
            x: Noised slices [B, 1, H, W], float32; [B, 9, H, W] with their guides where the prior is guided: z of
                `relative_alpha_bar` and the guide, or the slice and zeros.
            timesteps: Integer times [B], or [1] where the whole batch shares one. None: the last one, that of the mean
                in one step.
            planes: Classes, [B] or [1]: indices into ``bida.physics.grid.PLANES``, or `condition_class` of them. None:
                `default_class`.

        Returns:
            Tensor [B, 1, H, W]; [B, 2, H, W] where the network tells its spread (`bida.diffusion.resnet.SliceResNet`).
        """
        if timesteps is None:
            timesteps = torch.full((1,), len(self.alpha_bar) - 1, device=x.device)
        network = self.networks["shared"] if self.shared else None
        if planes is None:
            planes = torch.full((1,), self.default_class, device=x.device)
            # of a pair the one that it is: what exports a network cannot follow a choice by values
            network = getattr(network, "guided" if self.guided else "bare", network)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.compute_dtype == torch.bfloat16):
            if network is not None:
                return network(x, timesteps=timesteps, class_labels=planes).float()
            out = torch.empty_like(x[:, :1])
            for index in planes.unique().tolist():
                mine = (planes == index).expand(x.shape[0])
                labels = {"class_labels": planes.expand(x.shape[0])[mine]} if self.guided else {}
                times = timesteps.expand(x.shape[0])[mine]
                out[mine] = self.networks[PLANES[index % len(PLANES)]](x[mine], timesteps=times, **labels)[
                    :, :1
                ].float()
            return out

    def predict(
        self,
        x: Tensor,
        t: int,
        plane: str,
        guide: Tensor | None = None,
        grain: bool = True,
        along: int = 0,
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (x0, e) of `estimate`."""
        found = self.estimate(x, t, plane, guide, grain, along, network)
        return found.x0, found.e

    @torch.inference_mode()
    def estimate(
        self,
        x: Tensor,
        t: int,
        plane: str,
        guide: Tensor | None = None,
        grain: bool = True,
        along: int = 0,
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> Estimate:
        """Estimate the clean slices and the noise in slices of one plane at one time.

        Args:
            x: Noised slices [B, 1, H, W], float32.
            t: Time, 0 <= t < T.
            plane: A name in ``bida.physics.grid.PLANES``.
            guide: Their guides [B, 8, H, W], see `with_guide`; a guided prior samples without one as well.
            grain: Whether slices have the grain of scans; of guided priors alone.
            along: The axis of the thick slices that a guide is of, 0 for H or 1 for W: the network sees it as H.
            network: What predicts in the place of `forward` where there is a guide, of what `seen` returns.
        """
        times, classes = self.condition(t, plane, guide is not None, grain, x.device)
        if not self.guided or guide is None:
            out = self(with_guide(x, None) if self.guided else x, times, classes)[:, :1]
            return Estimate(*estimates(x, out, float(self.alpha_bar[t]), self.prediction))
        if along == 1:
            x0, e, spread = self.estimate(x.mT, t, plane, guide.mT, grain, network=network)
            return Estimate(x0.mT, e.mT, None if spread is None else spread.mT)
        seen = self.seen(x, t, guide)
        z, g = seen[:, :1], seen[:, 1:2]
        relative = float(relative_alpha_bar(self.alpha_bar[t]))
        out = self(seen, times, classes) if network is None else network(seen)
        r, e = estimates(z, out[:, :1], relative, self.prediction)
        if out.shape[1] == 1:
            return Estimate(g + SPREAD * r, e)
        return Estimate(g + SPREAD * r, e, SPREAD * error_share(relative, self.prediction) * out[:, 1:].exp())

    def condition(
        self, t: int, plane: str, shown: bool, grain: bool = True, device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return time and class, [1] each, of slices of a plane; shown is whether they have guides."""
        label = PLANES.index(plane)
        if self.guided:
            label = condition_class(label, shown, grain)
        # a pair chooses by it, which would wait for a GPU that had to say it
        pair = self.shared and hasattr(self.networks["shared"], "bare")
        return torch.full((1,), t, device=device), torch.full((1,), label, device="cpu" if pair else device)

    def seen(self, x: Tensor, t: int, guide: Tensor, along: int = 0) -> Tensor:
        """Return what the network sees of slices with guides, [B, 9, H, W], or with H and W changed; see `estimate`."""
        if along == 1:
            return self.seen(x.mT, t, guide.mT)
        ab, g = float(self.alpha_bar[t]), guide[:, :1].clamp(*GUIDE_RANGE)
        return with_guide((x - ab**0.5 * g) / (ab * SPREAD**2 + 1 - ab) ** 0.5, guide)

    @property
    def tells_spread(self) -> bool:
        """Whether an estimate with a guide comes with its error's standard deviation."""
        return all(getattr(getattr(net, "guided", net), "spread", None) is not None for net in self.networks.values())


class SlicePrior(Protocol):
    """What is asked of a network: `PlanePrior`.

    Attributes:
        alpha_bar: [T] float64.
        stride: H and W are multiples of it.
        prediction: "v", "eps" or "x0".
        x0_range: range that the clean slices of its training were clipped to.
        guided: whether ``predict`` takes a guide and whether to draw grain.
    """

    alpha_bar: Tensor
    stride: int
    prediction: str
    x0_range: tuple[float, float]
    guided: bool

    def predict(
        self, x: Tensor, t: int, plane: str, guide: Tensor | None = None, grain: bool = True, along: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return (x0, e) of slices x [B, 1, H, W] of a plane at time t, x0 not clipped."""
