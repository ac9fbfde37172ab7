"""The transforms: geometry, exact inverses, and the way back through MONAI's Invertd."""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import MakeScan, smooth_phantom, world
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd, Orientationd
from scipy import ndimage

from bida.errors import ScanError, SettingsError
from bida.io.nifti import write_volume
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, grids_to_json, resampled_affine, spacing_of
from bida.physics.interpolation import interpolation_matrix, resample
from bida.physics.operators import SliceOperator
from bida.physics.plan import PlanOptions, plan_scan
from bida.physics.simulate import simulate_slices
from bida.transforms.backproject import BackProject
from bida.transforms.base import VolumeStep, replaced
from bida.transforms.bias import ENOUGH, CorrectBias, estimate_log_bias, shrink_factors
from bida.transforms.dictionary import Applyd, Stepd, tensor_of
from bida.transforms.dictionary import image_of as plain_image
from bida.transforms.inplane import ResampleInPlane
from bida.transforms.intensity import NormalizePercentiles
from bida.transforms.load import LoadScan
from bida.transforms.match import MatchScan
from bida.transforms.pad import PadToNetwork
from bida.transforms.plan import PlanScan

CODES = [
    "".join(code)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*order)
]  # fmt: skip
OBLIQUE = [("LPI", 17.0, 0.0), ("SAL", -8.0, 0.0), ("IRP", 12.0, 0.1), ("RAS", 0.0, 0.15)]


def preprocessing(n4: bool = False, restore: bool = True, minimum: int = 24, **plan: Any) -> Compose:
    steps: list[Any] = [
        Applyd("image", LoadScan()),
        Orientationd("image", axcodes="RAS", labels=None),
        Applyd("image", PlanScan(PlanOptions(**plan))),
        Stepd("image", MatchScan()),
    ]
    if n4:
        steps.append(Stepd("image", CorrectBias(restore=restore)))
    steps += [
        Stepd("image", ResampleInPlane()),
        Stepd("image", NormalizePercentiles()),
        Stepd("image", BackProject()),
        Stepd("image", PadToNetwork(minimum=minimum)),
    ]
    return Compose(steps)


def invert(steps: Compose, item: dict[str, Any], volume: torch.Tensor) -> MetaTensor:
    """Put a network's output back on the scan as the bundle's post-processing does."""
    back = Invertd("pred", transform=steps, orig_keys="image", nearest_interp=False)
    return back({**item, "pred": MetaTensor(volume)})["pred"]  # of a plain tensor it would only warn


def ramps(shape: Any, affine: np.ndarray) -> np.ndarray:
    """Return a function whose value tells the position: slices average it to its value at their centre."""
    x, y, z = world(shape, affine)
    return x + 2 * y - 1.5 * z


@pytest.mark.parametrize(
    ("codes", "tilt_deg", "shear", "options"),
    [(code, 0.0, 0.0, {}) for code in CODES] + [(*case, o) for case in OBLIQUE for o in ({}, {"spacing": 0.2})],
)
def test_every_point_of_the_head_stays_where_it_was(
    codes: str, tilt_deg: float, shear: float, options: dict[str, float], make_scan: MakeScan, tmp_path: Path
) -> None:
    path = make_scan((14, 13, 13), (0.15, 0.5, 0.15), codes=codes, tilt_deg=tilt_deg, shear=shear, values=ramps)
    # a profile with sharp edges moves a slice's centre of mass on voxels by hundredths of a voxel, a Gaussian by none
    steps = preprocessing(minimum=16, profile="gaussian", **options)
    item = steps({"image": str(path)})
    image = item["image"]
    # the volume that position itself makes on the padded grid, in the network's intensities
    span = (image.meta["intensity_high"] - image.meta["intensity_low"]) / 2
    low = image.meta["intensity_low"]
    truth = (ramps(image.shape[1:], image.affine.numpy()) - low) / span - 1
    # its slices are the scan: the grids of both have to lie right to each other. Slices at the ends are truncated.
    geometry = SliceGeometry.from_json(image.meta["slice_geometry"])
    operator = SliceOperator.build(geometry)
    slices = operator.forward(torch.from_numpy(truth)[None], dim=geometry.axis + 1)
    scan = operator.forward(image, dim=geometry.axis + 1)
    apart = (slices - scan).abs() * span  # in mm of the ramp
    margins = json.loads(image.meta["padding"])
    inner = [slice(None)] + [slice(b + 3, size - a - 3) for (b, a), size in zip(margins, image.shape[1:])]
    inner[geometry.axis + 1] = slice(4, -4)
    assert float(apart[tuple(inner)].max()) < 0.01 * 0.15
    # and the way back: every voxel of the output holds the position that the output's affine gives it
    out = invert(steps, item, torch.from_numpy(truth)[None].float())
    assert nib.aff2axcodes(out.affine.numpy()) == nib.aff2axcodes(nib.load(path).affine)
    edge = round(4 * geometry.factor)  # MatchScan pulls at the truncated slices at the ends
    through = int(np.argmax(nib.load(path).header.get_zooms()))
    keep = [slice(None)] * 3
    keep[through] = slice(edge, out.shape[1 + through] - edge)
    write_volume(tmp_path / "out.nii.gz", out[0].numpy(), out.affine.numpy())
    written = nib.load(tmp_path / "out.nii.gz")
    expected = ramps(written.shape, written.affine)
    np.testing.assert_allclose(written.get_fdata()[tuple(keep)], expected[tuple(keep)], rtol=0, atol=0.01 * 0.15)


