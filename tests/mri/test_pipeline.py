import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bida import superres
from bida.cpu_speed import Int8Speed
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import CLASSES, PlanePrior, kind_of
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import ScanError, SettingsError, WeightsError
from bida.integers import exact
from bida.io.kept import Kept
from bida.io.weights import load_weights, released_path, save_weights
from bida.mri.pipeline import restore
from bida.mri.settings import PRESETS, Settings
from bida.mri.simulate import simulate_file
from bida.mri.slice_errors import Voxels
from bida.mri.synthetic_brain import synthetic_brain
from bida.mri.workflow import find_scans
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator

SMALL = (12, 5, 10)  # voxels of a scan where any will do
INT8 = pytest.mark.skipif(not exact(), reason="needs a CPU with exact integer convolutions")
FAST = {"n4": False, "device": "cpu", "self_check": False}  # whose weight is 0 for smooth phantoms


def small_prior(channels, prediction="v", timesteps=1000, schedule="cosine"):
    """Return a prior whose guided network is narrower and less deep than the released one, drawn at random."""
    torch.manual_seed(0)
    guided = SliceResNet(channels, 3)
    for parameter in guided.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    pair = NetworkPair(SliceUNet(num_class_embeds=CLASSES, in_channels=2), guided)
    return PlanePrior(pair, prediction, timesteps, guided=True, schedule=schedule)


def centre(shape, affine):
    return affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAR"])
def test_result_lies_where_the_scan_lies(make_scan, codes):
    path = make_scan(codes=codes, tilt_deg=8)
    scan = nib.load(path)
    result = superres(path, **FAST)
    np.testing.assert_allclose(np.linalg.norm(result.affine[:3, :3], axis=0), 0.15, rtol=1e-5)
    assert sorted(result.data.shape) == sorted((20, 40, 18))
    assert nib.aff2axcodes(result.affine) == nib.aff2axcodes(scan.affine)
    np.testing.assert_allclose(centre(result.data.shape, result.affine), centre(scan.shape, scan.affine), atol=1e-4)
    np.testing.assert_allclose(result.data.mean(), scan.get_fdata().mean(), rtol=0.02)


@pytest.mark.parametrize("n4", [False, True])
def test_degraded_again_the_result_is_the_scan(make_scan, n4):
    path = make_scan(values=lambda shape, affine: 200 + 50 * np.random.default_rng(0).standard_normal(shape))
    result = superres(path, **{**FAST, "n4": n4}, noise=0)
    operator = SliceOperator.build(SliceGeometry(**result.record["slice_geometry"]))
    y = nib.load(path).get_fdata()
    again = np.moveaxis(np.tensordot(operator.matrix, result.data.astype(float), axes=(1, 1)), 0, 1)
    assert np.abs(again - y).max() / np.ptp(y) < 1e-5
    consistency = result.record["data_consistency"]
    assert consistency["scan_residual"] < 1e-5
    assert consistency["sampler_residual"] < 1e-5


def test_mean_and_uncertainty_are_those_of_the_draws(make_scan):
    draws = []
    path = make_scan(SMALL)
    result = restore(path, Settings(samples=3, steps=2, **FAST), on_draw=draws.append)
    assert len(draws) == 3
    assert np.abs(draws[0] - draws[1]).max() > 0
    np.testing.assert_allclose(result.data, np.mean(draws, axis=0), rtol=1e-5)
    scale, floor = (result.record[f"uncertainty_{name}"] for name in ("scale", "floor"))
    assert scale > 1 and floor > 0  # measured on animals
    y = np.asarray(nib.load(path).dataobj)
    least = floor * np.ptp(np.percentile(y, (1, 99))) / 2
    expected = np.sqrt((scale * np.std(draws, axis=0, ddof=1)) ** 2 + least**2)
    np.testing.assert_allclose(result.std, expected, rtol=2e-3, atol=1e-3)
    assert superres(path, samples=1, steps=1, **FAST).std is None
    assert [result.record[key] for key in ("estimate", "steps", "samples")] == ["draws", 2, 3]


def test_the_weights_say_what_network_they_are_of(make_scan, tmp_path):
    given, file = small_prior(32, "x0", 500, "linear"), tmp_path / "own.pt"
    given.set_uncertainty(3.0, 0.25)
    save_weights(given, file)
    prior = load_prior(prior_of(file), file, torch.device("cpu"), "float32")
    assert kind_of(prior.kind) == ("x0", 500, "linear")
    assert (prior.prediction, len(prior.alpha_bar)) == ("x0", 500)
    assert prior.networks["shared"].guided.stem.weight.shape[0] == 32
    assert len(prior.networks["shared"].guided.body) == 3
    path = make_scan(SMALL)
    result = superres(path, **FAST, model=str(file), samples=2, steps=1)
    assert (result.record["uncertainty_scale"], result.record["uncertainty_floor"]) == (3, 0.25)
    assert not np.array_equal(result.data, superres(path, **FAST).data)


