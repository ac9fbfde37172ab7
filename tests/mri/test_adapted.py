"""Whether an adaptation goes on, and whether it is kept: both as the self-check says."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bida.diffusion.prior import CLASSES, PlanePrior
from bida.diffusion.resnet import SliceResNet
from bida.errors import SettingsError
from bida.mri.adapt import Adaptation
from bida.mri.adapted import adapted
from bida.mri.measurement import Measurement
from bida.mri.selfcheck import SelfCheck
from bida.mri.settings import AUTO_MINUTES, Settings
from bida.physics.geometry import SliceGeometry
from bida.provenance import Clock

GEOMETRY = SliceGeometry(1, 10, 0.6, 0.6, 40, 0.15)


def scan(slices: int = 10, rows: int = 24) -> Measurement:
    y = np.random.default_rng(0).uniform(-1, 1, (rows, slices, 32)).astype(np.float32)
    return Measurement(torch.from_numpy(y), SliceGeometry(1, slices, 0.6, 0.6, 4 * slices, 0.15))


def checked(gain_db: float, weight: float = 1.0, familiarity: float = 0.5) -> SelfCheck:
    return SelfCheck(gain_db, weight * gain_db, weight, "coronal", 4, familiarity, 1.0)


@dataclass
class Staged:
    """A self-check that says what it is told to, one after the other, and a training that adds 1 to every weight."""

    checks: list[SelfCheck | None]
    trained: list[float] = field(default_factory=list)

    def check(self, scan: object, prior: object) -> SelfCheck | None:
        return self.checks.pop(0)

    def train(self, prior: PlanePrior, slices: object, minutes: float, *rest: object) -> dict:
        self.trained.append(minutes)
        with torch.no_grad():
            for weights in prior.parameters():
                weights.add_(1.0)
        return {"minutes": minutes, "steps": 7, "scans": 1}


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> type:
    def of(*checks: SelfCheck | None) -> Staged:
        stage = Staged([*checks])
        monkeypatch.setattr("bida.mri.adapted.BiplanarSampler", lambda settings: stage)
        monkeypatch.setattr("bida.mri.adapt.adapt_prior", stage.train)
        return stage

    return of  # type: ignore[return-value]


def prior() -> PlanePrior:
    torch.manual_seed(0)
    return PlanePrior(SliceResNet(32, 1, CLASSES, 32, in_channels=9), guided=True)


def weights(network: PlanePrior) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in network.parameters()])


def test_without_an_adaptation_there_is_one_check_alone(staged) -> None:
    stage, network = staged(checked(0.4)), prior()
    found = adapted(network, scan(), [scan()], Settings(), Clock())
    assert (found.check, found.record, found.notes, stage.trained) == (checked(0.4), None, (), [])


@pytest.mark.parametrize("adapt, minutes", [("auto", AUTO_MINUTES), (2, 2.0)])
@pytest.mark.parametrize("after, kept", [(0.7, True), (0.4, False), (0.3, False)])
def test_what_gains_on_slices_kept_back_is_kept_and_nothing_else(staged, adapt, minutes, after, kept) -> None:
    stage, network = staged(checked(0.4), checked(after)), prior()
    first = weights(network)
    found = adapted(network, scan(), [scan()], Settings(adapt=adapt), Clock())
    assert stage.trained == [minutes] and not stage.checks
    assert torch.equal(weights(network), first + 1 if kept else first)
    assert found.check == checked(after if kept else 0.4)
    assert found.record is not None and found.record["kept"] is kept
    assert found.record["gain_db"] == pytest.approx(after - 0.4) and found.record["steps"] == 7
    assert len(found.notes) == (not kept)


@pytest.mark.parametrize(
    "check, thick, reason",
    [
        (None, scan(), "too small or too empty for a self-check"),
        (checked(0.3, 0.0, 0.0), scan(), "hardly more than noise"),
        (checked(1.6, 1.0, 1.0), scan(), "the priors know such scans"),
        (checked(0.4), scan(slices=4), "no slices beside those that the self-check keeps"),
        (checked(0.4), scan(rows=1), "smaller than 2 voxels"),
    ],
)
def test_auto_spends_no_time_where_it_will_not_pay(staged, check, thick, reason) -> None:
    stage, network = staged(check), prior()
    first = weights(network)
    found = adapted(network, thick, [thick], Settings(adapt="auto"), Clock())
    assert stage.trained == [] and torch.equal(weights(network), first)
    assert found.check == check and found.record == {"minutes": 0.0, "steps": 0, "kept": False}
    assert len(found.notes) == 1 and reason in found.notes[0]


def test_minutes_that_are_given_are_spent_on_any_scan_and_without_a_check(staged) -> None:
    stage, network = staged(None, None), prior()
    found = adapted(network, scan(), [scan()], Settings(adapt=0.5, self_check=False), Clock())
    assert stage.trained == [0.5] and found.notes == ()
    assert found.record is not None and (found.record["kept"], found.record["gain_db"]) == (True, None)


def test_what_is_taught_is_what_the_run_asks_for() -> None:
    mean, draws, grain = (
        Adaptation.of(1.0, Settings(samples=samples, grain=grain))
        for samples, grain in ((0, False), (4, False), (1, True))
    )
    assert (mean.highest, mean.grain) == (1.0, 0.0)
    assert (draws.highest, draws.grain) == (0.0, 0.0)
    assert (grain.highest, grain.grain) == (0.0, 1.0)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"adapt": "auto", "self_check": False}, "adapt: auto is left to the self-check, got it off"),
        ({"adapt": 1, "guided": False, "samples": 1}, "adapt: trains the network that is shown the scan"),
        ({"adapt": "soon"}, "adapt: must be auto or a number of minutes, got 'soon'"),
        ({"adapt": 0}, "adapt: minutes must be a number above 0, got 0"),
    ],
)
def test_what_cannot_be_asked_for(given: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(**given)
    assert (Settings().adapt_minutes, Settings(adapt=2).adapt_minutes) == (0.0, 2.0)
    assert Settings(adapt="auto").adapt_minutes == AUTO_MINUTES