def shares_the_field_of_view(out: Any, scan: nib.Nifti1Image) -> None:
    for shape, affine in ((out.shape[1:], out.affine.numpy()), (scan.shape, scan.affine)):
        assert len(shape) == 3
        centre = affine @ np.append((np.array(shape) - 1) / 2, 1)
        expected = scan.affine @ np.append((np.array(scan.shape) - 1) / 2, 1)
        np.testing.assert_allclose(centre, expected, rtol=0, atol=1e-3 * 0.15)


@pytest.mark.parametrize("n4", [False, True])
def test_back_projection_comes_back_through_loader_and_invertd(make_scan: MakeScan, n4: bool) -> None:
    path = make_scan((22, 9, 19), (0.15, 0.75, 0.15), codes="LPI", tilt_deg=9)
    steps = preprocessing(n4=n4)
    direct = steps({"image": str(path)})
    expected = invert(steps, direct, direct["image"].clone())
    loader = DataLoader(
        Dataset([{"image": str(path)}], steps), batch_size=1, num_workers=0, collate_fn=list_data_collate
    )
    batch = next(iter(loader))
    batch["pred"] = batch["image"].as_tensor().clone()  # what an inferer gives back
    (item,) = decollate_batch(batch)
    out = invert(steps, item, item["pred"])
    torch.testing.assert_close(out.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    np.testing.assert_array_equal(out.affine.numpy(), expected.affine.numpy())
    # the slices of the result are the scan, in the scan's own orientation and intensities
    scan = nib.load(path)
    shares_the_field_of_view(out, scan)
    assert out.shape[1:] == (22, 45, 19)
    geometry = SliceGeometry.from_json(out.meta["slice_geometry"])
    assert (geometry.pad_before, geometry.pad_after, geometry.axis) == (0, 0, 1)
    slices = SliceOperator.build(geometry).forward(out.as_tensor().flip(2), dim=2).flip(2)  # P to A and back
    np.testing.assert_allclose(slices[0].numpy(), scan.get_fdata(), rtol=0, atol=1e-5 * np.ptp(scan.get_fdata()))
    assert 0 <= float(out.meta["scan_residual"]) < 1e-5


def test_invertd_through_the_evaluator(make_scan: MakeScan) -> None:
    from monai.engines import SupervisedEvaluator
    from monai.inferers import SimpleInferer

    path = make_scan(codes="PIR")
    steps = preprocessing()
    loader = DataLoader(Dataset([{"image": str(path)}], steps), batch_size=1, collate_fn=list_data_collate)
    back = Invertd("pred", transform=steps, orig_keys="image", nearest_interp=False)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=torch.nn.Identity(),
        inferer=SimpleInferer(),
        prepare_batch=lambda batch, device, non_blocking, **_: (batch["image"].to(device), None),
        postprocessing=Compose([back]),
    )
    evaluator.run()
    (output,) = evaluator.state.output
    item = steps({"image": str(path)})
    expected = invert(steps, item, item["image"].clone())
    torch.testing.assert_close(output["pred"].as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    np.testing.assert_array_equal(output["pred"].affine.numpy(), expected.affine.numpy())


@pytest.mark.parametrize(("voxels", "factor"), [(127, 5), (127, 2.5), (61, 4.7)])
def test_like_puts_the_result_on_exactly_that_grid(
    voxels: int, factor: float, make_scan: MakeScan, tmp_path: Path
) -> None:
    truth_path = make_scan((16, voxels, 15), (0.15, 0.15, 0.15), codes="RSP", tilt_deg=7, name="truth.nii.gz")
    truth = nib.as_closest_canonical(nib.load(truth_path))
    low, geometry = simulate_slices(np.ascontiguousarray(truth.get_fdata(dtype=np.float32)), 0.15, 1, factor)
    affine = truth.affine.copy()
    affine[:3, 1] *= factor
    affine[:3, 3] += truth.affine[:3, 1] * (voxels - 1) / 2 - affine[:3, 1] * (geometry.slices - 1) / 2
    write_volume(tmp_path / "low.nii.gz", low, affine)
    steps = preprocessing(like=str(truth_path), minimum=16)
    item = steps({"image": str(tmp_path / "low.nii.gz")})
    out = invert(steps, item, item["image"].clone())
    assert tuple(out.shape[1:]) == truth.shape
    np.testing.assert_allclose(out.affine.numpy(), truth.affine, rtol=0, atol=1e-6)
    assert abs(np.diff(truth.get_fdata(), axis=1)).max() > 1  # the phantom has contrast along the axis
    middle = slice(20, voxels - 20)
    np.testing.assert_allclose(out[0, :, middle].numpy(), truth.get_fdata()[:, middle], rtol=0, atol=5)


def test_match_projects_onto_the_scans_own_intensities(make_scan: MakeScan) -> None:
    path = make_scan()
    steps = preprocessing()
    item = steps({"image": str(path)})
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, item["image"].shape)).float()
    out = invert(steps, item, item["image"].as_tensor() + noise)
    geometry = SliceGeometry.from_json(out.meta["slice_geometry"])
    slices = SliceOperator.build(geometry).forward(out, dim=geometry.axis + 1)[0].numpy()
    scan = nib.load(path).get_fdata()
    worst = np.abs(slices - scan).max() / np.ptp(scan)
    assert worst < 1e-5
    assert float(out.meta["scan_residual"]) == pytest.approx(worst, abs=1e-7)