@pytest.mark.parametrize("kind", [None, torch.tensor([7, 1000]), torch.tensor([0]), "v", torch.tensor([0, 1000, 9])])
def test_weights_of_no_such_network_are_refused(tmp_path, kind):
    torch.save({"weight": torch.zeros(2)} | ({} if kind is None else {"kind": kind}), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="must be a state dict of this network"):
        prior_of(tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"none\.pt: weights must exist"):
        prior_of(tmp_path / "none.pt")


def test_what_does_not_fit_is_said(tmp_path):
    given, file = small_prior(32, schedule="linear"), tmp_path / "own.pt"
    save_weights(given, file)
    with pytest.raises(
        WeightsError, match=r"loading failed \(the weights predict v over 1000 linear steps, this prior"
    ):
        load_weights(small_prior(32), file)
    with pytest.raises(WeightsError, match=r"loading failed \(size mismatch for networks.shared.guided"):
        load_weights(small_prior(64, schedule="linear"), file)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float32"},
        pytest.param({"dtype": "int8"}, marks=INT8),
        {"samples": 1, "steps": 2},
        {"samples": 1, "steps": 2, "guided": False},
    ],
)
def test_the_batch_size_changes_no_byte(make_scan, options):
    path = make_scan(SMALL)
    results = [superres(path, **FAST, **options, batch_size=size) for size in (1, 7, 64)]
    assert results[0].data.tobytes() == results[1].data.tobytes() == results[2].data.tobytes()
    others = {"samples": 1, "steps": 2, "guided": not options.get("guided", True)}
    assert not np.array_equal(results[0].data, superres(path, **FAST, **others).data)


@pytest.mark.slow
@INT8
def test_the_mean_in_integers_is_near_that_in_float32(make_scan):
    path, found = make_scan((32, 8, 32)), {}
    for dtype in ("float32", "int8"):
        found[dtype] = superres(path, n4=False, device="cpu", dtype=dtype)
        assert found[dtype].record["dtype"] == dtype
    one, other = found["float32"], found["int8"]
    assert not np.array_equal(one.data, other.data)
    assert one.record["self_check"] != other.record["self_check"]  # it judges what is run
    assert np.abs(one.data - other.data).max() < 0.03 * np.ptp(one.data)
    assert one.record["self_check"]["gain_db"] == pytest.approx(other.record["self_check"]["gain_db"], abs=0.2)


@INT8
def test_draws_are_not_made_in_integers(make_scan, monkeypatch):
    path, draw = make_scan(SMALL), {"samples": 1, "steps": 1}
    with pytest.raises(SettingsError, match="dtype: int8 is for the mean in one step, got --samples 1; give auto"):
        superres(path, **FAST, **draw, dtype="int8")
    monkeypatch.setattr("bida.mri.run._READY", {})
    monkeypatch.setattr("bida.device.int8_speed", lambda dtype: Kept(Int8Speed(9.0, "float32"), True))
    drawn = superres(path, **FAST, **draw)
    assert drawn.record["dtype"] in ("float32", "bfloat16") and "int8" not in drawn.record["dtype_choice"]
    assert superres(path, **FAST).record["dtype"] == "int8"


def test_chance_is_in_draws_and_not_in_the_mean(make_scan):
    path, draw = make_scan(SMALL), {"samples": 1, "steps": 2}
    first = superres(path, **FAST, **draw)
    assert np.array_equal(first.data, superres(path, **FAST, **draw).data)
    assert not np.array_equal(first.data, superres(path, **FAST, **draw, seed=1).data)
    mean = superres(path, **FAST)
    assert np.array_equal(mean.data, superres(path, **FAST, steps=1, seed=1).data)
    assert (mean.record["estimate"], mean.record["steps"], mean.record["samples"]) == ("mean", 1, 0)


