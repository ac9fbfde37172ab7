"""The parts of a run as the MONAI bundle puts them together: the same steps, as dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose, DeleteItemsd, Invertd

from bida.diffusion.prior import PlanePrior
from bida.errors import ScanError
from bida.io import find as inputs
from bida.mri.inferer import FOUND
from bida.mri.measurement import ScanMeta
from bida.mri.record import describe
from bida.mri.run import way_of
from bida.mri.same import fingerprint, record_of
from bida.mri.settings import Settings, check_alone
from bida.options import yes_or_no
from bida.provenance import Clock
from bida.transforms.dictionary import Applyd, composed
from bida.transforms.like import OrientLike
from bida.transforms.save import SaveVolumed, TellResultd


def scan_transform(settings: Settings, multiple: int = 8, keys: str = "image") -> Compose:
    """Return the transform from a path to the network's input, see `bida.mri.run.way_of`.

    Its inverse takes a volume on that grid back to the scan's orientation and intensities.
    """
    check_alone(settings)
    return composed(way_of(settings, multiple), keys)


def hand_on(data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Give the scan's meta what the inferer found, which `Invertd` hands to the result.

    MONAI's evaluator infers on the scan itself, MONAI Label on a copy.
    """
    result = dict(data)
    found = getattr(result.get("pred"), "meta", {})
    if "image" in result:
        result["image"].meta.update({key: found[key] for key in FOUND if key in found})
    return result


def undoing(keys: str, transform: Compose, like: str | Path | None) -> Compose:
    """Return the transform of volumes on the network's grid back to the scan, or to the ``like`` file's orientation."""
    steps: list[Any] = [hand_on, Invertd(keys, transform, orig_keys="image", nearest_interp=False)]
    if like is not None:
        steps.append(Applyd(keys, OrientLike(like)))
    return Compose(steps)


def postprocessing(
    transform: Compose, settings: Settings, prior: PlanePrior, output_dir: str, overwrite: bool = False
) -> Compose:
    """Return the transform from the network's output ``pred`` to ``<name>_superres.nii.gz`` and its sidecar.

    The scan is dropped at the end: MONAI Label would put the result back on its grid.
    """
    clock = Clock()

    def record(meta: Mapping[str, Any]) -> dict[str, Any]:
        clock.seconds.clear()
        clock.lap("total")
        return describe(ScanMeta.of(meta), settings, prior, clock)

    def kept(meta: Mapping[str, Any]) -> dict[str, Any]:
        made_of = fingerprint([ScanMeta.of(meta).source], settings)
        return {**made_of, **record(meta), "settings": made_of["settings"]}

    save = SaveVolumed("pred", output_dir, kept, overwrite=overwrite)
    return Compose(
        [undoing("pred", transform, settings.like), save, TellResultd("pred", record), DeleteItemsd("image")]
    )


def find_scans(
    source: str | Path | Sequence[str | Path] | None,
    output_dir: str | Path,
    overwrite: bool = False,
    combine: str | Sequence[str] | None = None,
) -> list[dict[str, str]]:
    """List the scans that a bundle run shall restore: a file, a folder of images or of a scanner, or a list.

    There are none where scans are to be combined (`combined`).

    Raises:
        ScanError: Nothing is named, a path does not exist, two results would have one name, or what is there in the
            place of a single scan's result is none.
    """
    if combine:
        return []
    overwrite = yes_or_no(overwrite, "overwrite")
    named = [source] if isinstance(source, str | Path) else source or []
    scans = inputs.find_scans([one for one in named if one])
    for result in inputs.name_results(scans, output_dir):
        if len(scans) == 1 and result.exists() and record_of(result) is None and not overwrite:
            raise ScanError(f"{result}: output must not exist, it does; choose another folder or give --overwrite True")
    return [{"image": str(scan)} for scan in scans]