@pytest.mark.parametrize(("options", "n4", "restore"), [({"spacing": 0.2}, False, True), ({}, True, False)])
def test_match_leaves_what_no_longer_is_the_scan(
    options: dict[str, float], n4: bool, restore: bool, make_scan: MakeScan
) -> None:
    steps = preprocessing(n4=n4, restore=restore, **options)
    item = steps({"image": str(make_scan())})
    volume = item["image"].as_tensor() + 0.1
    out = invert(steps, item, volume)
    assert "scan_residual" not in out.meta
    low, high = (item["image"].meta[f"intensity_{end}"] for end in ("low", "high"))
    margins = json.loads(item["image"].meta["padding"])
    inside = tuple(slice(b, size - a) for (b, a), size in zip(margins, volume.shape[1:]))
    np.testing.assert_allclose(out[0].numpy(), (volume[0][inside].numpy() + 1) / 2 * (high - low) + low, rtol=1e-5)


def image_of(data: np.ndarray, spacing_mm: Any = (0.15, 0.15, 0.15), **meta: Any) -> MetaTensor:
    return MetaTensor(torch.from_numpy(data.astype(np.float32))[None], affine=np.diag([*spacing_mm, 1.0]), meta=meta)


@pytest.fixture(scope="module")
def biased() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head of two tissues on a background, a known bias field, and their product."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in (32, 28, 10)], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    head = np.where(radius < 0.5, 200.0, np.where(radius < 0.9, 120.0, 1.0)) + rng.normal(0, 1, x.shape)
    field = np.exp(0.35 * x + 0.2 * y * z)
    return head, field, head * field


