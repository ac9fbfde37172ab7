"""Fixtures: the real scans where they are present, and synthetic scans on any grid."""

from __future__ import annotations

import importlib.util
import json
import locale
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from bida.mri.inferer import BiplanarInferer
from bida.mri.settings import SamplerOptions
from bida.mri.synthetic_brain import synthetic_brain

ROOT = Path(__file__).resolve().parents[1]
MakeScan = Callable[..., Path]


def load_benchmark(name: str, folder: str = "benchmarks") -> ModuleType:
    """Return a module of a folder that is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    del sys.modules[name]
    return module


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """What is started in the background ignores Ctrl-C, and by nohup hanging up; tests of both need them."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """What a library does to the locale must not change how the next test reads what a process says."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real scans, beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def grid_affine(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    codes: str = "RAS",
    tilt_deg: float = 0.0,
    shear: float = 0.0,
) -> tuple[tuple[int, int, int], NDArray]:
    """Return shape and affine, in the orientation `codes`, of a grid that has `shape` and `spacing_mm` in RAS order."""
    angle = np.deg2rad(tilt_deg)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    skew = np.eye(3)
    skew[0, 1], skew[2, 1] = shear, -shear / 2
    affine = np.eye(4)
    affine[:3, :3] = turn @ skew @ np.diag(spacing_mm)
    affine[:3, 3] = (-3.1, 2.3, 0.7)
    ras = nib.orientations.axcodes2ornt("RAS")
    change = nib.orientations.ornt_transform(ras, nib.orientations.axcodes2ornt(codes))
    out_shape = [0, 0, 0]
    for axis in range(3):
        out_shape[int(change[axis, 0])] = shape[axis]
    return (out_shape[0], out_shape[1], out_shape[2]), affine @ nib.orientations.inv_ornt_aff(change, shape)


def world(shape: Sequence[int], affine: NDArray) -> NDArray:
    """Return the position, mm, of every voxel: [3, X, Y, Z]."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    return np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)


def inferer_of(
    micro_batch: int = 8, progress: Callable[[int, int], None] | None = None, **options: Any
) -> BiplanarInferer:
    """Return an inferer of single options: one draw, which checks itself only where it is told to."""
    given = {"samples": 1, "self_check": False, **options}
    return BiplanarInferer(SamplerOptions(**given), micro_batch=micro_batch, progress=progress)


def smooth_phantom(shape: Sequence[int], affine: NDArray) -> NDArray:
    """Return a smooth function of position: low frequencies, so that a spline follows it closely."""
    x, y, z = world(shape, affine)
    return 100 + 30 * np.sin(0.9 * x + 0.4 * y) + 20 * np.cos(0.5 * y - 0.8 * z) + 5 * x - 3 * y + 4 * z


@pytest.fixture
def make_scan(tmp_path: Path) -> MakeScan:
    """Return a function that writes a thick-slice NIfTI scan and returns its path.

    Its arguments: `shape` and `spacing_mm` in RAS order; `codes`, `tilt_deg`, `shear` of the grid; `values`, a function
    of (shape, affine) or an array in the file's orientation; `dtype`; `units`; `qform_code`, `sform_code`; `name`.
    """

    def write(
        shape: Sequence[int] = (20, 8, 18),
        spacing_mm: Sequence[float] = (0.15, 0.75, 0.15),
        *,
        codes: str = "RAS",
        tilt_deg: float = 0.0,
        shear: float = 0.0,
        values: Any = smooth_phantom,
        dtype: Any = np.float32,
        units: str = "mm",
        qform_code: int = 1,
        sform_code: int = 1,
        name: str = "scan.nii.gz",
    ) -> Path:
        out_shape, affine = grid_affine(shape, spacing_mm, codes, tilt_deg, shear)
        data = values(out_shape, affine) if callable(values) else np.asarray(values)
        image = nib.Nifti1Image(data.astype(dtype), affine)
        image.set_sform(affine, sform_code)
        image.set_qform(affine, 0 if shear else qform_code, strip_shears=True)
        image.header.set_xyzt_units(units)
        path = tmp_path / name
        nib.save(image, path)
        return path

    return write


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A BIDS data set of two animals that validate and one that trains, at 0.3 mm."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["participant_id\tgenotype\tsplit"]
    for number, (genotype, split) in enumerate([("WT", "val"), ("TG", "val"), ("WT", "train")], 1):
        subject = f"sub-{number:02d}"
        volume, affine = synthetic_brain(0.3, (40, 64, 32), number)
        brain = volume > 0.2 * volume.max()
        for path, values in (
            (f"{subject}/anat/{subject}_T2w.nii.gz", volume),
            (f"derivatives/masks/{subject}/anat/{subject}_desc-brain_mask.nii.gz", brain),
            (
                f"derivatives/labels/{subject}/anat/{subject}_dseg.nii.gz",
                brain * (1 + (volume > np.median(volume[brain]))),
            ),
        ):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values.astype(np.float32), affine), folder / path)
        lines.append(f"{subject}\t{genotype}\t{split}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the experiment draw no figures, which would take most of their time; one run in test_runner.py does."""
    for name in ("collect.montage", "sections.box_plots", "sections.bland_altman"):
        monkeypatch.setattr(f"bida.experiment.report.{name}", lambda *given: b"PNG")


@pytest.fixture
def few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the directions that a distance of patches takes, for tests of what is done with it."""
    monkeypatch.setattr("bida.eval.slices.wasserstein.DIRECTIONS", 64)


@pytest.fixture
def opensrh(tmp_path: Path) -> Path:
    """OpenSRH's folder of two patients, with patches of 16 x 18 pixels; the second one's slide lists no normal ones."""
    rng, root = np.random.default_rng(0), tmp_path / "opensrh"
    described = {}
    for patient, kinds in (("A", ("tumor", "normal", "nondiagnostic")), ("B", ("tumor",))):
        slide: dict[str, Any] = {"slide_id": "1"}
        for kind in kinds:
            names = [f"studies/{patient}/1/{kind}{i}.tif" for i in range(2)]
            for path in (root / name for name in names):
                path.parent.mkdir(parents=True, exist_ok=True)
                raman = rng.integers(2000, 40000, (2, 16, 18)).astype(np.uint16)
                tifffile.imwrite(path, raman, photometric="minisblack")
            slide[f"{kind}_patches"] = names
        described[patient] = {"patient_id": patient, "class": "hgg", "slides": {"1": slide}}
    (root / "meta").mkdir()
    (root / "meta" / "opensrh.json").write_text(json.dumps(described))
    (root / "meta" / "train_val_split.json").write_text(json.dumps({"train": ["A"], "val": ["B"]}))
    return root


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which no file may grow beyond a thousand bytes, as on a disk that fills up."""

    @contextmanager
    def full() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