def test_the_mean_comes_with_how_large_its_error_is(make_scan):
    path = make_scan(SMALL)
    result = superres(path, **FAST)
    assert result.std is not None and result.std.shape == result.data.shape
    assert result.std.min() > 0 and result.std.max() <= np.ptp(result.data)
    numbers = [result.record[f"uncertainty_{part}"] for part in ("scale", "floor", "noise")]
    prior = prior_of()
    load_weights(prior)
    expected = [float(getattr(prior, f"spread_{part}")) for part in ("scale", "floor", "noise")]
    assert numbers == pytest.approx(expected, abs=1e-4) and numbers[0] > 1
    assert result.record["uncertainty_from"] == "weights"  # the self-check is off
    assert superres(path, model="0.1", **FAST).std is None  # weights that tell none
    shaded = superres(path, **{**FAST, "n4": True})
    assert shaded.std.shape == shaded.data.shape


@pytest.mark.parametrize("several", [False, True])
def test_the_map_of_the_error_is_as_large_as_the_scan_s_own_slices_show(make_scan, monkeypatch, several):
    paths = [make_scan((40, 8, 40), name=f"{k}.nii.gz") for k in range(1 + several)]
    options = {**FAST, "self_check": True} | ({"align": False} if several else {})

    def map_of(scale):
        monkeypatch.setattr(Voxels, "scale", lambda voxels, weight: scale)
        result = superres(paths if several else paths[0], **options)
        assert (result.record["uncertainty_from"], result.record["uncertainty_scale"]) == ("self-check", scale)
        return result

    once, twice = map_of(0.01), map_of(0.02)
    np.testing.assert_allclose(twice.std, np.minimum(2 * once.std, np.ptp(once.data)), rtol=1e-5)
    assert once.std.max() > 0