@pytest.fixture(scope="module")
def corrected(biased: tuple[np.ndarray, ...]) -> tuple[Stepd, MetaTensor]:
    image = image_of(biased[2], (0.15, 0.15, 0.5))
    plan = plan_scan(image.shape[1:], image.affine.numpy())
    image.meta["target_grids"] = grids_to_json(plan.grids)
    transform = Stepd("image", CorrectBias())
    return transform, transform({"image": image})["image"]


def test_n4_divides_the_field_out_and_multiplies_it_back(
    biased: tuple[np.ndarray, ...], corrected: tuple[Stepd, MetaTensor]
) -> None:
    head, field, product = biased
    transform, image = corrected
    tissue = (head > 60) & (head < 160)

    def unevenness(volume: np.ndarray) -> float:
        return float(volume[tissue].std() / volume[tissue].mean())

    assert unevenness(product) > 0.15
    assert unevenness(image[0].numpy()) < 0.4 * unevenness(product)
    estimated = product[tissue] / image[0].numpy()[tissue]
    assert np.corrcoef(np.log(estimated), np.log(field[tissue]))[0, 1] > 0.95
    back = transform.inverse({"image": deepcopy(image)})["image"]
    np.testing.assert_allclose(back[0].numpy(), product, rtol=3e-7)  # roundings to float32


def test_n4_field_is_the_same_function_on_the_finer_grid(
    biased: tuple[np.ndarray, ...], corrected: tuple[Stepd, MetaTensor]
) -> None:
    transform, image = corrected
    plan = plan_scan(image.shape[1:], image.affine.numpy())
    shape = tuple(grid.voxels for grid in plan.grids)
    fine_affine = resampled_affine(plan.affine, plan.shape, spacing_of(plan.affine), plan.grids)
    ones = tensor_of(
        replaced(plain_image(image), torch.ones(1, *shape), fine_affine), deepcopy(image.applied_operations)
    )
    item = {"image": tensor_of(ones, deepcopy(image.applied_operations))}
    fine = transform.inverse(item)["image"][0].numpy()
    index = world(shape, np.linalg.inv(image.affine.numpy()) @ fine_affine)
    log_field = np.log(biased[2] / image[0].numpy())
    direct = ndimage.map_coordinates(log_field, index, order=1, mode="nearest")
    np.testing.assert_allclose(np.log(fine), direct, rtol=0, atol=0.02)  # linear against cubic


def test_n4_does_not_depend_on_the_number_of_threads(biased: tuple[np.ndarray, ...]) -> None:
    import SimpleITK

    small = biased[2][::2, ::2]
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        fields = []
        for threads in (1, 3):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            fields.append(estimate_log_bias(small, (0.3, 0.3, 0.5), 2))
            assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert np.ptp(fields[0]) > 0.1
    np.testing.assert_array_equal(*fields)


@pytest.mark.parametrize(
    ("foreground", "spacing", "expected"),
    [
        (16 * ENOUGH, (0.2, 1.0, 0.2), [4, 1, 4]),  # a mouse's brain
        (36 * ENOUGH, (0.2, 1.0, 0.2), [6, 1, 6]),
        (36 * ENOUGH - 1, (0.2, 1.0, 0.2), [5, 1, 5]),
        (10**9, (0.2, 1.0, 0.2), [8, 2, 8]),
        (100, (0.2, 0.2, 0.2), [4, 4, 4]),  # never less than asked for
    ],
)
def test_the_grid_of_n4_is_coarser_where_enough_is_left(foreground, spacing, expected):
    assert shrink_factors(foreground, (300, 300, 300), spacing, 4) == expected
    assert shrink_factors(foreground, (300, 300, 12), spacing, 4)[2] <= 4  # few slices stay what they are


@pytest.mark.parametrize(("shape", "spacing"), [((96, 96, 5), (0.05, 0.05, 0.1)), ((96, 96, 3), (0.05, 0.05, 0.25))])
def test_n4_takes_scans_of_few_slices(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    place = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:2]], indexing="ij")
    disc = np.where(place[0] ** 2 + place[1] ** 2 < 0.8, 100 + 30 * place[0], 0.0)
    field = estimate_log_bias(np.repeat(disc[..., None], shape[2], axis=2), spacing, 4)
    assert field.shape == shape and np.isfinite(field).all()


