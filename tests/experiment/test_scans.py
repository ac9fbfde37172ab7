"""Sets of scans as a factor: methods that join get all, the others the first; each scan has noise of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from small_experiment import experiment, value

from bida.cli.parser import main
from bida.eval import consistency_residual
from bida.experiment.design import CLEAN, ONE
from bida.experiment.methods import METHODS, Choices, Method, ThickScan
from bida.experiment.report.figures import _box_figure
from bida.experiment.results import COLUMNS, SINGLE_COLUMNS, Cell, read_results, tabulate, write_results
from bida.experiment.runner import run
from bida.experiment.summary import summarise
from bida.io.scan import read_scan
from bida.mri.settings import Settings
from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic
from bida.physics.operators import SliceOperator

PLANNED = {
    "snr": ["clean", 10],
    "scans": ["A+S", "S", "A+A"],
    "methods": ["cubic", "joined"],
    "metrics": ["psnr", "residual"],
    "subjects": ["sub-01"],
}


@pytest.fixture(scope="module", autouse=True)
def joined():
    """Register a method that averages what cubic interpolation makes of each scan; note what the montages are given."""
    seen, calls = [], []  # what takes most of a run's time is drawn below, once

    def go(thick, choices):
        calls.append([scan.path.name for scan in thick.scans])
        return np.mean([cubic(scan.data, scan.geometry) for scan in thick.scans], axis=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "joined", Method(go, "the mean of cubic", main=True, several=True))
        patch.setitem(METHODS, "pair", Method(go, "the same", several=True, fewest=2))
        patch.setattr("bida.experiment.report.collect.montage", lambda *given: seen.append(given) or b"PNG")
        patch.setattr("bida.experiment.report.sections.box_plots", lambda *given: b"PNG")
        yield SimpleNamespace(montages=seen, calls=calls)


@pytest.fixture(scope="module")
def out(data, tmp_path_factory, joined):
    folder = tmp_path_factory.mktemp("scans")
    run(experiment(data, folder, **PLANNED))
    return folder


def volume_of(path):
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


def found(out, scans, method, metric="psnr", snr=CLEAN):
    region = {"psnr": "brain"}.get(metric, "")
    return value(out, scans=scans, method=method, metric=metric, region=region, snr=snr)


def test_methods_that_join_get_all_scans_and_the_others_the_first(out):
    assert found(out, "A+S", "cubic") == found(out, ONE, "cubic") != found(out, "S", "cubic")
    for scans in (ONE, "S"):
        assert found(out, scans, "joined") == found(out, scans, "cubic")
    for snr in (CLEAN, 10.0):
        assert found(out, "A+S", "joined", snr=snr) > found(out, "S", "joined", snr=snr)
    a, s = (cubic_of(out / f"sub-01/2.5x_{name}slices.nii.gz") for name in ("", "S_"))
    np.testing.assert_allclose(volume_of(out / "sub-01/2.5x_A+S_joined/volume.nii.gz"), (a + s) / 2, rtol=1e-4)


def cubic_of(path):
    scan = read_scan(path)
    return cubic(scan.data, SliceGeometry(**scan.sidecar["slice_geometry"]))


def test_what_one_scan_gives_is_made_once(out, joined):
    places = {path.name for path in (out / "sub-01").iterdir() if path.is_dir()}
    wanted = {"truth", "hr"} | {
        f"2.5x_{noise}{name}"
        for noise in ("", "snr10_")
        for name in ("cubic", "S_cubic", "joined", "S_joined", "A+S_joined", "A+A_joined")
    }
    assert places == wanted
    assert ["2.5x_slices.nii.gz", "2.5x_A2_slices.nii.gz"] in joined.calls


def test_a_scan_is_the_same_in_every_set_and_has_noise_of_its_own(out):
    folder = out / "sub-01"
    names = ("", "A2_", "S_")
    clean = {name: volume_of(folder / f"2.5x_{name}slices.nii.gz") for name in names}
    noise = {name: volume_of(folder / f"2.5x_snr10_{name}slices.nii.gz") - clean[name] for name in names}
    np.testing.assert_array_equal(clean[""], clean["A2_"])
    bright = clean[""] > 0.3 * clean[""].max()  # in the background Rician noise has the same mean everywhere
    assert abs(np.corrcoef(noise[""][bright], noise["A2_"][bright])[0, 1]) < 0.1
    assert noise["A2_"][bright].std() == pytest.approx(noise[""][bright].std(), rel=0.1)
    seeds = {json.loads((folder / f"2.5x_snr10_{name}slices.json").read_text())["seed"] for name in names}
    assert len(seeds) == 3
    gain = found(out, "A+A", "joined", snr=10.0) - found(out, ONE, "joined", snr=10.0)
    assert gain > 0.3 and found(out, "A+A", "joined") == pytest.approx(found(out, ONE, "joined"), abs=1e-3)


def test_the_residual_is_that_of_the_scan_that_is_given_back_worst(out):
    volume = torch.from_numpy(volume_of(out / "sub-01/2.5x_A+S_joined/volume.nii.gz").astype(np.float32))
    each = []
    for name in ("", "S_"):
        scan = read_scan(out / f"sub-01/2.5x_{name}slices.nii.gz")
        degraded = SliceOperator.build(SliceGeometry(**scan.sidecar["slice_geometry"])).forward(volume)
        each.append(consistency_residual(degraded.numpy(), scan.data))
    assert found(out, "A+S", "joined", "residual") == pytest.approx(max(each), rel=1e-3)
    assert max(each) > 1.02 * min(each), "the test tells them apart"


def test_single_scans_are_those_of_a_run_without_sets_and_are_kept(data, tmp_path):
    planned = {**PLANNED, "snr": [10], "scans": []}
    run(experiment(data, tmp_path, **planned))
    keys = ("subject", "snr", "scans", "method", "metric", "region")

    def numbers():
        rows = read_results(tmp_path / "results.csv")
        return {tuple(r[k] for k in keys): repr(r["value"]) for r in rows if "seconds" not in r["metric"]}

    before = numbers()
    run(experiment(data, tmp_path, **{**planned, "scans": ["A+S"]}))
    assert json.loads((tmp_path / "summary.json").read_text())["time"]["cells_computed"] == 1
    after = numbers()
    assert {key[2] for key in before} == {ONE} and {key[2] for key in after} == {ONE, "A+S"}
    assert before == {key: number for key, number in after.items() if key[2] == ONE}


def test_the_summary_compares_within_a_set(out):
    rows = read_results(out / "results.csv")
    summary = summarise(rows, "joined")
    sets = [entry["scans"] for entry in summary["conditions"]]
    assert sets == [ONE, "S", "A+A", "A+S"] * 2
    assert summary["conditions"][0] == {"factor": 2.5, "snr": None, "scans": ONE}
    (entry,) = [
        one
        for one in summary["comparisons"]
        if (one["snr"], one["scans"], one["metric"], one["region"]) == (None, "A+S", "psnr", "brain")
    ]
    assert entry["mean_difference"] == pytest.approx(found(out, "A+S", "joined") - found(out, ONE, "cubic"))
    assert "set of scans" in summary["family"]


def test_figures_have_a_row_a_set(out):
    figure = _box_figure(read_results(out / "results.csv"), "psnr", "brain", ["cubic", "joined"])
    names = ["", ", scan S", ", scans A+A", ", scans A+S"]
    assert [axes.get_title() for axes in figure.axes] == [
        f"2.5\u00d7{noise}{name}" for noise in ("", ", SNR 10") for name in names
    ]
    for place, scans in enumerate((ONE, "S", "A+A", "A+S")):
        wanted = [found(out, scans, method) for method in ("cubic", "joined")]
        assert any(np.array_equal(line.get_ydata(), wanted) for line in figure.axes[place].lines)


def test_the_report_tells_the_sets(out):
    plain = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert "with noise of SNR 10, of one scan and of S and A+A and A+S." in plain
    assert "several scans of an animal where it takes them" in plain
    assert "<dt>sets of scans, beside one</dt><dd>A+S, S, A+A</dd>" in plain
    assert "All the scans of a set went to joined; the other methods had the first of them alone." in plain
    assert "--scans A+S S A+A" in plain
    for caption in ("2.5\u00d7", "2.5\u00d7, scan S", "2.5\u00d7, scans A+S", "2.5\u00d7, SNR 10, scans A+S"):
        assert f"<caption>{caption}: one animal" in plain and f"Montage of sub-01, {caption}: " in plain


def test_montages_show_the_first_scan_and_each_method_s_own_volume(out, joined):
    panels = {title: panels for panels, *_, title in joined.montages if title.startswith("sub-01, 2.5")}
    shown = panels["sub-01, 2.5\u00d7, scans A+S"]
    np.testing.assert_allclose(shown["LR"][0], volume_of(out / "sub-01/2.5x_slices.nii.gz"), rtol=1e-6)
    np.testing.assert_allclose(shown["cubic"][0], volume_of(out / "sub-01/2.5x_cubic/volume.nii.gz"), rtol=1e-6)
    np.testing.assert_allclose(shown["joined"][0], volume_of(out / "sub-01/2.5x_A+S_joined/volume.nii.gz"), rtol=1e-6)
    alone = panels["sub-01, 2.5\u00d7, scan S"]["LR"][0]
    np.testing.assert_allclose(alone, volume_of(out / "sub-01/2.5x_S_slices.nii.gz"), rtol=1e-6)


def test_a_method_of_several_scans_has_no_cell_of_one(data, tmp_path):
    arguments = ["--methods", "cubic", "pair", "--metrics", "psnr", "--factors", "2", "--subjects", "02", "--no-n4"]
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path), *arguments, "--scans", "A+S"]) == 0
    rows = read_results(tmp_path / "results.csv")
    assert {row["scans"] for row in rows if row["method"] == "pair"} == {"A+S"}
    assert {row["scans"] for row in rows if row["method"] == "cubic"} == {ONE, "A+S"}


def test_tables_from_before_there_were_sets_are_of_single_scans(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text(f"{','.join(SINGLE_COLUMNS)}\nsub-01,WT,5,20,bida,psnr,brain,1.5,dB\n", encoding="utf-8")
    (row,) = rows = read_results(path)
    assert tuple(row) == COLUMNS and (row["snr"], row["scans"], row["method"]) == (20.0, ONE, "bida")
    write_results(tmp_path / "new.csv", [row, {**row, "scans": "A+S", "value": 2.5}])
    both = read_results(tmp_path / "new.csv")
    assert both == [*rows, {**row, "scans": "A+S", "value": 2.5}]
    assert list(tabulate(reversed(both))) == [Cell(5.0, "psnr", "brain", "bida", 20.0, one) for one in (ONE, "A+S")]


def scan_of(name, others=()):
    geometry = SimpleNamespace(profile="slr", axis=1)
    return ThickScan(name, None, None, geometry, "truth.nii.gz", (2, 2, 2), np.eye(4), others)


@pytest.mark.parametrize(
    "name, changes", [("bida", {}), ("bida-bare", {"self_check": False}), ("bida-draw", {"samples": 1})]
)
def test_bida_joins_what_it_is_given(name, changes, monkeypatch):
    asked = []

    def stand_in(scans, settings):
        asked.append((scans, settings))
        return SimpleNamespace(data=np.zeros((2, 2, 2)), affine=np.eye(4))

    monkeypatch.setattr("bida.mri.pipeline.superres", stand_in)
    METHODS[name].run(scan_of("a.nii.gz", (scan_of("b.nii.gz"),)), Choices())
    plain = Settings(like="truth.nii.gz", n4=False)
    assert asked == [(["a.nii.gz", "b.nii.gz"], replace(plain, **changes))]
    assert METHODS[name].several and not METHODS["bida-paper"].several
