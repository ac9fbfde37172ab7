"""The interface for Nipype; what needs Nipype is skipped where it is not installed."""

from __future__ import annotations

import json
import pickle
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bida import superres
from bida.cli.parser import parser

needs_nipype = pytest.mark.skipif(find_spec("nipype") is None, reason="nipype is not installed")
OFF = {"n4": False, "self_check": False}


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("NO_ET", "1")  # it asks for its newest version otherwise
    monkeypatch.chdir(tmp_path)
    return import_module("bida.nipype")


def test_without_nipype_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nipype", None)
    monkeypatch.delitem(sys.modules, "bida.nipype", raising=False)
    with pytest.raises(ImportError) as told:
        import_module("bida.nipype")
    line = str(told.value)
    assert line.startswith("bida.nipype: nipype must be installed, ") and "\n" not in line
    assert line.endswith("; pip install 'bida-mri[nipype]'")


@needs_nipype
def test_every_option_is_a_trait_that_the_command_takes(ours, tmp_path):
    scan = tmp_path / "a scan's.nii"
    scan.touch()
    given: dict[str, Any] = {"in_file": str(scan), "out_file": "o ut.nii", "like": str(scan)}
    values: dict[str, Any] = {"flag": True, "switch": False, "number": 0.5, "whole": 2, "mixed": 0.25, "text": "a b"}
    for name, one in ours.OPTIONS.items():
        if name not in (*given, "in_files", "verbose"):
            given[name] = one.choices[-1] if one.choices and one.kind == "text" else values[one.kind]
    made = ours.SuperResolution(**given).cmdline.split(" -m bida ", 1)[1]
    found = vars(parser().parse_args(shlex.split(made)))
    assert found.pop("words") == [str(scan)] and found.pop("out") == "o ut.nii" and found.pop("loudness") == "quiet"
    given = {name: value for name, value in given.items() if name not in ("in_file", "out_file", "quiet")}
    assert {name: found[name] for name in given} == given
    unset = {name: value for name, value in found.items() if name not in given}
    assert unset.pop("command") == "superres"
    many = {"workers": 1, "scheduler": None, "json": False, "dry_run": False}
    assert unset == {"version": False, "print_completion": None, "combine": None, **many}


@needs_nipype
def test_flags_that_say_no_and_several_scans(ours, make_scan):
    scans = [str(make_scan(name=f"{name}.nii")) for name in "ab"]
    made = ours.SuperResolution(in_files=scans, align=False, guided=True, noise="auto", volume=3).cmdline
    assert made.endswith(
        f"superres --combine {' '.join(scans)} --no-align --guided --noise auto --output a_superres.nii.gz --volume 3.0"
    )
    with pytest.raises(OSError, match="mutually exclusive"):
        ours.SuperResolution(in_file=scans[0], in_files=scans).cmdline  # noqa: B018
    with pytest.raises(ValueError, match="in_file"):
        ours.SuperResolution().cmdline  # noqa: B018
    for wrong in ({"in_file": "nowhere.nii"}, {"samples": "many"}, {"axis": "Z"}, {"noise": [1]}):
        with pytest.raises(ours.traits.TraitError):
            ours.SuperResolution(**wrong)


@needs_nipype
@pytest.mark.slow
def test_a_node_makes_what_the_library_makes(ours, make_scan, tmp_path):
    from nipype import Node

    scan = str(make_scan((16, 4, 16)))
    one = ours.SuperResolution(in_file=scan, samples=2, uncertainty="std.nii", keep_draws=True, **OFF)
    assert pickle.loads(pickle.dumps(one)).cmdline == one.cmdline  # as Nipype sends it to another process
    outputs = Node(one, name="restored", base_dir=str(tmp_path / "work")).run().outputs
    folder = tmp_path / "work" / "restored"
    assert outputs.out_file == str(folder / "scan_superres.nii.gz") and outputs.uncertainty == str(folder / "std.nii")
    with pytest.warns(UserWarning):
        expected = superres(scan, samples=2, n4=False, self_check=False)
    np.testing.assert_allclose(nib.load(outputs.out_file).get_fdata(), expected.data, rtol=1e-4, atol=1e-3)
    assert json.loads(Path(outputs.record).read_text())["samples"] == 2
    assert [Path(draw).name for draw in outputs.draws] == [f"scan_superres_draw-{k}.nii.gz" for k in (1, 2)]
    assert outputs.warnings == list(expected.warnings) and not ours.isdefined(outputs.verdict)


@needs_nipype
@pytest.mark.slow
def test_what_the_command_refuses_is_told(ours, make_scan):
    with pytest.raises(RuntimeError, match="bida: error: steps: 8 is for draws, not for the mean"):
        ours.SuperResolution(in_file=str(make_scan()), steps=8).run()
    Path("scan_superres.nii.gz").touch()  # of an earlier run, which must not be taken for this one's
    with pytest.raises(RuntimeError, match="output must not exist"):
        ours.SuperResolution(in_file=str(make_scan())).run()
