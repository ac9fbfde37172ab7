"""The experiment on small synthetic brains: cells are kept, a failure loses one cell, all paths give one table."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_experiment import FAST, experiment, value

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.eval import psnr
from bida.experiment.methods import METHODS, Method
from bida.experiment.results import read_results
from bida.experiment.runner import run
from bida.experiment.truth import choose_animals
from bida.parallel.queue import Lost
from bida.physics.interpolation import cubic
from bida.physics.simulate import simulate_slices

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"  # how its files begin


@pytest.mark.usefixtures("blank_pictures")
def test_the_figures_are_those_of_the_library(data, tmp_path):
    run(experiment(data, tmp_path))
    truth = np.asarray(nib.load(data / "sub-01/anat/sub-01_T2w.nii.gz").dataobj, dtype=np.float32)
    slices, geometry = simulate_slices(truth, 0.3, axis=1, factor=2.5)
    low, high = np.percentile(truth, [1, 99])
    expected = psnr(cubic(slices, geometry), truth, float(high - low))
    found = value(tmp_path, subject="sub-01", factor=2.5, method="cubic", metric="psnr", region="whole")
    assert found == pytest.approx(expected, abs=1e-3)  # volumes are kept as float32 files


@pytest.mark.usefixtures("blank_pictures")
def test_animals_of_the_validation_split_are_taken_with_their_groups(data, tmp_path):
    run(experiment(data, tmp_path))
    rows = read_results(tmp_path / "results.csv")
    assert {(row["subject"], row["group"]) for row in rows} == {("sub-01", "WT"), ("sub-02", "TG")}
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["n"] == 2


@pytest.mark.parametrize("named", [["02"], ["sub-02"], ["02", "sub-02"], ["NAME/02"], ["NAME/sub-02"]])
def test_an_animal_is_named_with_or_without_sub(data, named):
    (animal,) = choose_animals(data, [one.replace("NAME", data.name) for one in named], None)
    assert animal.subject == "sub-02"


@pytest.mark.usefixtures("blank_pictures")
def test_the_command_takes_a_label_without_sub(data, tmp_path):
    arguments = ["--methods", "nearest", "--metrics", "psnr", "--factors", "2", "--subjects", "02", "--no-n4"]
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path), *arguments]) == 0
    assert {row["subject"] for row in read_results(tmp_path / "results.csv")} == {"sub-02"}


@pytest.mark.usefixtures("blank_pictures")
def test_a_stripper_that_fails_leaves_the_other_figures(data, tmp_path):
    failing = "command:false {in} {out}"
    with pytest.raises(SettingsError, match="every cell must finish, 6 failed"):
        run(experiment(data, tmp_path, metrics=["psnr", "cdsc"], strippers=[failing, "threshold"]))
    failures = json.loads((tmp_path / "failures.json").read_text(encoding="utf-8"))["failures"]
    assert {failure["part"] for failure in failures} == {f"cdsc, {failing}"} and "traceback" not in failures[0]
    rows = read_results(tmp_path / "results.csv")
    assert len([row for row in rows if (row["metric"], row["region"]) == ("psnr", "whole")]) == 6
    for subject in ("sub-01", "sub-02"):
        for method in ("nearest", "cubic"):
            wanted = {"subject": subject, "method": method, "factor": 2.5, "region": "threshold"}
            assert 0.9 < value(tmp_path, **wanted, metric="cdsc") < 1
            assert value(tmp_path, **wanted, metric="hd95") > 0
    assert "false" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("missing", ["labels", "atlases"])
def test_without_labels_of_others_all_but_volumes_is_measured(data, tmp_path, missing):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    if missing == "labels":
        shutil.rmtree(copy / "derivatives" / "labels")
    else:  # those of the animals themselves stay
        shutil.rmtree(copy / "sub-03")
    run(experiment(copy, tmp_path / "out", metrics=["psnr", "volumes"], atlases=3))
    rows = read_results(tmp_path / "out" / "results.csv")
    assert {row["metric"] for row in rows} == {"psnr", "seconds", "cpu_seconds"}
    assert value(tmp_path / "out", subject="sub-01", method="cubic", metric="psnr", region="whole", factor=2.5) > 10
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Volumes of structures were not measured for sub-01, sub-02: the data set has no labels" in report


@pytest.mark.usefixtures("blank_pictures")
def test_labels_that_cannot_be_used_fail_volumes_alone(data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    folder = copy / "derivatives" / "labels" / "sub-03"
    shutil.copy(folder / "anat" / "sub-03_dseg.nii.gz", folder / "sub-03_dseg.nii.gz")
    with pytest.raises(SettingsError, match=r"each atlas must have one label map"):
        run(experiment(copy, tmp_path / "out", metrics=["psnr", "volumes"], atlases=3))
    failures = json.loads((tmp_path / "out" / "failures.json").read_text(encoding="utf-8"))["failures"]
    assert {failure["part"] for failure in failures} == {"volumes"}
    assert value(tmp_path / "out", subject="sub-01", method="cubic", metric="psnr", region="whole", factor=2.5) > 10


@pytest.mark.usefixtures("blank_pictures")
def test_a_method_that_fails_leaves_the_others(data, tmp_path, monkeypatch):
    def broken(slices, choices):
        raise RuntimeError("no luck")

    monkeypatch.setitem(METHODS, "broken", Method(broken, "fails"))
    with pytest.raises(SettingsError, match=r"2 failed.*no luck"):
        run(experiment(data, tmp_path, methods=["broken", "cubic"]))
    assert value(tmp_path, subject="sub-02", method="cubic", metric="psnr", region="whole", factor=2.5) > 10
    failures = json.loads((tmp_path / "failures.json").read_text(encoding="utf-8"))["failures"]
    assert "RuntimeError" in failures[0]["traceback"]


@pytest.mark.usefixtures("blank_pictures")
def test_cdsc_of_the_truth_is_left_out_and_dice_with_its_own_mask_is_there(data, tmp_path):
    run(experiment(data, tmp_path, metrics=["cdsc"]))
    rows = read_results(tmp_path / "results.csv")
    assert {row["metric"] for row in rows if row["method"] == "hr"} == {"dice_manual"}
    found = value(tmp_path, subject="sub-01", factor=2.5, method="cubic", metric="cdsc", region="threshold")
    assert 0.9 < found < 1


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.usefixtures("blank_pictures")
def test_a_cell_whose_process_died_is_told(data, tmp_path, monkeypatch):
    def stand_in(work, items, workers):
        for item in items:
            yield item, Lost("it died") if item.name == "2.5x_cubic" else work(item)

    monkeypatch.setattr("bida.experiment.runner.each", stand_in)
    with pytest.raises(ValueError, match=r"2 failed, the first sub-01 2.5x_cubic \(it died; give fewer --jobs"):
        run(experiment(data, tmp_path, jobs=2))
    assert (tmp_path / "sub-02/2.5x_nearest/cell.json").exists()


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_table(data, tmp_path):
    run(experiment(data, tmp_path / "one"))
    run(experiment(data, tmp_path / "two", jobs=2))
    first, second = (
        sorted(  # repr is exact, and unlike the number itself, nan (as of the truth's own PSNR) equals nan
            (r["subject"], r["method"], r["metric"], r["region"], repr(r["value"]))
            for r in read_results(tmp_path / name / "results.csv")
            if r["metric"] not in ("seconds", "cpu_seconds")
        )
        for name in ("one", "two")
    )
    assert first == second


@pytest.mark.usefixtures("blank_pictures")
def test_the_command_reports_where_the_report_is(data, tmp_path, capsys):
    arguments = ["--methods", "nearest", "--metrics", "psnr", "--factors", "2", "--subjects", "sub-01", "--no-n4"]
    assert main(["evaluate", "--data", str(data), "--out", str(tmp_path), *arguments]) == 0
    told = capsys.readouterr()
    assert str(tmp_path / "report.html") in told.out
    assert "sub-01 2x_nearest: 100%" in told.err


def test_the_bundle_runs_it(data, tmp_path):
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(ROOT / "configs" / "evaluate.yaml"),
        workflow_type="eval",
        run_id="evaluating",
        init_id="",
        final_id="",
        logging_file=str(ROOT / "configs" / "logging.conf"),
        dataset_dir=str(data),
        output_dir=str(tmp_path),
        n4=False,
        atlases=0,
        **FAST,
    )
    workflow.initialize()
    workflow.run()
    assert value(tmp_path, subject="sub-01", factor=2.5, method="nearest", metric="psnr", region="whole") > 10
    command = "--methods nearest cubic --metrics psnr residual --no-n4 --atlases 0</pre>"
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<pre>bida evaluate --data {data} --out {tmp_path} --factors 2.5 {command}" in report
    # two animals' montages, and boxes of PSNR of the whole and of the brain
    assert report.count(f"data:image/png;base64,{base64.b64encode(PNG).decode()[:-1]}") == 4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": ["magic"]}, "--methods: must be among .*, got magic"),
        ({"metrics": ["beauty"]}, "--metrics: must be among .*, got beauty"),
        ({"strippers": ["magic"]}, "stripper must be one of builtin, .*, got 'magic'"),
        ({"strippers": ["threshold", "threshold"]}, "--strippers: must name at least one, each once"),
        ({"strippers": []}, "--strippers: must name at least one"),
        ({"strippers": ["command:rbm {in}"]}, r"must hold \{in\} and \{out\}"),
        (
            {"strippers": ["rs2net"]},
            "RS2_pretrained_model.pt; on the command line name the stripper 'rs2net:WEIGHTS'",
        ),
        ({"factors": [1.0]}, "--factors: must be above 1, got 1"),
        ({"factors": [2.5, 2.5]}, "each once"),
        ({"axis": "Z"}, "--axis: must be R, A or S, got Z"),
        ({"jobs": 0}, "--jobs: must be at least 1, got 0"),
        ({"subjects": ["sub-99"]}, "--subjects must be among sub-01, sub-02, sub-03, got sub-99"),
        ({"subjects": ["01", "9"]}, "--subjects must be among sub-01, sub-02, sub-03, got 9"),
        ({"subjects": ["1"]}, "got 1;"),
        ({"subjects": ["01", "03"], "split": "val"}, "--subjects must be among sub-01, sub-02, got 03"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(data, tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message) as error:
        run(experiment(data, tmp_path / "out", **changes))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("*/truth"))
