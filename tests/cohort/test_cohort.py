"""Many scans: which there are, that failures are kept apart, that what is done stays done, and that workers may die."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan

from bida.cohort import queue
from bida.cohort.index import write_index
from bida.cohort.job import DONE, FAILED, KEPT, Job, Outcome, do
from bida.errors import ScanError, SettingsError
from bida.io.find import find_scans, images_in, name_results
from bida.mri.same import digest
from bida.mri.settings import Settings

FAST = Settings(n4=False, self_check=False)


def jobs_of(scans: list[Path], folder: Path, **given: Any) -> list[Job]:
    return [Job((str(scan),), str(out), FAST, **given) for scan, out in zip(scans, name_results(scans, folder))]


def test_masks_labels_and_results_are_no_scans(tmp_path: Path) -> None:
    scans = ["a.nii.gz", "sub-01_T2w.nii", "b.NRRD", "masked.nii", "sub-02_desc-preproc2_T2w.nii.gz"]
    others = ["a_superres.nii.gz", "sub-01_dseg.nii.gz", "a_mask.nii", "sub-01_desc-superres_T2w.nii.gz", "a.json",
              "a_superres_draw-1.nii.gz", "brain-mask.nii.gz", "atlas_labels.nii.gz", "a_std.nii.gz",
              ".bida-0a-1b-2-3c.nii.gz", "._a.nii.gz"]  # fmt: skip
    for name in scans + others:
        (tmp_path / name).touch()
    assert {path.name for path in images_in(tmp_path)} == set(scans)
    assert find_scans([tmp_path / "a_mask.nii", tmp_path / "a.nii.gz"]) == [
        tmp_path / "a_mask.nii",
        tmp_path / "a.nii.gz",
    ]


def test_what_cannot_be_listed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, message in (
        ([], "must be named"),
        ([tmp_path / "no"], "must exist"),
        ([tmp_path / "empty"], "holds no file"),
    ):
        with pytest.raises(ScanError, match=message):
            find_scans(source)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scan.nii").touch()
    with pytest.raises(ScanError, match="names of their own"):
        name_results(find_scans([tmp_path / "x", tmp_path / "y"]), tmp_path)


def test_failures_are_kept_apart_and_what_is_done_stays_done(make_scan: MakeScan, tmp_path: Path) -> None:
    scans = [make_scan(name="a.nii.gz"), make_scan(name="b.nii.gz"), tmp_path / "c.nii.gz"]
    scans[1].write_bytes(scans[1].read_bytes()[:200])
    scans[2].write_text("no image")
    out = tmp_path / "out"
    out.mkdir()
    first = {one.scan: one for one in queue.run(jobs_of(scans, out))}
    assert [first[str(scan)].state for scan in scans] == [DONE, FAILED, FAILED]
    for one, scan in ((first[str(scan)], scan) for scan in scans[1:]):
        assert one.error is not None and one.error.startswith(f"{scan}: ") and "\n" not in one.error
    assert sorted(path.name for path in out.iterdir()) == ["a_superres.json", "a_superres.nii.gz"]
    written = (out / "a_superres.nii.gz").stat().st_mtime_ns
    again = {one.scan: one.state for one in queue.run(jobs_of(scans, out))}
    assert again == {str(scans[0]): KEPT, str(scans[1]): FAILED, str(scans[2]): FAILED}
    assert (out / "a_superres.nii.gz").stat().st_mtime_ns == written


def test_other_settings_or_another_scan_are_not_the_same(make_scan: MakeScan, tmp_path: Path) -> None:
    scan, out = make_scan(), tmp_path / "out"
    out.mkdir()
    (job,) = jobs_of([scan], out)
    assert do(job).state == DONE
    assert do(job).state == KEPT
    other = Job(job.scans, job.output, Settings(n4=False, self_check=False, thickness=0.6))
    refused = do(other)
    assert (
        refused.state == FAILED
        and refused.error is not None
        and "is there, of another scan or made by other settings" in refused.error
    )
    assert do(Job(other.scans, other.output, other.settings, overwrite=True)).state == DONE
    assert do(other).state == KEPT
    make_scan(values=lambda shape, affine: np.random.default_rng(1).uniform(1, 2, shape))  # the same name
    assert do(other).state == FAILED


@pytest.mark.slow
def test_whatever_a_result_was_made_of_counts(make_scan: MakeScan, tmp_path: Path) -> None:
    import SimpleITK

    out = tmp_path / "out"
    out.mkdir()
    profile = tmp_path / "profile.txt"
    profile.write_text("\n".join(f"{z} {np.exp(-((z / 0.4) ** 2))}" for z in np.linspace(-1, 1, 41)))
    scan = make_scan()
    SimpleITK.WriteImage(SimpleITK.ReadImage(scan), tmp_path / "two.mhd")
    settings = Settings(n4=False, self_check=False, profile=str(profile))
    nifti = Job((str(scan),), str(out / "a.nii.gz"), settings)
    raw = Job((str(tmp_path / "two.mhd"),), str(out / "b.nii.gz"), FAST)
    assert [do(job).state for job in (nifti, raw, nifti, raw)] == [DONE, DONE, KEPT, KEPT]
    (tmp_path / "scan.json").write_text(json.dumps({"SpacingBetweenSlices": 0.75}))
    assert do(nifti).state == FAILED  # what its sidecar says is another scan
    (tmp_path / "scan.json").unlink()
    assert do(nifti).state == KEPT
    profile.write_text(profile.read_text().replace("1.0\n", "0.9\n"))
    assert do(nifti).state == FAILED
    with (tmp_path / "two.raw").open("r+b") as file:
        file.write(b"\0\0\0\0")
    refused = do(raw)
    assert refused.state == FAILED
    cure = "is there, of another scan or made by other settings; give --overwrite, or another folder"
    assert refused.error == f"{out / 'b.nii.gz'}: {cure}"


def test_pages_come_and_go_with_their_results(make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan()
    (job,) = jobs_of([scan], tmp_path)
    page = tmp_path / "scan_superres.html"
    assert do(job).state == DONE and not page.exists()
    (wanted,) = jobs_of([scan], tmp_path, report=True)
    assert do(wanted).state == DONE and page.is_file()
    assert [do(job).state, do(wanted).state] == [KEPT, KEPT]
    other = Settings(n4=False, self_check=False, seed=5)
    assert do(Job(job.scans, job.output, other, overwrite=True)).state == DONE
    assert not page.exists()  # it showed the result before
    page.write_text("mine")
    (forced,) = jobs_of([scan], tmp_path, report=True, overwrite=True)
    assert "must not replace what is none of bida's" in str(do(forced).error)
    assert page.read_text() == "mine"
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ScanError, match=r"index\.html: a page must not replace"):
        write_index(tmp_path, [])


@pytest.mark.slow
def test_the_page_shows_results_of_earlier_runs_and_damaged_ones(make_scan: MakeScan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first, second = (make_scan(name=f"{name}.nii.gz") for name in "ab")
    outcomes = [do(job) for job in jobs_of([first, second], out)]
    text = write_index(out, outcomes[1:]).read_text()
    assert text.count("<tr tabindex") == 2 and text.count("data:image/png") == 2
    damaged = out / "a_superres.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:300])
    text = write_index(out, outcomes).read_text()
    assert text.count("data:image/png") == 1 and "cannot be read" in text


def test_a_job_for_other_machines_has_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("0 1")
    job = queue.everywhere(Job(("a.nii",), "out/b.nii.gz", Settings(profile="p.txt", model="0.2")))
    assert (job.scans, job.output) == ((str(tmp_path / "a.nii"),), str(tmp_path / "out" / "b.nii.gz"))
    assert (job.settings.profile, job.settings.model) == (str(tmp_path / "p.txt"), "0.2")


def test_a_folder_s_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").write_bytes(b"x")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    (tmp_path / "b" / "1.dcm").rename(tmp_path / "b" / "2.dcm")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_any_error_of_one_scan_is_its_own(make_scan: MakeScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: Job) -> Any:
        raise ZeroDivisionError("by\nchance")

    monkeypatch.setattr("bida.cohort.job.restored", fail)
    (outcome,) = queue.run(jobs_of([make_scan()], tmp_path))
    assert (
        outcome.state == FAILED and outcome.error is not None and outcome.error.endswith("ZeroDivisionError: by chance")
    )


def test_the_page_shows_every_scan(make_scan: MakeScan, tmp_path: Path) -> None:
    scans = [make_scan(name="a<b>.nii.gz"), tmp_path / "bad.nii.gz"]
    scans[1].write_text("no image")
    out = tmp_path / "out"
    out.mkdir()
    outcomes = list(queue.run(jobs_of(scans, out, report=True)))
    text = write_index(out, outcomes).read_text()
    assert "a&lt;b&gt;.nii.gz" in text and "a<b>" not in text
    assert "failed: " in text and "2 scans in out" in text
    assert text.count("data:image/png;base64,") == 1
    assert 'href="a%3Cb%3E_superres.html"' in text
    assert (out / "a<b>_superres.html").is_file()


def test_workers_and_schedulers_that_cannot_be(tmp_path: Path, make_scan: MakeScan) -> None:
    jobs = jobs_of([make_scan()], tmp_path)
    with pytest.raises(SettingsError, match="--workers: must be at least 1, got 0"):
        list(queue.run(jobs, 0))
    with pytest.raises(SettingsError, match="--scheduler: must answer, nonsense://x does not"):
        list(queue.run(jobs, 1, "nonsense://x"))


@pytest.fixture
def four(tmp_path: Path) -> Iterator[list[Path]]:
    """Four scans of noise, each its own."""
    scans = []
    for number in range(4):
        values = np.random.default_rng(number).uniform(10, 20, (20, 8, 18)).astype(np.float32)
        scans.append(tmp_path / f"scan{number}.nii.gz")
        nib.save(nib.Nifti1Image(values, np.diag([0.15, 0.75, 0.15, 1])), scans[-1])
    yield scans


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(four: list[Path], tmp_path: Path) -> None:
    import psutil

    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
    expected = {
        Path(one.output).name: Path(one.output).read_bytes() for one in queue.run(jobs_of(four, tmp_path / "alone"))
    }
    environment, killed = dict(os.environ), []

    def kill() -> None:
        """Kill a worker as soon as there are two that have begun."""
        for _ in range(600):
            children = [
                one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())
            ]
            if len(children) == 2 and all(one.cpu_times().user > 2 for one in children):
                os.kill(children[0].pid, signal.SIGKILL)
                killed.append(children[0].pid)
                return
            time.sleep(0.1)

    thread = threading.Thread(target=kill)
    thread.start()
    outcomes = list(queue.run(jobs_of(four, tmp_path / "together"), workers=2))
    thread.join()
    assert killed
    assert sorted(Path(one.scan).name for one in outcomes) == [scan.name for scan in four]
    assert {one.state for one in outcomes} <= {DONE, KEPT}
    found = {path.name: path.read_bytes() for path in (tmp_path / "together").glob("*.nii.gz")}
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []  # pytest takes hours to show where
    assert dict(os.environ) == environment
    states = [one.state for one in queue.run(jobs_of(four, tmp_path / "together"), workers=2)]
    assert states == [KEPT] * 4


@pytest.mark.slow
def test_adaptation_works_in_a_worker(four: list[Path], tmp_path: Path) -> None:
    settings = Settings(n4=False, self_check=False, adapt=0.02)
    jobs = [Job((str(scan),), str(tmp_path / f"out{number}.nii.gz"), settings) for number, scan in enumerate(four[:2])]
    outcomes = list(queue.run(jobs, workers=2))
    assert [(one.state, one.error) for one in outcomes] == [(DONE, None)] * 2
    assert json.loads((tmp_path / "out0.json").read_text())["adapted"]["steps"] > 0


def test_outcomes_travel() -> None:
    import pickle

    one = Outcome("a", "b", FAILED, "a: rule", 1.0, {"verdict": None})
    assert pickle.loads(pickle.dumps(one)) == one