def test_n4_without_foreground_says_so() -> None:
    with pytest.raises(ScanError, match=r"rat\.nii: N4 must find a bias field.*--no-n4"):
        Stepd("image", CorrectBias())(
            {"image": image_of(-np.random.default_rng(0).random((9, 9, 9)), filename_or_obj="rat.nii")}
        )


def test_the_field_follows_the_anatomy_less_than_that_of_n4_itself(biased: tuple[np.ndarray, ...]) -> None:
    head, field, product = biased
    x, _, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in head.shape], indexing="ij")
    anatomy = np.exp(0.2 * np.sin(7 * x) * np.cos(5 * z))
    tissue, voxel = head > 60, (0.15, 0.15, 0.5)

    def unevenness(**options: Any) -> float:  # of what is left of a coil's field and anatomy, against the anatomy
        found = estimate_log_bias(product * anatomy, voxel, 4, **options)
        return float((np.log(field) - found)[tissue].std())

    assert unevenness() < 0.8 * unevenness(levels=4, converged=0.001)
    with pytest.raises(SettingsError, match="levels must be >= 1, got 0"):
        CorrectBias(levels=0)


@pytest.mark.parametrize("reason", ["itk::ERROR: Image: Failed to allocate memory for image.", "std::bad_alloc"])
def test_n4_that_does_not_fit_is_out_of_memory(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise RuntimeError(f"Exception thrown in SimpleITK\n{reason}")

    monkeypatch.setattr("bida.transforms.bias.estimate_log_bias", full)
    with pytest.raises(MemoryError, match=reason):
        Stepd("image", CorrectBias())({"image": image_of(np.ones((9, 9, 9)))})


def test_percentiles_are_mapped_and_the_inverse_is_exact() -> None:
    data = np.random.default_rng(0).gamma(2, 300, (20, 21, 22))
    transform = Stepd("image", NormalizePercentiles())
    item = transform({"image": image_of(data)})
    out = item["image"][0].numpy()
    np.testing.assert_allclose(np.percentile(out, (1, 99)), (-1, 1), rtol=0, atol=1e-6)
    assert out.max() > 1.2  # not clipped
    meta = item["image"].meta
    assert (meta["intensity_low"], meta["intensity_high"]) == pytest.approx(tuple(np.percentile(data, (1, 99))))
    back = transform.inverse(item)["image"]
    np.testing.assert_allclose(back[0].numpy(), data, rtol=0, atol=2e-7 * np.ptp(data))  # float32


def test_percentiles_refused() -> None:
    data = np.zeros((20, 20, 20))
    data[0, 0, 0] = 1
    with pytest.raises(ScanError, match=r"rat\.nii: intensities must differ.*got 0 at both; crop"):
        Stepd("image", NormalizePercentiles())({"image": image_of(data, filename_or_obj="rat.nii")})
    with pytest.raises(SettingsError, match="0 <= lower < upper <= 100, got 50 and 10"):
        Stepd("image", NormalizePercentiles(lower=50, upper=10))


@pytest.mark.parametrize(("minimum", "multiple"), [(1, 8), (24, 8), ((40, 16, 32), 16)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_padding_keeps_the_slices_and_crops_back(minimum: Any, multiple: int, axis: int) -> None:
    shape = [11, 13, 14]
    shape[axis] = 5
    slices = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape)))
    sizes = [0.15, 0.15, 0.15]
    sizes[axis] = 0.5
    plan = plan_scan(shape, np.diag([*sizes, 1]))
    operator = SliceOperator.build(plan.geometry)
    volume = operator.pinv(slices, dim=axis + 1)
    image = image_of(volume[0].numpy(), slice_geometry=plan.geometry.to_json())
    transform = Stepd("image", PadToNetwork(multiple=multiple, minimum=minimum))
    item = transform({"image": image})
    padded = item["image"]
    least = [minimum] * 3 if isinstance(minimum, int) else minimum
    assert all(size % multiple == 0 and size >= m for size, m in zip(padded.shape[1:], least))
    assert all(size - multiple < max(old, m) for size, old, m in zip(padded.shape[1:], volume.shape[1:], least))
    margins = json.loads(padded.meta["padding"])
    geometry = SliceGeometry.from_json(padded.meta["slice_geometry"])
    assert [geometry.pad_before, geometry.pad_after] == margins[axis]
    # the padded operator sees the scan: in-plane reflected, through-plane untouched
    width = [(0, 0) if k == axis else tuple(margins[k]) for k in range(3)]
    seen = SliceOperator.build(geometry).forward(padded, dim=axis + 1)[0].numpy()
    np.testing.assert_allclose(seen, np.pad(slices[0].numpy(), width, mode="reflect"), rtol=0, atol=1e-5)
    first = np.array([before for before, _ in margins])
    np.testing.assert_allclose(padded.affine.numpy() @ np.append(first, 1), [0, 0, 0, 1], rtol=0, atol=1e-12)
    back = transform.inverse(item)["image"]
    torch.testing.assert_close(back.as_tensor(), image.as_tensor(), rtol=0, atol=0)
    np.testing.assert_allclose(back.affine.numpy(), image.affine.numpy(), rtol=0, atol=1e-12)
    assert back.meta["slice_geometry"] == plan.geometry.to_json()


