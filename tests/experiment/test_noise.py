"""Noise as a factor: it has the size and the law that were asked for, is each slice's own, and its cells stay apart."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
from small_experiment import experiment, value

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.eval import brick_index, psnr, slice_borders
from bida.experiment.design import CLEAN
from bida.experiment.methods import Choices
from bida.experiment.results import read_results
from bida.experiment.runner import run
from bida.io.scan import read_scan
from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic

LEVELS = ["clean", 20, 5]
METRICS = ["psnr", "bricks"]


def volume_of(path):
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


@pytest.fixture(scope="module", autouse=True)
def shown():
    """Take note of what the montages are given; nothing is drawn, which would take most of a run's time."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bida.experiment.report.collect.montage", lambda *given: seen.append(given) or b"PNG")
        patch.setattr("bida.experiment.report.sections.box_plots", lambda *given: b"PNG")
        yield seen


@pytest.fixture(scope="module")
def out(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    run(experiment(data, folder, snr=LEVELS, metrics=METRICS))
    return folder


@pytest.mark.parametrize("snr", [20, 5])
def test_the_noise_is_rician_of_the_size_asked_for(out, data, snr):
    clean, noisy = (volume_of(out / f"sub-01/2.5x_{name}slices.nii.gz") for name in ("", f"snr{snr}_"))
    truth = volume_of(out / "sub-01/truth/sub-01.nii.gz")
    brain = volume_of(data / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz") > 0
    sigma = truth[brain].mean() / snr
    dark, bright = clean < 0.01 * sigma, clean > 4 * sigma
    assert dark.sum() > 2000 and bright.sum() > 2000
    # Rayleigh where there is no signal: its mean and its standard deviation; 2,000 voxels know them to 2% and 3%
    assert noisy[dark].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.05)
    assert noisy[dark].std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.08)
    noise = np.where(bright, noisy - clean, np.nan)
    assert np.nanstd(noise) == pytest.approx(sigma, rel=0.06)
    pairs = [(noise[:, i].ravel(), noise[:, i + 1].ravel()) for i in range(noise.shape[1] - 1)]
    a, b = (np.concatenate(part) for part in zip(*pairs))
    both = np.isfinite(a) & np.isfinite(b)
    assert abs(np.corrcoef(a[both], b[both])[0, 1]) < 4 / np.sqrt(both.sum()), "every slice has its own"


def test_figures_are_against_the_truth_without_that_noise(out):
    truth = read_scan(out / "sub-02/truth/sub-02.nii.gz").data
    scan = read_scan(out / "sub-02/2.5x_snr5_slices.nii.gz")
    geometry = SliceGeometry(**scan.sidecar["slice_geometry"])
    volume = cubic(scan.data, geometry)
    low, high = np.percentile(truth, [1, 99])
    wanted = {"subject": "sub-02", "factor": 2.5, "snr": 5.0, "method": "cubic"}
    assert value(out, **wanted, metric="psnr", region="whole") == pytest.approx(
        psnr(volume, truth, float(high - low)), abs=1e-3
    )
    brain = truth > 0.2 * truth.max()
    borders = slice_borders(geometry.slice_centres_mm(), geometry.voxel_centres_mm())
    assert value(out, **wanted, metric="bricks") == pytest.approx(brick_index(volume, 1, borders, brain), abs=1e-3)


def test_more_noise_is_worse_and_bars_grow(out):
    for subject in ("sub-01", "sub-02"):
        wanted = {"subject": subject, "factor": 2.5, "method": "cubic"}
        found = [value(out, **wanted, snr=snr, metric="psnr", region="brain") for snr in (CLEAN, 20.0, 5.0)]
        assert found == sorted(found, reverse=True) and found[0] - found[-1] > 1
        bars = [value(out, **wanted, snr=snr, metric="bricks") for snr in (CLEAN, 20.0, 5.0)]
        assert bars == sorted(bars)


def test_the_sidecar_tells_of_the_noise(out):
    record = json.loads((out / "sub-01/2.5x_snr20_slices.json").read_text(encoding="utf-8"))
    assert record["snr"] == 20 and record["noise_kind"] == "rician" and record["noise"] > 0
    assert json.loads((out / "sub-01/2.5x_slices.json").read_text(encoding="utf-8"))["noise"] == 0


def test_the_seed_gives_the_noise_again_and_every_animal_its_own(out, data, tmp_path):
    run(experiment(data, tmp_path / "again", snr=[20, 5], metrics=METRICS))
    run(experiment(data, tmp_path / "other", snr=[20], metrics=METRICS, choices=Choices(seed=1)))

    def noise(folder, subject, snr):
        clean = volume_of(out / f"{subject}/2.5x_slices.nii.gz")
        return volume_of(folder / f"{subject}/2.5x_snr{snr}_slices.nii.gz") - clean

    for subject in ("sub-01", "sub-02"):
        np.testing.assert_array_equal(noise(out, subject, 20), noise(tmp_path / "again", subject, 20))
        assert np.corrcoef(noise(out, subject, 20).ravel(), noise(out, subject, 5).ravel())[0, 1] > 0.9
    clean = volume_of(out / "sub-01/2.5x_slices.nii.gz")
    bright = clean > 0.3 * clean.max()  # in the background Rician noise has the same mean everywhere
    one, other = noise(out, "sub-01", 20)[bright], noise(tmp_path / "other", "sub-01", 20)[bright]
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1 and not np.array_equal(one, other)
    assert abs(np.corrcoef(one, noise(out, "sub-02", 20)[bright])[0, 1]) < 0.1


