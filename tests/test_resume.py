"""The experiment goes on where it was: what is kept is reused, what was made from something else is made anew."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import torch
from small_experiment import experiment, value

from bida.device import usable_cores
from bida.errors import BidaError, ScanError
from bida.experiment import runner
from bida.experiment.methods import METHODS, Choices, Method
from bida.experiment.runner import run
from bida.io.claim import claimed
from bida.physics.interpolation import cubic

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def counted(monkeypatch):
    """Count the runs of a method of its own."""
    calls: list[str] = []

    def go(thick, choices):
        calls.append(str(thick.path))
        return cubic(thick.data, thick.geometry)

    monkeypatch.setitem(METHODS, "counted", Method(go, "counts", depends_on=("seed",)))
    return calls


def test_finished_cells_are_reused_and_changed_ones_run_again(data, tmp_path, counted):
    first = experiment(data, tmp_path, methods=["counted"])
    run(first)
    assert len(counted) == 2
    run(first)
    run(experiment(data, tmp_path, methods=["counted"], metrics=["psnr", "ssim"]))
    assert len(counted) == 2, "a new metric must not run the method again"
    run(experiment(data, tmp_path, methods=["counted"], choices=Choices(seed=1)))
    assert len(counted) == 4, "another seed must"
    run(experiment(data, tmp_path, methods=["counted"], profile="gaussian", choices=Choices(seed=1)))
    assert len(counted) == 6, "other slices must"


def test_a_crash_loses_one_cell(data, tmp_path, counted, monkeypatch):
    go = METHODS["counted"].run

    def stop(thick, choices):
        if "sub-02" in str(thick.path):
            raise KeyboardInterrupt
        return go(thick, choices)

    monkeypatch.setitem(METHODS, "counted", Method(stop, "stops", depends_on=("seed",)))
    with pytest.raises(KeyboardInterrupt):
        run(experiment(data, tmp_path, methods=["counted"]))
    monkeypatch.setitem(METHODS, "counted", Method(go, "counts", depends_on=("seed",)))
    run(experiment(data, tmp_path, methods=["counted"]))
    assert len(counted) == 2


def test_a_changed_scan_is_taken_anew(data, tmp_path, counted):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    run(experiment(copy, tmp_path / "out", methods=["counted"], subjects=["sub-01"]))
    path = copy / "sub-01/anat/sub-01_T2w.nii.gz"
    image = nib.load(path)
    changed = np.asarray(image.dataobj)[::-1].copy()
    nib.save(nib.Nifti1Image(changed, image.affine), path)
    run(experiment(copy, tmp_path / "out", methods=["counted"], subjects=["sub-01"]))
    assert len(counted) == 2
    truth = np.asarray(nib.load(tmp_path / "out/sub-01/truth/sub-01.nii.gz").dataobj)
    np.testing.assert_allclose(truth, changed, rtol=1e-6)


def test_another_version_makes_everything_anew(data, tmp_path, counted, monkeypatch):
    run(experiment(data, tmp_path, methods=["counted"], subjects=["sub-01"]))
    monkeypatch.setattr("bida.experiment.runner.versions", lambda: {"bida": "99"})
    run(experiment(data, tmp_path, methods=["counted"], subjects=["sub-01"]))
    assert len(counted) == 2


def test_a_changed_profile_file_makes_other_slices(data, tmp_path, counted):
    profile = tmp_path / "profile.csv"
    for half_width in (0.3, 0.4):
        profile.write_text("".join(f"{mm},{max(0, 1 - abs(mm) / half_width)}\n" for mm in np.linspace(-0.5, 0.5, 101)))
        run(experiment(data, tmp_path / "out", methods=["counted"], subjects=["sub-01"], profile=str(profile)))
    assert len(counted) == 2


def test_a_changed_mask_is_scored_anew(data, tmp_path, counted):
    copy, metrics = tmp_path / "data", ["psnr", "cdsc"]
    shutil.copytree(data, copy)
    wanted = {"subject": "sub-01", "method": "counted", "factor": 2.5}
    found = []
    for _ in range(2):
        run(experiment(copy, tmp_path / "out", methods=["counted"], metrics=metrics, subjects=["sub-01"]))
        of = [("psnr", "whole"), ("psnr", "brain"), ("cdsc", "threshold"), ("dice_manual", "threshold")]
        found.append([value(tmp_path / "out", **wanted, metric=name, region=region) for name, region in of])
        path = copy / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
        image = nib.load(path)
        half = np.asarray(image.dataobj) * (np.arange(image.shape[0]) < image.shape[0] // 2)[:, None, None]
        nib.save(nib.Nifti1Image(half.astype(np.float32), image.affine), path)
    first, second = found
    assert first[0] == second[0] and first[2] == second[2], "these do not depend on the mask"
    assert first[1] != second[1] and second[3] < 0.8 < first[3]
    assert len(counted) == 1


def test_the_time_of_a_run_is_told_without_that_of_kept_cells(data, tmp_path):
    planned = experiment(data, tmp_path, metrics=["psnr", "cdsc"], subjects=["sub-01"])
    times = []
    for _ in range(2):
        run(planned)
        times.append(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["time"])
        report = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert ("3 cells were there from earlier runs, whose time is not counted" in report) == (len(times) == 2)
    first, second = times
    assert (first["cells_computed"], first["cells_reused"]) == (3, 0)
    assert (second["cells_computed"], second["cells_reused"]) == (0, 3)
    kept = [json.loads(file.read_text()) for file in tmp_path.glob("sub-01/*/cell.json")]
    expected = {part: sum(record["scores"][part]["seconds"] for record in kept) for part in kept[0]["scores"]}
    assert list(first["scoring_seconds"].values()) == pytest.approx(list(expected.values()))
    assert first["scoring_seconds"] == second["scoring_seconds"]
    assert sum(expected.values()) < first["wall_seconds"]
    assert first["cores"] == usable_cores() and first["threads_each"] == torch.get_num_threads()


def test_a_folder_is_one_runs_alone(data, tmp_path, counted):
    with claimed(tmp_path / "results.csv"):
        other = ThreadPoolExecutor(1).submit(run, experiment(data, tmp_path))
        with pytest.raises(ScanError, match=r"results\.csv: output must be one run's alone"):
            other.result()
    assert not list(tmp_path.iterdir())


def test_a_cell_whose_removal_was_cut_off_is_made_anew(data, tmp_path, counted):
    planned = experiment(data, tmp_path, methods=["counted"], subjects=["sub-01"])
    run(planned)
    (tmp_path / "sub-01/2.5x_counted/volume.nii.gz").rename(tmp_path / "kept.nii.gz")
    with pytest.raises(BidaError):
        run(planned)  # a record without its volume is never left by bida, see below
    calls = []

    def cut(place):
        calls.append(sorted(path.name for path in place.iterdir()))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bida.experiment.runner.shutil.rmtree", cut)
        run(experiment(data, tmp_path, methods=["counted"], subjects=["sub-01"], choices=Choices(seed=1)))
    assert calls and all("cell.json" not in names for names in calls), "the record goes first"


def test_slices_of_two_settings_are_never_mixed(data, tmp_path, counted, monkeypatch):
    noisy = {"methods": ["counted"], "subjects": ["sub-01"], "snr": (20,)}
    run(experiment(data, tmp_path / "whole", profile="gaussian", **noisy))
    run(experiment(data, tmp_path / "cut", profile="box", **noisy))
    real = runner.make_noisy
    for stop_before in (True, False):  # after the slices, and after their noise; without the mark that they are whole

        def cut(*words, stop_before=stop_before):
            if not stop_before:
                real(*words)
            raise KeyboardInterrupt

        monkeypatch.setattr(runner, "make_noisy", cut)
        with pytest.raises(KeyboardInterrupt):
            run(experiment(data, tmp_path / "cut", profile="gaussian", **noisy))
    monkeypatch.setattr(runner, "make_noisy", real)
    run(experiment(data, tmp_path / "cut", profile="gaussian", **noisy))
    for name in ("2.5x_snr20_slices.nii.gz", "2.5x_snr20_counted/volume.nii.gz"):
        one, other = (np.asarray(nib.load(tmp_path / place / "sub-01" / name).dataobj) for place in ("whole", "cut"))
        np.testing.assert_array_equal(one, other)


def test_damaged_records_are_made_anew(data, tmp_path, counted):
    planned = experiment(data, tmp_path, methods=["counted"], subjects=["sub-01"])
    run(planned)
    for name, content in (("2.5x_counted/cell.json", "{"), ("2.5x_slices_from.json", "\x00"), ("hr/cell.json", "[]")):
        (tmp_path / "sub-01" / name).write_text(content)
    run(planned)
    assert len(counted) == 2