def test_interpolation_is_scipys_spline_and_keeps_constants() -> None:
    grid = AxisGrid(33, 0.1, 0.02)
    matrix = interpolation_matrix(21, 0.15, grid)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12)
    position = 0.02 + (np.arange(33) - 16) * 0.1
    values = np.sin(0.8 * (np.arange(21) - 10) * 0.15)
    inner = np.abs(position) < 0.8  # the ends' effect has died away
    np.testing.assert_allclose((matrix @ values)[inner], np.sin(0.8 * position)[inner], rtol=0, atol=1e-5)


def test_resampling_to_a_coarser_grid_does_not_alias() -> None:
    # three voxels a period: every third voxel alone would make a constant 1 of it, the Gaussian of sigma 1 leaves
    # exp(-2 (pi / 3)^2) = 0.11
    wave = np.cos(2 * np.pi / 3 * (np.arange(63) - 31))[:, None, None] * np.ones((63, 3, 3))
    grids = [AxisGrid(21, 0.3), AxisGrid(3, 0.1), AxisGrid(3, 0.1)]
    np.testing.assert_allclose(resample(wave, (0.1, 0.1, 0.1), grids)[3:-3], 0.11, rtol=0, atol=0.01)


def test_an_axis_that_has_its_grid_is_left_exactly() -> None:
    volume = smooth_phantom((20, 5, 6), np.diag([0.1, 0.1, 0.1, 1]))
    grids = [AxisGrid(20, 0.1), AxisGrid(5, 0.1), AxisGrid(6, 0.1)]
    np.testing.assert_array_equal(resample(volume, (0.1, 0.1, 0.1), grids), volume)


@pytest.mark.parametrize("step", [MatchScan(), ResampleInPlane(), BackProject()])
def test_without_a_plan_the_error_says_so(step: VolumeStep) -> None:
    with pytest.raises(SettingsError, match="put PlanScan before"):
        Stepd("image", step)({"image": image_of(np.ones((4, 4, 4)))})


def test_warnings_reach_the_meta(make_scan: MakeScan) -> None:
    path = make_scan(spacing_mm=(0.05, 0.45, 0.05), shape=(60, 12, 60), units="unknown")
    item = preprocessing()({"image": str(path)})
    first, second, third = json.loads(item["image"].meta["warnings"])
    assert "no unit" in first
    assert "outside the prior" in second
    assert "the slice thickness is not in the file and taken as the slice spacing, 0.45 mm" in third


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mouse-sherm/sub-01/anat/sub-01_T1w.nii.gz", (128, 128, 120)),
        ("rat-bold-pontes/sub-04/func/sub-04_run-1_boldref.nii.gz", (80, 80, 64)),
    ],
)
def test_real_scans_there_and_back(name: str, shape: tuple[int, ...], shared_data: Path) -> None:
    steps = preprocessing()
    item = steps({"image": str(shared_data / name)})
    out = invert(steps, item, item["image"].clone())
    scan = nib.load(shared_data / name)
    assert tuple(out.shape[1:]) == shape
    shares_the_field_of_view(out, scan)
    assert nib.aff2axcodes(out.affine.numpy()) == nib.aff2axcodes(scan.affine)
    assert float(out.meta["scan_residual"]) < 1e-5