def test_cells_without_noise_are_those_of_a_run_without_the_option(out, data, tmp_path):
    run(experiment(data, tmp_path, metrics=METRICS))
    plain = read_results(tmp_path / "results.csv")
    keys = ("subject", "snr", "method", "metric", "region")

    def numbers(rows):  # repr: nan equals nan
        return {tuple(r[key] for key in keys): repr(r["value"]) for r in rows if "seconds" not in r["metric"]}

    rows = read_results(out / "results.csv")
    assert numbers(plain) == numbers(r for r in rows if r["snr"] == CLEAN)
    assert {r["snr"] for r in rows} == {CLEAN, 20.0, 5.0}
    text = (out / "results.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "subject,group,factor,snr,scans,method,metric,region,value,unit"
    assert "sub-01,WT,2.5,clean,one,cubic,psnr,brain," in text and "sub-01,WT,2.5,20,one,cubic,psnr,brain," in text


def test_another_seed_makes_only_noisy_cells_anew(data, tmp_path):
    planned = {"snr": ["clean", 20], "methods": ["cubic"], "metrics": METRICS, "subjects": ["sub-01"]}
    run(experiment(data, tmp_path, **planned))
    for choices, computed in ((Choices(), 0), (Choices(seed=1), 1)):
        run(experiment(data, tmp_path, **planned, choices=choices))
        assert json.loads((tmp_path / "summary.json").read_text())["time"]["cells_computed"] == computed


def test_the_report_tells_noise_and_bars(out):
    text = (out / "report.html").read_text(encoding="utf-8")
    plain = " ".join(text.split())
    assert "slices 2.5\u00d7 as thick as a voxel, without noise and with noise of SNR 20 and 5." in plain
    assert "Rician noise was added to the thick slices, each slice its own" in plain
    assert "SNR is the truth&#39;s mean in tissue over" in plain
    assert "<dt>SNR of the slices</dt><dd>no noise added, 20, 5</dd>" in plain
    assert "--snr clean 20 5" in plain
    for caption in ("2.5\u00d7", "2.5\u00d7, SNR 20", "2.5\u00d7, SNR 5"):
        assert f"<caption>{caption}: mean" in plain and f"Montage of sub-01, {caption}: " in plain
        assert f"PSNR, brain, {caption}: nearest" in plain or f"PSNR, brain, {caption}: cubic" in plain
    assert "<dt>Brick index</dt>" in plain and ">Brick index</th>" in plain
    index = value(out, subject="sub-01", snr=20.0, method="cubic", metric="bricks")
    assert f"<td>{index:.2f}</td>" in plain


def test_montages_show_each_noise_with_its_figures(out, data, shown):
    shown.clear()
    run(experiment(data, out, snr=LEVELS, metrics=METRICS))
    titles = [title for *_, title in shown]
    assert titles[:3] == ["sub-01, 2.5\u00d7", "sub-01, 2.5\u00d7, SNR 20", "sub-01, 2.5\u00d7, SNR 5"]
    panels, _, _, captions, _ = shown[2]
    np.testing.assert_allclose(panels["LR"][0], volume_of(out / "sub-01/2.5x_snr5_slices.nii.gz"), rtol=1e-6)
    assert re.fullmatch(r"[\d.]+ dB, bricks [\d.]+", captions["cubic"])
    assert shown[0][3]["cubic"] != captions["cubic"]


def test_the_command_takes_the_levels(data, tmp_path):
    arguments = ["--methods", "cubic", "--metrics", "psnr", "--factors", "2", "--subjects", "02", "--no-n4"]
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path), *arguments, "--snr", "10"]) == 0
    assert {(r["snr"], r["method"]) for r in read_results(tmp_path / "results.csv")} >= {(10.0, "cubic")}
    assert not (tmp_path / "sub-02/2x_slices.nii.gz").exists(), "slices without noise were not asked for"


@pytest.mark.parametrize(
    "levels, message",
    [
        ([0], "--snr: an SNR must be above 0 or clean, got 0"),
        ([-3.0], "above 0 or clean, got -3"),
        ([float("nan")], "above 0 or clean, got nan"),
        (["loud"], "--snr: .*loud"),
        ([], "--snr: must name at least one"),
        (["clean", float("inf")], "each once"),
        ([10, "10"], "each once"),
    ],
)
def test_what_is_no_level_is_refused(data, tmp_path, levels, message):
    with pytest.raises(SettingsError, match=message) as error:
        experiment(data, tmp_path, snr=levels)
    assert "\n" not in str(error.value)
