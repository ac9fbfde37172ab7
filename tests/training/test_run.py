"""Configurations from the command line: values right or one line of error, and no path is ever run as code."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeScan
from monai.bundle import ConfigParser

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.training.run import as_literal, config_errors, override, read_config
from bida.training.start import names

CODE = "$__import__('pathlib').Path('ran').touch()"


def test_a_path_that_looks_like_code_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = [CODE, "@output_dir", "%config::x", "a,b", "stack.tif[0:40]", "/data/$HOME"]
    config = ConfigParser({"output_dir": "x", "folders": "$names(@dataset_dir)", "model": "$str(@one) + '/model.pt'"})
    config.globals["names"] = names
    config.update({"dataset_dir": as_literal(wanted), "one": as_literal(CODE)})
    assert config.get_parsed_content("folders") == wanted
    assert config.get_parsed_content("model") == f"{CODE}/model.pt"
    assert not (tmp_path / "ran").exists()


def test_names_are_split_at_commas_where_they_are_text() -> None:
    assert names("a, b") == ["a", "b"]
    assert names(Path("a,b")) == names([Path("a,b")]) == ["a,b"]
    assert names(["a", "b"]) == ["a", "b"]


def written(folder: Path, content: bytes) -> str:
    (folder / "own.yaml").write_bytes(content)
    return str(folder / "own.yaml")


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"learning_rate: 1e-4", 1e-4), (b"learning_rate: 1E4", 1e4), (b"learning_rate: -2.e+3", -2e3),
     (b"learning_rate: .5e1", 5.0),
     (b"learning_rate: '1e-4'", "1e-4"), (b"learning_rate: 1e-4x", "1e-4x"), (b'{"learning_rate": 1e-4}', 1e-4),
     (b"learning_rate: [1e-4, {a: 2e2}]", [1e-4, {"a": 200.0}]), (b"\xef\xbb\xbflearning_rate: 3", 3)],
)  # fmt: skip
def test_numbers_of_a_configuration(tmp_path: Path, content: bytes, value: object) -> None:
    assert read_config(written(tmp_path, content)) == {"learning_rate": value}


def test_merge_keys(tmp_path: Path) -> None:
    path = written(tmp_path, b"network: &n\n  a: 1\n  b: 1e-2\nother:\n  <<: *n\n  a: 3\n")
    assert read_config(path)["other"] == {"a": 3, "b": 0.01}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- 1\n", "names and their values, got list"), (b"", "got nothing"), (b"3: 4\n", "got the name 3"),
     (b"a: [1\n", "must be YAML or JSON"),
     (b"\xe9: 1\n", "must be YAML or JSON"), (b"a: 1\na: 2\n", "a stands twice"), (b"a: *b\n", "undefined alias"),
     (b"a: !!python/object:os.system x\n", "must be YAML or JSON"), (b"{[1]: 2}", "must be YAML or JSON"),
     (b"a: {b: 1, b: 2}\n", "b stands twice"), (b"[" * 5000, "must be YAML or JSON")],
)  # fmt: skip
def test_what_is_no_configuration_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SettingsError) as caught:
        read_config(path)
    assert message in str(caught.value) and str(caught.value).startswith(path) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"foo: 1\n", "nothing refers to foo"), (b"train#trainer#nothing#deep: 3\n", "values must fit the training")],
)
def test_a_value_without_a_place_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (tmp_path / "data").mkdir()
    path = written(tmp_path, content)
    assert main(["train", str(tmp_path / "data"), "--output", str(tmp_path / "run"), "--config", path]) == 2
    error = capsys.readouterr().err
    assert message in error and path in error and not (tmp_path / "run").exists()


def test_mistakes_of_the_user_are_told_and_others_stay() -> None:
    line = r"^own\.yaml: values must fit the training, got TypeError 'not this'"
    with pytest.raises(SettingsError, match=line), config_errors(["own.yaml"]):
        raise RuntimeError("Failed to evaluate") from TypeError("not\n this")
    with pytest.raises(TypeError), config_errors([]):
        raise TypeError("a fault of the program")
    with pytest.raises(SettingsError, match="crop: a line"), config_errors(["own.yaml"]):
        raise SettingsError("crop: a line")


@pytest.mark.parametrize(("text", "value"), [("a=[1e-4, 2]", [1e-4, 2]), ("a=nan", "nan"), ("a='1e-4'", "1e-4")])
def test_values_set_are_read_as_in_a_configuration(text: str, value: object) -> None:
    assert override(text) == ("a", value)


@pytest.mark.slow
def test_folders_that_look_like_code_are_trained_on(make_scan: MakeScan, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "$data" / "sub-a" / "anat"
    folder.mkdir(parents=True)
    make_scan((20, 24, 18), (0.2, 0.2, 0.2), name="t.nii.gz").rename(folder / "sub-a_T2w.nii.gz")
    sets = ["epochs=1", "steps_per_epoch=1", "batch_size=2", "warmup=0", "crop=[16, 16]", "network#bare#channels=[64]",
            "network#bare#blocks=1", "network#guided#channels=32", "network#guided#blocks=1", "geometries=8",
            "dtype=float32", "validate#dataloader#geometries=2", "validate#animals#split=train"]  # fmt: skip
    (tmp_path / "own.yaml").write_text("learning_rate: 1e-4\n")
    flags = ["--config", "own.yaml", *(part for text in sets for part in ("--set", text))]
    assert main(["train", "$data", "--output", "$(touch ran)", *flags]) == 0
    assert (tmp_path / "$(touch ran)" / "model.pt").exists() and not (tmp_path / "ran").exists()
