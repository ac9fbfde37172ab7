"""Build the bundle of MONAI's Model Zoo: `make bundle` writes build/zoo/rodent_mri_super_resolution_v<version>.zip.

Code, configurations and weights are those of this repository. What the zoo wants otherwise is made here: the package in
one folder at the root, so that nothing but the declared packages has to be installed; the configurations as YAML and
JSON; black's and isort's own layout.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
NAME = "rodent_mri_super_resolution"
CONFIGS = ("inference", "train", "on_device", "release_train", "gpu_train", "multi_gpu_train")
WEIGHTS = ("model.pt",)
LARGEST = 25 * 10**6  # bytes of a file in the zoo
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
DATED = (2022, 5, 30, 0, 0, 0)  # of every file, so that one content makes one zip


def build(folder: Path, style: bool = True) -> Path:
    """Write the bundle's folder and its zip beside it; return the zip.

    Args:
        folder: Where both go; what an earlier build left there is replaced.
        style: Lay the code out as the zoo's linters want it.
    """
    metadata = json.loads((ROOT / "metadata.json").read_text(encoding="utf-8"))
    bundle = folder / NAME
    for old in folder.glob(f"{NAME}_v*.zip"):
        old.unlink()
    shutil.rmtree(bundle, ignore_errors=True)
    copy_code(bundle / "bida")
    copy_configs(bundle / "configs", metadata)
    for name in WEIGHTS:
        (bundle / "models").mkdir(exist_ok=True)
        shutil.copy(ROOT / "models" / name, bundle / "models")
    (bundle / "docs").mkdir()
    readme = (ROOT / "zoo" / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("<!-- performance -->", markdown(performance()))
    (bundle / "docs" / "README.md").write_text(readme, encoding="utf-8")
    shutil.copy(ROOT / "zoo" / "data_license.txt", bundle / "docs")
    shutil.copy(ROOT / "models" / "MODEL_CARD.md", bundle / "docs")
    shutil.copy(ROOT / "LICENSE", bundle)
    if style:
        lay_out(bundle)
    return packed(bundle, folder / f"{NAME}_v{metadata['version']}.zip")


def copy_code(package: Path) -> None:
    """Copy the folders of the package to where they are installed; weights and configurations lie beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
    for name, folder in folders.items():
        if name not in ("bida.configs", "bida.models"):
            place = package.joinpath(*name.split(".")[1:])
            shutil.copytree(ROOT / folder, place, ignore=LEFT_OUT, dirs_exist_ok=True)


def copy_configs(folder: Path, metadata: dict[str, Any]) -> None:
    """Write the configurations as YAML and as JSON, and the metadata with what the figures say."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "logging.conf", folder)
    for name in CONFIGS:
        source = ROOT / "configs" / f"{name}.yaml"
        shutil.copy(source, folder)
        write_json(folder / f"{name}.json", ConfigParser.load_config_file(str(source)))
    held = {name: metadata["weights_sha256"][name] for name in WEIGHTS}
    write_json(folder / "metadata.json", {**metadata, "weights_sha256": held, "eval_metrics": eval_metrics()})


def performance() -> pd.DataFrame:
    """Return PSNR, dB, in the brain of the validation mice, their mean, from docs/evaluation/results.csv."""
    results = pd.read_csv(ROOT / "docs" / "evaluation" / "results.csv")
    kept = results.query("metric == 'psnr' and region == 'brain' and scans == 'one' and method in ('cubic', 'bida')")
    table = kept.groupby(["factor", "snr", "method"]).value.mean().unstack()[["cubic", "bida"]]
    table["gain"] = table["bida"] - table["cubic"]
    table.index = pd.Index([f"{factor:g}x, {snr if snr == 'clean' else f'SNR {snr}'}" for factor, snr in table.index])
    return table


def markdown(table: pd.DataFrame) -> str:
    """Return a table of figures in Markdown, two digits behind the point."""
    lines = [["thick slices", *(f"{name}, dB" for name in table.columns)], ["---"] * (1 + len(table.columns))]
    lines += [[str(row), *(f"{value:.2f}" for value in values)] for row, values in zip(table.index, table.to_numpy())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def eval_metrics() -> dict[str, float]:
    """Return the figures of `performance` under names."""
    return {
        re.sub(r"[^\w.]+", "_", f"psnr_brain {row} {column}").lower(): round(float(value), 2)
        for row, values in performance().iterrows()
        for column, value in values.items()
    }


def write_json(file: Path, content: Any) -> None:
    """Write JSON as the zoo's bundles have it."""
    file.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def lay_out(bundle: Path) -> None:
    """Lay the code out as isort, black and flake8 want it under the zoo's settings; what it does stays the same."""
    style = str(ROOT / "zoo" / "style.cfg")
    tool("isort", "--quiet", "--settings-file", style, bundle)
    black(bundle)
    while excuse(bundle, style):  # a line that a mark made too long is laid out anew, and its mark may move
        black(bundle)


def black(bundle: Path, *flags: str) -> None:
    """Run black with the zoo's options."""
    tool("black", "--quiet", "--skip-magic-trailing-comma", "--line-length", "120", *flags, bundle)


def excuse(bundle: Path, style: str) -> int:
    """Mark the lines that keep the papers' names (A, T) or are otherwise meant as they are, for flake8.

    Returns:
        How many there were.

    Raises:
        SystemExit: A line has another fault.
    """
    found = subprocess.run(
        [sys.executable, "-m", "flake8", "--config", style, bundle], capture_output=True, text=True, check=False
    )
    marks: dict[tuple[str, int], set[str]] = {}
    for file, line, code in re.findall(r"^(.+?):(\d+):\d+: ([A-Z]+\d+) ", found.stdout, re.MULTILINE):
        if not re.match("B9|B008|N8", code):
            raise SystemExit(f"{file}: the code must pass flake8, line {line} has {code}; correct it")
        marks.setdefault((file, int(line)), set()).add(code)
    for (file, line), codes in marks.items():
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        code, _, before = lines[line - 1].partition("  # noqa: ")
        lines[line - 1] = f"{code}  # noqa: {','.join(sorted({*codes, *before.split(',')} - {''}))}"
        Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(marks)


def tool(*words: object) -> None:
    """Run a module of this Python, and stop where it fails."""
    subprocess.run([sys.executable, "-m", *map(str, words)], check=True)


def packed(bundle: Path, file: Path) -> Path:
    """Zip a bundle's folder, the folder itself at the root; return the file.

    Raises:
        SystemExit: A file is too large for the zoo.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(one for one in bundle.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
            if path.stat().st_size > LARGEST:
                raise SystemExit(f"{path}: a file must have at most {LARGEST} bytes, it has {path.stat().st_size}")
            entry = zipfile.ZipInfo(str(path.relative_to(bundle.parent)), DATED)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return file


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=ROOT / "build" / "zoo", metavar="DIR")
    print(build(arguments.parse_args().out))
