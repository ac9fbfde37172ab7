"""The Model Zoo's rules for a bundle (its CONTRIBUTING.md and ci/verify_bundle.py), held by the zip that is built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import ROOT, MakeScan, load_benchmark
from monai.bundle import ConfigParser, load, verify_metadata, verify_net_in_out
from test_imports import imported

from bida import superres
from bida.diffusion.load import load_prior, prior_of

SCHEMA = ROOT / "zoo" / "metadata_schema_20240725.json"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNIT_TEST = ROOT / "zoo" / "test_rodent_mri_super_resolution.py"
HEADINGS = [  # of docs/readme_template.md, those that are not optional
    "# ",
    "### **Authors**",
    "### **Tags**",
    "## **Model Description**",
    "## **Data**",
    "#### **Preprocessing**",
    "## **Performance**",
    "## **System Configuration**",
    "## **Limitations**",
    "## **References**",
]


BUILD = load_benchmark("build", "zoo")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, its code as it lies in the repository."""
    return BUILD.build(tmp_path_factory.mktemp("zoo"), style=False)


@pytest.fixture(scope="module")
def bundle(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unzipped bundle, in a folder that is empty but for it."""
    folder = tmp_path_factory.mktemp("unzipped")
    zipfile.ZipFile(archive).extractall(folder)
    (one,) = folder.iterdir()
    return one


@pytest.fixture(scope="module")
def metadata(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def alone(bundle: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the bundle's package alone: the one that is installed here is not seen."""
    places = {"PYTHONPATH": str(bundle), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", *map(str, words)], capture_output=True, text=True, cwd=cwd, env=os.environ | places,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_it_has_the_name_and_the_files(archive: Path, bundle: Path, metadata: dict[str, Any]) -> None:
    assert archive.name == f"{bundle.name}_v{metadata['version']}.zip"
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", bundle.name)
    assert metadata["name"] != bundle.name  # a display name for the model browser
    required = ["LICENSE", "configs/metadata.json", "models/model.pt", "docs/README.md", "docs/data_license.txt"]
    configs = [f"configs/{name}.{ending}" for name in ("inference", "train") for ending in ("json", "yaml")]
    assert [name for name in required + configs if not (bundle / name).is_file()] == []
    assert sorted(path.name for path in bundle.iterdir()) == ["LICENSE", "bida", "configs", "docs", "models"]


def test_no_file_is_larger_than_25_mb(bundle: Path) -> None:
    assert max(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) <= 25e6


def test_the_version_is_in_the_changelog(metadata: dict[str, Any]) -> None:
    assert metadata["version"] == PROJECT["version"] == next(iter(metadata["changelog"]))


def test_the_metadata_fits_the_schema(bundle: Path, metadata: dict[str, Any], tmp_path: Path) -> None:
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(SCHEMA))
    (tmp_path / "bad.json").write_text(json.dumps({**metadata, "network_data_format": {"inputs": {}}}))
    with pytest.raises(ValueError, match="'outputs' is a required property"):
        verify_metadata(meta_file=str(tmp_path / "bad.json"), filepath=str(SCHEMA))


def test_the_figures_are_those_of_the_evaluation(bundle: Path, metadata: dict[str, Any]) -> None:
    figures = metadata["eval_metrics"]
    assert len(figures) == 12
    card = (ROOT / "models" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| bida mean | 26.20 ± 0.02 | {figures['psnr_brain_5x_clean_bida']:.2f} ± " in card
    gain = figures["psnr_brain_5x_clean_gain"]
    assert f"| {gain:.2f} |" in (bundle / "docs" / "README.md").read_text(encoding="utf-8")


def test_the_packages_are_those_that_the_project_declares(metadata: dict[str, Any]) -> None:
    declared = {re.match(r"[\w-]+", one)[0] for one in PROJECT["dependencies"]}  # type: ignore[index]
    assert {"torch", "monai", "numpy", *metadata["required_packages_version"]} == declared
    assert "optional_packages_version" not in metadata  # MONAI puts it in the place of what is required


def test_inference_has_the_keys(bundle: Path) -> None:
    config = ConfigParser.load_config_file(str(bundle / "configs" / "inference.json"))
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir"} <= config.keys()


def test_training_has_the_keys(bundle: Path) -> None:
    config = ConfigParser.load_config_file(str(bundle / "configs" / "train.json"))
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "val_interval"} <= config.keys()
    assert {"trainer", "dataset", "handlers", "preprocessing", "inferer"} <= config["train"].keys()
    assert {"evaluator", "handlers", "dataset", "preprocessing", "inferer", "key_metric"} <= config["validate"].keys()
    assert "max_epochs" in config["train"]["trainer"]
    assert "data" in config["train"]["dataset"].keys() & config["validate"]["dataset"].keys()
    (validation,) = (one for one in config["train"]["handlers"] if one["_target_"] == "ValidationHandler")
    assert validation["interval"] == "@val_interval"


def test_json_says_what_yaml_says(bundle: Path) -> None:
    files = sorted((bundle / "configs").glob("*.yaml"))
    assert len(files) == len(BUILD.CONFIGS)
    for file in files:
        said = [ConfigParser.load_config_file(str(file.with_suffix(ending))) for ending in (".yaml", ".json")]
        assert said[0] == said[1], file.name


def test_no_path_of_a_person_is_in_it(bundle: Path) -> None:
    texts = [path for path in bundle.rglob("*") if path.suffix in {".py", ".md", ".txt", ".json", ".yaml", ".conf"}]
    assert len(texts) > 100
    found = [path.name for path in texts if re.search(r"/(home|Users|root)/\w", path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_readme_follows_the_template(bundle: Path) -> None:
    lines = iter((bundle / "docs" / "README.md").read_text(encoding="utf-8").splitlines())
    assert [heading for heading in HEADINGS if not any(line.startswith(heading) for line in lines)] == []


def test_every_named_import_is_in_the_bundle(bundle: Path) -> None:
    """The zip's package knows itself without `bida.configs` and `bida.models`, which lie beside it there."""
    names = set[str]()
    for file in (bundle / "bida").rglob("*.py"):
        names |= {name for name in imported(file.read_text(encoding="utf-8")) if name.startswith("bida.")}
    assert {name for name in names if re.match(r"bida\.(configs|models)\b", name)} == set()


def test_the_network_takes_and_gives_what_the_metadata_says(bundle: Path) -> None:
    configs = bundle / "configs"
    for size in (1, 3):
        verify_net_in_out(
            "network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device="cpu", n=size
        )


def test_load_gives_the_released_network(bundle: Path) -> None:
    network = load(bundle.name, bundle_dir=bundle.parent, device="cpu").set_dtype("float32")
    x = torch.rand(2, 9, 16, 24)
    with torch.no_grad():
        assert torch.equal(network(x), load_prior(prior_of(), None, torch.device("cpu"), "float32")(x))


@pytest.mark.slow
def test_the_documented_command_restores_a_scan(bundle: Path, make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan()
    readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    python -m (monai.bundle run inference .*)$", readme, re.MULTILINE)
    words = line.replace("SCAN", str(scan)).replace("DIR", str(tmp_path / "out")).split()
    alone(bundle, "-m", *words, cwd=bundle)
    written = nib.load(tmp_path / "out" / "scan_superres.nii.gz")
    expected = superres(scan)
    np.testing.assert_allclose(written.get_fdata(), expected.data, rtol=1e-5)
    record = json.loads((tmp_path / "out" / "scan_superres.json").read_text())
    assert record["versions"]["bida"] == PROJECT["version"]
    assert alone(bundle, "-m", "bida", "--version", cwd=tmp_path).stdout.startswith(f"bida {PROJECT['version']}, ")


DOORS = """
import bida
from monai.bundle import ConfigWorkflow, create_workflow, run_workflow

root, scan, out = {root!r}, {scan!r}, {out!r}
assert bida.__file__.startswith(root), bida.__file__
given = dict(workflow_type="infer", bundle_root=root, input=scan, n4=False, self_check=False)
config = root + "/configs/inference.json"
workflow = create_workflow(config_file=config, output_dir=out + "/created", **given)
workflow.run()
workflow.finalize()
run_workflow(config_file=config, output_dir=out + "/run", **given)
workflow = ConfigWorkflow(config_file=config, output_dir=out + "/config", **given)
workflow.initialize()
workflow.run()
"""


@pytest.mark.slow
def test_every_door_of_monai_from_another_directory(bundle: Path, make_scan: MakeScan, tmp_path: Path) -> None:
    code = DOORS.format(root=str(bundle), scan=str(make_scan()), out=str(tmp_path))
    alone(bundle, "-c", code, cwd=tmp_path)
    volumes = [nib.load(tmp_path / door / "scan_superres.nii.gz").get_fdata() for door in ("created", "run", "config")]
    assert volumes[0].shape == (20, 40, 18)
    assert all(np.array_equal(volumes[0], one) for one in volumes)


@pytest.mark.slow
def test_the_standard_exports(bundle: Path, tmp_path: Path) -> None:
    configs = [
        "--ckpt_file", bundle / "models" / "model.pt", "--meta_file", bundle / "configs" / "metadata.json",
        "--config_file", bundle / "configs" / "inference.json",
    ]  # fmt: skip
    for command, name in (("ckpt_export", "model.ts"), ("onnx_export", "model.onnx")):
        flags = ["--net_id", "network_def", "--filepath", tmp_path / name, *configs]
        alone(bundle, "-m", "monai.bundle", command, *flags, cwd=tmp_path)
    import onnxruntime

    x = torch.rand(1, 9, 8, 8)
    with torch.no_grad():
        expected = load_prior(prior_of(), None, torch.device("cpu"), "float32")(x)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), expected, rtol=0, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_unit_test_that_the_zoo_gets(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / bundle.name).symlink_to(bundle)
    alone(bundle, UNIT_TEST, cwd=tmp_path)


@pytest.mark.slow
def test_the_zoo_s_linters_are_content(tmp_path: Path) -> None:
    BUILD.build(tmp_path)
    bundle, style = tmp_path / BUILD.NAME, str(ROOT / "zoo" / "style.cfg")
    BUILD.black(bundle, "--check")
    BUILD.tool("isort", "--check", "--settings-file", style, bundle)
    BUILD.tool("flake8", "--config", style, bundle)
    for place in (UNIT_TEST,):
        BUILD.tool("flake8", "--config", style, place)
    alone(bundle, "-m", "bida", "--version", cwd=tmp_path)


def test_the_zip_is_the_same_each_time(archive: Path, tmp_path: Path) -> None:
    assert BUILD.build(tmp_path, style=False).read_bytes() == archive.read_bytes()