def test_the_error_of_the_mean_lies_as_the_scan_does(make_scan):
    """Turned to RAS and back: what is uncertain stays where the volume has it."""

    def half(shape, affine):
        volume = np.full(shape, 100.0)
        volume[: shape[0] // 2] += 50 * np.random.default_rng(0).standard_normal((shape[0] // 2, *shape[1:]))
        return volume

    path = make_scan((28, 10, 28), codes="SAL", values=half)
    result = superres(path, **FAST, noise=0)
    rough, flat = np.array_split(result.std, 2, axis=0)
    assert rough.mean() > 2 * flat.mean()


def test_the_mean_is_nearer_to_the_truth_than_a_draw(tmp_path):
    """On the built-in brain, whose truth is known; a draw in one step has some noise, one of four steps more detail."""
    brain, affine = synthetic_brain(0.3, (32, 52, 26))
    truth, thick = tmp_path / "truth.nii.gz", tmp_path / "thick.nii.gz"
    nib.save(nib.Nifti1Image(brain, affine), truth)
    simulate_file(truth, thick, 5.0)

    def error(**options):
        return float(np.square(superres(thick, like=truth, **FAST, **options).data - brain).mean())

    assert error() < error(samples=1, steps=1) < error(samples=1)


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_like_gives_exactly_that_grid(make_scan, codes):
    like = nib.load(make_scan((20, 41, 18), (0.15, 0.15, 0.15), codes=codes, name="like.nii.gz"))
    path = Path(like.get_filename())
    result = superres(make_scan((20, 9, 18), (0.15, 0.75, 0.15)), like=path, model=released_path("model.pt"), **FAST)
    assert result.data.shape == like.shape
    np.testing.assert_array_equal(result.affine, like.affine)
    result.save(path.with_name("result.nii"))
    assert json.loads(path.with_name("result.json").read_text())["settings"]["like"] == str(path)
    np.testing.assert_allclose(result.data.mean(), like.get_fdata().mean(), rtol=0.02)


@pytest.mark.parametrize("samples", [0, 1])
@pytest.mark.parametrize("n4", [False, True])
def test_a_noisy_scan_is_met_as_far_as_its_noise_lets_it(make_scan, samples, n4):
    """What the result leaves of the slices of a flat scan is their noise: as large, and white."""

    def flat(shape, affine):
        return (
            400 + 20 * np.random.default_rng(0).standard_normal(shape) + 200 * (np.arange(shape[0]) > 14)[:, None, None]
        )

    path, steps = make_scan((24, 10, 24), (0.15, 0.75, 0.15), values=flat), 2 if samples else None
    result = superres(path, **{**FAST, "n4": n4}, samples=samples, steps=steps, noise=20.0)
    assert result.record["data_consistency"]["scan_residual"] > 0.05
    level = result.record["noise"]
    assert level["sigma"] == 20 and level["source"] == "given"
    assert 0.3 < level["residual"]["over_noise"] < 1.2
    assert abs(level["residual"]["correlation"]) < 0.2
    exact = superres(path, **{**FAST, "n4": n4}, samples=samples, steps=steps, noise=0)
    assert exact.record["data_consistency"]["scan_residual"] < 1e-5
    assert exact.record["noise"] == {"sigma": 0.0, "snr": None, "source": "given"}


def test_the_noise_is_estimated_by_default(make_scan):
    def noisy(shape, affine):
        rng = np.random.default_rng(0)
        head = np.zeros(shape)
        head[6:-6, :, 6:-6] = 300 + 60 * np.sin(np.arange(shape[0] - 12) / 4)[:, None, None]
        return np.hypot(head + 15 * rng.standard_normal(shape), 15 * rng.standard_normal(shape))

    path = make_scan((48, 10, 48), (0.15, 0.75, 0.15), values=noisy)
    found = superres(path, **FAST)
    level = found.record["noise"]
    assert level["sigma"] == pytest.approx(15, rel=0.15)
    assert level["snr"] == pytest.approx(20, rel=0.2)
    assert level["source"] in ("background", "slices")
    given = superres(path, **FAST, noise=15.0)
    assert np.abs(given.data - found.data).std() < 1.5  # a tenth of the noise


def test_bias_corrected_leaves_the_field_out(make_scan):
    def shaded(shape, affine):
        field = np.exp(np.linspace(-0.6, 0.6, shape[2]))
        return 100 * field * (1 + 0.1 * np.random.default_rng(0).standard_normal(shape))

    path = make_scan((24, 10, 24), (0.15, 0.75, 0.15), values=shaded)
    kept, corrected = (superres(path, **{**FAST, "n4": True, "bias_corrected": flag}).data for flag in (False, True))

    def slope(volume):
        ends = volume.mean(axis=(0, 1))
        return np.log(ends[-4:].mean() / ends[:4].mean())

    assert slope(kept) == pytest.approx(1.0, abs=0.15)
    assert slope(corrected) < slope(kept) - 0.25  # N4 finds only part of it in so small a volume


def test_presets_and_unknown_options():
    paper = Settings.of("paper")
    assert (paper.profile, paper.spacing, paper.steps, paper.samples, paper.fusion) == ("gaussian", 0.2, 16, 1, "final")
    assert Settings.of("paper", samples=5).samples == 5
    assert Settings.of("paper", factor=4.0).spacing == "auto"
    assert set(PRESETS) == {"paper"}
    with pytest.raises(SettingsError, match="preset: must be one of paper, got 'best'"):
        Settings.of("best")
    with pytest.raises(SettingsError, match=r"step: must be an option of bida.Settings, .*; write steps"):
        Settings.of(step=3)


def test_an_own_error_is_not_wrapped(make_scan):
    with pytest.raises(ScanError, match="isotropic voxels"):
        superres(make_scan(spacing_mm=(0.15, 0.15, 0.15)), **FAST)


def test_scans_of_a_bundle_run(make_scan, tmp_path):
    path, out = make_scan(), tmp_path / "out"
    (tmp_path / "notes.txt").write_text("no scan")
    assert find_scans(path, out) == [{"image": str(path)}]
    assert find_scans(tmp_path, out) == [{"image": str(path)}]
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "IM0001").touch()
    assert find_scans([path, tmp_path / "dicom"], out) == [{"image": str(path)}, {"image": str(tmp_path / "dicom")}]
    for missing in (None, "", tmp_path / "nothing.nii.gz"):
        with pytest.raises(ScanError, match=r"must be named|must exist"):
            find_scans(missing, out)
    with pytest.raises(ScanError, match="results must have names of their own"):
        find_scans([path, path], out)
    out.mkdir()
    (out / "scan_superres.nii.gz").write_bytes(b"mine")
    with pytest.raises(ScanError, match=r"scan_superres\.nii\.gz: output must not exist"):
        find_scans(path, out)
    assert find_scans(path, out, overwrite=True) == [{"image": str(path)}]


def test_an_image_in_memory_is_as_good_as_its_file(make_scan, tmp_path):
    path = make_scan(dtype=np.int16)
    from_file = superres(path, **FAST)
    loaded = nib.load(path)
    image = nib.Nifti1Image(loaded.get_fdata().astype(np.int16), loaded.affine)
    image.header.set_xyzt_units("mm")
    from_memory = superres(image, **FAST)
    np.testing.assert_array_equal(from_memory.data, from_file.data)
    from_memory.save(tmp_path / "out.nii.gz", np.int16)
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.get_data_dtype() == np.int16
    np.testing.assert_allclose(written.get_fdata(), from_memory.data, atol=0.51)
    assert (tmp_path / "out.json").exists()
