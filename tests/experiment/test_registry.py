"""The registries: what is entered once is found by the command, the tables, the figures and the report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_experiment import experiment, value

from bida.cli.parser import parser
from bida.errors import SettingsError
from bida.experiment import Choices, Experiment, run
from bida.experiment.design import CLEAN, ONE
from bida.experiment.methods import METHODS, TRUTH, Method, ThickScan, label_of, method, reference_of, shown_as
from bida.experiment.metrics import METRICS, Metric, Quantity, Score, quantities, quantity
from bida.experiment.report.figures import _box_figure
from bida.experiment.results import COLUMNS, methods_of, shown, tabulate
from bida.io.released import released_path
from bida.io.weights import sha256
from bida.mri.settings import Settings
from bida.options import options_of
from bida.physics.interpolation import cubic

WORDS = "cubic, with a tenth of the light gone"


@pytest.fixture
def dim(monkeypatch):
    """Register a method that dims what cubic interpolation gives."""

    def go(thick, choices):
        return 0.9 * cubic(thick.data, thick.geometry)

    monkeypatch.setitem(METHODS, "dim", Method(go, WORDS, colour="#123456", main=True, note="dim is no method."))


@pytest.fixture
def offset(monkeypatch):
    """Register a metric, the mean difference to the truth, shown with one digit after the point."""

    def score(case):
        return [Score("offset", "whole", float(np.mean(case.volume - case.truth.data)), "units")]

    shows = Quantity("Offset", "units", 1, -1, "mean over voxels", main=True, compared=True, first=True)
    monkeypatch.setitem(METRICS, "offset", Metric(score, {"offset": shows}, inputs=lambda case: {}))


def help_of_evaluate(capsys) -> str:
    with pytest.raises(SystemExit):
        parser().parse_args(["evaluate", "--help"])
    return " ".join(re.sub(r"-\n\s+", "-", capsys.readouterr().out).split())


@pytest.mark.usefixtures("blank_pictures")
def test_a_method_is_entered_once(data, tmp_path, dim, capsys, monkeypatch):
    def stand_in(volume, affine, atlases):
        return SimpleNamespace(labels=(volume > np.median(volume)).astype(np.int32))

    monkeypatch.setattr("bida.experiment.case.volumetry", stand_in)
    assert " dim" in help_of_evaluate(capsys)
    run(experiment(data, tmp_path, methods=["dim", "cubic"], metrics=["psnr", "volumes"], atlases=1))
    assert value(tmp_path, subject="sub-01", method="dim", metric="psnr", region="whole", factor=2.5) > 0
    assert any(
        "dim" in line for line in (tmp_path / "results.csv").read_text().splitlines() if "structure_dice" in line
    )
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dt>dim</dt><dd>{WORDS}</dd>" in report and "dim is no method." in report
    assert json.loads((tmp_path / "summary.json").read_text())["methods"] == ["cubic", "dim", TRUTH]


def test_a_method_has_its_colour_in_figures(dim):
    rows = [
        dict(zip(COLUMNS, ("a", "", 5.0, CLEAN, ONE, name, "psnr", "whole", 20.0, "dB"))) for name in ("dim", "cubic")
    ]
    (axes,) = _box_figure(rows, "psnr", "whole", None).axes
    colours = [patch.get_edgecolor()[:3] for patch in axes.patches]
    assert colours[1] == pytest.approx((0x12 / 255, 0x34 / 255, 0x56 / 255)) != colours[0]


@pytest.mark.usefixtures("blank_pictures")
def test_a_method_is_a_column_of_the_montage_and_a_rival(data, tmp_path, dim, monkeypatch):
    columns = []
    monkeypatch.setattr(
        "bida.experiment.report.collect.montage", lambda panels, *more: columns.append(list(panels)) or b"PNG"
    )
    run(experiment(data, tmp_path, methods=["cubic", "dim", "nearest"], metrics=["psnr"]))
    assert columns == [["LR", "cubic", "dim", "HR"]] * 2
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    brief = report[: report.index("Limits</h2>")]
    assert "nearest below dim" in brief or "nearest above dim" in brief


@pytest.mark.usefixtures("blank_pictures")
def test_a_metric_is_entered_once(data, tmp_path, offset, capsys):
    assert " offset (all)" in help_of_evaluate(capsys)
    run(experiment(data, tmp_path, metrics=["psnr", "offset"]))
    found = value(tmp_path, subject="sub-01", method="cubic", metric="offset", factor=2.5)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Offset, whole (units)" in report and "mean over voxels; lower is better" in report
    assert shown("offset", found) == f"{found:.1f}".replace("-", "\u2212")
    assert "Box plots of Offset, whole" in report
    entries = json.loads((tmp_path / "summary.json").read_text())["comparisons"]
    assert {entry["metric"] for entry in entries} == {"psnr", "offset"}


@pytest.mark.parametrize(
    "name, samples, others",
    [
        ("bida", 0, {}),
        ("bida-draw", 1, {}),
        ("bida-draws", 3, {}),
        ("bida-bare", 0, {"self_check": False}),
    ],
)
def test_rows_of_bida_are_what_their_names_say(name, samples, others, monkeypatch):
    """The mean is what superres gives where nothing is said; draws change the number of draws alone."""
    asked = []

    def stand_in(scan, settings):
        asked.append(settings)
        return SimpleNamespace(data=np.zeros((2, 2, 2)), affine=np.eye(4))

    monkeypatch.setattr("bida.mri.pipeline.restore", stand_in)
    geometry = SimpleNamespace(profile="slr", axis=1)
    thick = ThickScan("scan.nii.gz", None, None, geometry, "truth.nii.gz", (2, 2, 2), np.eye(4))
    METHODS[name].run(thick, Choices(samples=3))
    plain = Settings(like="truth.nii.gz", n4=False)
    assert Settings().samples == 0, "the default of superres is the mean"
    assert asked == [replace(plain, samples=samples, **others)]


def test_the_mean_and_one_draw_are_shown_by_default_and_the_mean_in_every_montage():
    assert {"bida", "bida-draw"} <= set(Experiment.methods) and "bida-draws" not in Experiment.methods
    assert METHODS["bida"].main and label_of("bida") == "bida mean"
    assert reference_of(["cubic", "bida-draw", "bida"]) == "bida" and reference_of(["bida", "x"][1:]) == "x"
    labels = [label_of(name) for name in METHODS]
    assert len(set(labels)) == len(labels)


def test_a_name_of_0_1_is_refused_with_the_present_one():
    with pytest.raises(SettingsError, match="got bida-1; it is bida-draw now"):
        method("bida-1")
    with pytest.raises(SettingsError, match="--samples: must be at least 1, got 0"):
        Experiment("data", "out", choices=Choices(samples=0))


def test_the_truth_is_no_method_that_can_be_asked_for():
    assert TRUTH not in METHODS and shown_as(TRUTH).meaning
    with pytest.raises(SettingsError, match=f"got {TRUTH}"):
        method(TRUTH)


def test_what_older_tables_name_is_still_shown():
    rows = [
        dict(zip(COLUMNS, ("a", "", 5.0, CLEAN, ONE, name, metric, "", 1.0, "")))
        for name in (TRUTH, "forgotten", "bida")
        for metric in ("seconds", "lost", "psnr")
    ]
    assert methods_of(rows) == ["bida", "forgotten", TRUTH]
    assert list(dict.fromkeys(cell.metric for cell in tabulate(rows))) == ["psnr", "seconds", "lost"]
    assert (quantity("lost").label, shown("lost", 1.0), shown_as("forgotten").meaning) == ("lost", "1.000", "")


def test_every_name_of_a_number_is_given_by_one_metric():
    names = [name for metric in METRICS.values() for name in metric.shows]
    assert len(set(names)) == len(names) and set(quantities()) == {*names, "seconds", "cpu_seconds"}


def test_the_help_shows_the_defaults_of_the_experiment(capsys, monkeypatch):
    text = help_of_evaluate(capsys)
    plain = Experiment("data", "out")
    for shown_default in (plain.atlases, plain.profile, plain.jobs, Choices().samples, f"{Choices().timeout_s:g}"):
        assert f"({shown_default})" in text
    assert " ".join(plain.methods) + " (all these)" in text and f"({' '.join(f'{f:g}' for f in plain.factors)})" in text


def test_the_help_names_the_weights_before_as_superres_does(capsys):
    words = options_of(Settings)["model"].help
    assert "0.1: those before" in words and words in help_of_evaluate(capsys)
    assert METHODS["bida"].fingerprint(Choices(model="0.1"))["model"] == sha256(released_path("model-0.1.pt"))


def test_the_bundle_has_the_defaults_of_the_experiment():
    from importlib.resources import files

    from monai.bundle import ConfigParser

    config = ConfigParser()
    config.read_config(str(files("bida.configs") / "evaluate.yaml"))
    config["dataset_dir"], config["output_dir"] = "data", "out"
    found, plain = config.get_parsed_content("experiment"), Experiment("data", "out")
    for name in ("factors", "snr", "methods", "metrics", "strippers"):
        assert list(getattr(found, name)) == list(getattr(plain, name))
    for name in ("subjects", "split", "axis", "spacing_mm", "n4", "profile", "atlases", "jobs", "choices"):
        assert getattr(found, name) == getattr(plain, name)


@pytest.mark.parametrize(
    "line",
    [
        "from bida.cli.parser import parser; parser(['evaluate'])",
        "from bida.cli.parser import main; main('evaluate --data . --out none --methods magic'.split())",
        "from bida.cli.parser import main; main('evaluate --data . --out none --factors 0.5'.split())",
    ],
)
def test_help_and_wrong_options_come_without_what_computes(line):
    code = f"import sys; {line}; print(*({{'torch', 'monai', 'scipy', 'nibabel', 'pandas'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert "main" not in line or done.stderr.startswith("bida: error: --")
