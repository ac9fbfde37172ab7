"""Yes and no, read alike at every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, MakeScan
from monai.bundle import ConfigParser

from bida.cli.parser import parser
from bida.errors import BidaError, ScanError, SettingsError
from bida.io.files import check_output
from bida.mri.settings import Settings
from bida.mri.workflow import find_scans
from bida.options import yes_or_no

YES = [True, 1, "true", "True", "TRUE", "on", "yes", "1", " Yes ", np.True_, np.int64(1)]
NO = [False, 0, "false", "False", "off", "no", "0", "No", np.False_, np.int64(0)]
NEITHER = ["maybe", "", "2", 2, -1, None, 1.0, [], "none", "null"]


@pytest.mark.parametrize(("value", "meant"), [*((one, True) for one in YES), *((one, False) for one in NO)])
def test_words_and_numbers_that_say_yes_or_no(value: object, meant: bool) -> None:
    assert yes_or_no(value, "n4") is meant
    if value is not None:
        assert Settings.of(n4=value, self_check=value) == Settings(n4=meant, self_check=meant)


@pytest.mark.parametrize("value", NEITHER)
def test_what_says_neither_is_one_line(value: object) -> None:
    with pytest.raises(SettingsError, match=r"^n4: must be yes or no \(true/false, on/off, yes/no, 1/0\), got"):
        yes_or_no(value, "n4")


@pytest.mark.parametrize("name", ["n4", "self_check", "guided", "grain", "align", "correct_slices", "bias_corrected"])
def test_the_text_false_of_a_bundles_command_line_means_no(name: str) -> None:
    config = ConfigParser()
    config.read_config(ROOT / "configs" / "inference.yaml")
    samples = {"samples": 1} if name in ("guided", "grain") else {}
    config.update({name: "false", **samples})
    assert getattr(config.get_parsed_content("settings"), name) is False


@pytest.mark.parametrize("value", ["false", "off", 0, "no", False])
def test_no_overwriting_where_it_is_said_in_words(value: object, make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan()
    (tmp_path / "scan_superres.nii.gz").write_bytes(b"mine")
    with pytest.raises(ScanError, match="output must not exist, it does"):
        find_scans(str(scan), tmp_path, value)  # type: ignore[arg-type]
    with pytest.raises(ScanError, match="output must not exist, it does"):
        check_output(tmp_path / "scan_superres.nii.gz", overwrite=value)  # type: ignore[arg-type]
    assert find_scans(str(scan), tmp_path, "yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["on", "off", "true", "false", "yes", "no", "1", "0"])
def test_the_commands_take_the_same_words(value: str) -> None:
    arguments = parser(["superres"]).parse_args(["superres", "a", "b", "--self-check", value])
    assert arguments.self_check is yes_or_no(value, "")


def test_the_command_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser(["superres"]).parse_args(["superres", "a", "b", "--self-check", "maybe"])
    assert caught.value.code == 2 and "must be yes or no" in capsys.readouterr().err


def test_other_programs_say_yes_and_no_too() -> None:
    from bida.experiment import Experiment
    from bida.microscopy.tasks import row_task

    assert Experiment(Path("data"), Path("out"), n4="false").n4 is False  # type: ignore[arg-type]
    assert row_task("diffusion", mask_channel="no").mask_channel is False  # type: ignore[arg-type, attr-defined]
    with pytest.raises(BidaError, match="n4: must be yes or no"):
        Experiment(Path("data"), Path("out"), n4="nope")  # type: ignore[arg-type]
