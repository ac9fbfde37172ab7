"""Run a fixed list of small commands under a state of the code, and compare what two states give, byte for byte.

    python benchmarks/same_bytes.py run OUT.json [--tree DIR] [--only NAME ...]
    python benchmarks/same_bytes.py compare BEFORE.json AFTER.json [--only NAME ...]

`run` makes small scans and stacks, runs every command of RUNS on them under the code of a checkout (this one without
--tree), and prints a SHA-256 of each run: of its printed text and of all files that it wrote, without times, versions
and paths; beside it the seconds of CPU. The arrays go to a folder beside OUT.json. It takes six minutes on two cores.
`compare` says of every run whether it is the same, which part differs first, and by how much of the range an array
differs at most; it ends with 1 where a run differs, fails or is missing.

Left out, since they don't repeat themselves: `adapt`, which trains for a time, and the files of `export`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
import torch
from made_inputs import make_inputs
from matplotlib.image import imread
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parents[1]
THREADS = 2
FIXED = "--device cpu --dtype float32"
SUPERRES = f"bida superres {FIXED}"
PYTHON = (
    "python \"import bida; result = bida.superres('../inputs/mouse.nii.gz', device='cpu', dtype='float32', OPTIONS); "
    "result.save('out.nii.gz')\""
)
SMALL_PRIOR = (
    "--set 'network#bare#channels=[64]' --set 'network#bare#blocks=1' --set 'network#guided#channels=32' "
    "--set 'network#guided#blocks=1' --set steps_per_epoch=3 --set epochs=1 --set batch_size=2 --set 'crop=[16, 16]' "
    "--set warmup=2 --set dtype=float32"
)
MASKED = (
    "bida train-masked ../inputs/stack.tif --val '../inputs/stack.tif[0:8]' --output weights "
    "--config {tree}/configs/masked_small.yaml --set 'widths=[8, 16]' --set 'crop=[8, 8]' --set steps_per_epoch=4 "
    "--set batch_size=2 --set warmup=2 --set epochs=1 --set 'validate#dataset#length=4'"
)
COMMANDS = ("", "superres", "simulate", "info", "evaluate", "strip", "volumes", "demo", "adapt", "train", "export",
            "isotropy", "train-masked", "superres-masked", "evaluate-masked")  # fmt: skip
TILES = "--tile 32 --overlap 8"
EVALUATE = "float32 evaluate --data ../inputs/bids --out out --device cpu --factors 2.5"
# Name to commands, which run in a folder of their own. The first word is a key of PROGRAMS.
RUNS: dict[str, list[str]] = {
    "help": [f"bida {command} --help" for command in COMMANDS],
    "errors": ["bida superres nowhere.nii.gz out.nii.gz", "bida superres ../inputs/mouse.nii.gz out.nii.gz --axis R"],
    "mouse": [f"{SUPERRES} ../inputs/mouse.nii.gz out.nii.gz --preview preview.png"],
    "head": [f"{SUPERRES} ../inputs/head.nii.gz out.nii.gz"],
    "oblique": [f"{SUPERRES} ../inputs/oblique.nii.gz out.nii.gz --bias-corrected"],
    "simulate": ["bida simulate ../inputs/bids/sub-01/anat/sub-01_T2w.nii.gz thick.nii.gz --factor 3.5 --axis S "
                 "--thickness 0.9 --profile box --noise 20 --seed 5"],
    "like": ["bida simulate ../inputs/like.nii.gz thick.nii.gz --factor 5",
             f"{SUPERRES} thick.nii.gz out.nii.gz --like ../inputs/like.nii.gz"],
    "noise": [f"{SUPERRES} ../inputs/head.nii.gz out.nii.gz --noise 30 --samples 1"],
    "paper": [f"{SUPERRES} ../inputs/mouse.nii.gz out.nii.gz --preset paper --steps 4"],
    "uncertainty": [f"{SUPERRES} ../inputs/mouse.nii.gz out.nii.gz --samples 2 --uncertainty sd.nii.gz"],
    "step": [f"{SUPERRES} ../inputs/mouse.nii.gz out.nii.gz --fusion step"],
    "alternate": [PYTHON.replace("OPTIONS", "fusion='alternate', eta=0.5")],
    "bare": [f"{SUPERRES} ../inputs/mouse.nii.gz out.nii.gz --no-n4 --self-check off --samples 1 --steps 1"],
    "sagittal": [f"{SUPERRES} ../inputs/sagittal.nii.gz out.nii.gz --thickness 0.6 --gap 0.15 --profile gaussian"],
    "integers": [f"{SUPERRES} ../inputs/integers.nii.gz out.nii.gz --keep-dtype --no-n4 --samples 1 --steps 2"],
    "4d": [f"{SUPERRES} ../inputs/4d.nii out.nii --volume 1 --scale-header 10 --spacing 0.2 --grain "
           "--samples 1 --steps 2"],
    "dicom": [f"{SUPERRES} ../inputs/dicom out.nii.gz --no-n4 --samples 1 --steps 2 --factor 4"],
    "python": [PYTHON.replace("OPTIONS", "samples=1, steps=1, seed=3")],
    "bundle": ["bundle run inference --config_file {tree}/configs/inference.yaml --input ../inputs/mouse.nii.gz "
               "--output_dir out --device_name cpu --dtype float32"],
    "info": [f"bida info ../inputs/head.nii.gz --self-check {FIXED}"],
    "evaluate": [f"{EVALUATE} --methods nearest cubic cubic+projection bida-draw bida-paper --strippers threshold "
                 "--metrics psnr ssim sharpness stitching residual cdsc"],
    "selfsr": [f"short-selfsr {EVALUATE.partition(' ')[2]} --methods linear selfsr --metrics psnr cdsc "
               "--no-n4 --subjects sub-01 --strippers builtin"],
    "volumes": ["bida volumes ../inputs/bids/sub-01/anat/sub-01_T2w.nii.gz --atlas ../inputs/bids "
                "--labels ../inputs/bids/derivatives/labels -o out.tsv --labels-out labels.nii.gz --atlases 1"],
    "train": [f"bida train ../inputs/bids --output weights {SMALL_PRIOR}"],
    "isotropy": ["bida isotropy ../inputs/stack.tif --json out.json --out spectra.png"],
    "masked-diffusion": [
        f"{MASKED} --set 'rows=[2, 3]'",
        f"bida superres-masked ../inputs/stack.tif out.ome.tif --model weights/model.pt --factor 2.5 --steps 3 "
        f"--eta 0.5 {TILES} {FIXED}",
        f"bida evaluate-masked ../inputs/stack.tif --out out --factors 4 --methods linear cubic own=weights/model.pt "
        f"--steps 2 --fusion step --crops 4 {TILES} {FIXED}",
    ],
    "masked-msunet": [
        f"{MASKED} --set 'rows=[2, 3]' --set method=msunet",
        f"bida superres-masked ../inputs/stack.tif out.nii.gz --model weights/model.pt --factor 3 "
        f"--blur {TILES} {FIXED}",
    ],
    "masked-e2e": [
        f"{MASKED} --set method=e2e",
        f"bida superres-masked ../inputs/stack.tif out.zarr --model weights/model.pt --factor 4 {TILES} {FIXED}",
    ],
}  # fmt: skip

# `find` gives the module that defines something, wherever a state of the code has it
MAIN = """
import os, sys
from importlib import import_module
import bida
def find(text):
    root = bida.__path__[0]
    for folder, _, names in os.walk(root, followlinks=True):
        for path in (os.path.join(folder, name) for name in names if name.endswith('.py')):
            with open(path, encoding='utf-8') as file:
                if text in file.read():
                    parts = os.path.relpath(path, os.path.dirname(root))[:-3].split(os.sep)
                    return import_module('.'.join(part for part in parts if part != '__init__'))
{more}
cli = import_module('bida.cli')
sys.exit((import_module('bida.cli.parser') if hasattr(cli, '__path__') else cli).main(sys.argv[1:]))
"""
# `evaluate` has no --dtype, and which arithmetic is faster is measured anew where no earlier run has kept it
FLOAT32 = "find('class Speed:').Speed.worthwhile = False"
# 1000 steps of training take minutes, and there is no option
SHORT = """
from dataclasses import fields
kind = find('class SelfSRSettings:').SelfSRSettings
kind.__init__.__defaults__ = tuple({'steps': 12}.get(each.name, each.default) for each in fields(kind))
"""
PROGRAMS = {
    "bida": ["-c", MAIN.replace("{more}", "")],
    "float32": ["-c", MAIN.replace("{more}", FLOAT32)],
    "short-selfsr": ["-c", MAIN.replace("{more}", FLOAT32 + SHORT)],
    "python": ["-c"],
    "bundle": ["-m", "monai.bundle"],
}
STATUS = {"errors": 2}  # where not 0
DROPPED = {"seconds", "versions", "bida", "time", "threads"}  # keys of JSON files that say when and where, not what
UNLIKE = ("events.out.tfevents.*", "checkpoint_*.pt")  # files with times in them
TIME = re.compile(r"\b\d+(\.\d+)? s\b")
TIME_CELL = re.compile("<td>[^<]*</td></tr>")  # a report's tables have the time last
# lines that MONAI logs, and the block of the masked experiment's table that has times
TIMED = re.compile(r"^(\d{4}-\d\d-\d\d .*\n|3D .* seconds .*\n(.+\n)*)", re.MULTILINE)
# of OME-TIFF, and of the temporary file whose name OME-Zarr keeps
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\.[0-9a-f]{32}\b")
Part = str | bytes | NDArray  # of what a run gave: a text or the bytes or the numbers of a file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("run", help="run the list under one state of the code")
    run.add_argument("out", type=Path, metavar="OUT.json")
    run.add_argument("--tree", type=Path, default=HERE, help="a checkout; default: this one")
    both = commands.add_parser("compare", help="compare two files of `run`")
    both.add_argument("before", type=Path, metavar="BEFORE.json")
    both.add_argument("after", type=Path, metavar="AFTER.json")
    for command in (run, both):
        command.add_argument(
            "--only", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="NAME", help="some runs"
        )
    given = parser.parse_args()
    if given.what == "compare":
        return compare(given.before, given.after, given.only)
    return run_all(given.out, given.tree.resolve(), given.only)


def run_all(out: Path, tree: Path, names: list[str]) -> int:
    """Do runs under the code of a checkout; write what they gave, and return 1 where one failed."""
    arrays = out.with_suffix("")
    arrays.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        make_inputs(work / "inputs")
        environment = environment_of(tree, work)
        for name in names:
            start = cpu_seconds()
            parts, error = do(name, work / name, tree, environment)
            known = {place: described(part) for place, part in parts.items()}
            found[name] = {"seconds": round(cpu_seconds() - start, 1), "error": error, "parts": known}
            found[name]["sha256"] = digest(json.dumps(known, sort_keys=True))
            numbers: dict[str, Any] = {place: part for place, part in parts.items() if isinstance(part, np.ndarray)}
            np.savez_compressed(arrays / f"{name}.npz", **numbers)
            print(f"{name:<18}{found[name]['seconds']:6.1f} s  {error or found[name]['sha256']}", flush=True)
            out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"{sum(each['seconds'] for each in found.values()):.0f} s in all")
    return int(any(each["error"] for each in found.values()))


def cpu_seconds() -> float:
    """Return the time that processes which ended have taken, of all cores."""
    times = os.times()
    return times.children_user + times.children_system


def environment_of(tree: Path, work: Path) -> dict[str, str]:
    """Return the environment in which Python imports the package from a checkout, as the wheel would lay it out."""
    package = work / "package" / "bida"
    package.mkdir(parents=True)
    folders = [tree / name for name in ("transforms", "eval", "configs", "models")]
    for path in [*(tree / "bundle").iterdir(), *(folder for folder in folders if folder.is_dir())]:
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = package.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info" / "METADATA"
    metadata.parent.mkdir()  # the code asks for its version
    metadata.write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    threads["OMP_WAIT_POLICY"] = "PASSIVE"  # changes no result; spinning threads are slow beside other work
    threads["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(THREADS)
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120", "PYTHONUTF8": "1"}
    own = {"PYTHONPATH": str(package.parent), "PYTHONHASHSEED": "0", "XDG_CACHE_HOME": str(work / "cache")}
    return {**os.environ, **threads, **quiet, **own}


def do(name: str, folder: Path, tree: Path, environment: Mapping[str, str]) -> tuple[dict[str, Part], str | None]:
    """Run the commands of a run in a folder; return what they gave by place, and the last line of an error."""
    folder.mkdir()
    how: dict[str, Any] = {"cwd": folder, "env": environment, "encoding": "utf-8", "errors": "replace"}
    printed = ""
    for command in RUNS[name]:
        program, *words = shlex.split(command.replace("{tree}", shlex.quote(str(tree))))
        call = [sys.executable, *PROGRAMS[program], *words]
        ended = subprocess.run(call, capture_output=True, **how)
        if ended.returncode != STATUS.get(name, 0):
            last = (ended.stderr.strip() or "no message").splitlines()[-1]
            return {}, f"status {ended.returncode}: {last}".replace(str(folder.parent), "WORK")
        said = [line for line in ended.stderr.splitlines() if line.startswith("bida: ")]
        printed += "\n".join([f"$ {command}", TIMED.sub("", ended.stdout), *said, ""])
    hidden = {str(folder.parent): "WORK", str(tree): "TREE"}
    # torch gives an archive the name of the temporary file
    hidden |= {digest(file.read_bytes()): f"SHA-256 of {file.name}" for file in folder.rglob("*.pt")}
    parts: dict[str, Part] = {"printed": TIME.sub("# s", printed)}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not any(file.match(pattern) for pattern in UNLIKE):
            parts |= read_parts(file, file.relative_to(folder).as_posix())
    for place, part in parts.items():
        if isinstance(part, str):
            for old, new in hidden.items():
                part = part.replace(old, new)
            parts[place] = UUID.sub("UUID", part)
    return parts, None


def read_parts(file: Path, place: str) -> dict[str, Part]:
    """Return what a file holds that a run repeats."""
    kind = "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix
    if kind in (".nii", ".nii.gz"):
        image: Any = nib.load(file)
        notes = [note.get_content() for note in image.header.extensions]
        header = f"{image.header}\n{image.affine.tolist()}\n{notes}\n{image.header.binaryblock.hex()}"
        stored = np.asarray(image.dataobj.get_unscaled()).tobytes()  # not the file's bytes: gzip's hold a time
        return {f"{place}, header": header, f"{place}, stored": stored, place: np.asarray(image.dataobj)}
    if kind == ".tif":
        with tifffile.TiffFile(file) as tiff:
            return {f"{place}, description": str(tiff.pages.first.description), place: tiff.asarray()}
    if kind == ".png":
        return {f"{place}, file": file.read_bytes(), place: imread(file)}
    if kind == ".npy":
        return {place: np.load(file)}
    if kind == ".pt":
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {f"{place}, {name}": value.numpy() for name, value in state.items()}
    if kind == ".json":
        return {place: json.dumps(without(json.loads(file.read_text(encoding="utf-8"))), indent=1, sort_keys=True)}
    if kind in (".csv", ".tsv"):
        lines = file.read_text(encoding="utf-8").splitlines()
        return {place: "\n".join(line for line in lines if "seconds" not in re.split("[,\t]", line))}
    if kind == ".html":
        return {place: TIME_CELL.sub("</tr>", TIME.sub("# s", file.read_text(encoding="utf-8")))}
    return {place: file.read_bytes()}


def without(value: Any) -> Any:
    """Return what was read from JSON without the keys that say when and where."""
    if isinstance(value, list):
        return [without(each) for each in value if not (isinstance(each, dict) and each.get("metric") == "seconds")]
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items() if key not in DROPPED}
    return value


def digest(content: Part) -> str:
    if isinstance(content, np.ndarray):
        content = f"{content.dtype}{content.shape}".encode() + content.tobytes()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def described(part: Part) -> dict[str, Any]:
    """Return a part as JSON can hold it: its hash, and the text, or the type, shape and extremes of an array."""
    found: dict[str, Any] = {"sha256": digest(part)}
    if isinstance(part, str):
        found["text"] = part
    elif isinstance(part, np.ndarray):
        ends = [float(part.min()), float(part.max())] if part.size else []
        found |= {"dtype": str(part.dtype), "shape": list(part.shape), "extremes": ends}
    return found


def compare(before: Path, after: Path, names: list[str]) -> int:
    """Print a table of two files' runs of some names; return 1 where one differs, fails or is missing."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    different = 0
    print(f"{'run':<18}{'':<10}{'of range':>10}  where most; what differs")
    for name in names:
        one, other = first.get(name), second.get(name)
        largest, where, reason = 0.0, "", ""
        if not (one and other):
            reason = f"is missing in {after if one else before}"
        elif one["error"] or other["error"]:
            reason = f"failed: {one['error'] or other['error']}"
        elif one["sha256"] != other["sha256"]:
            places = {*one["parts"], *other["parts"]}
            unlike = sorted(place for place in places if one["parts"].get(place) != other["parts"].get(place))
            largest, where = largest_difference(*(path.with_suffix("") / f"{name}.npz" for path in (before, after)))
            told = difference(one["parts"].get(unlike[0]), other["parts"].get(unlike[0]))
            reason = f"{len(unlike)} of {len(places)} parts, {unlike[0]}{told}"
        different += bool(reason)
        print(
            f"{name:<18}{'differs' if reason else 'same':<10}{largest:>10.3g}  {where + '; ' if where else ''}{reason}"
        )
    print(f"{different} of {len(names)} runs differ")
    return int(different > 0)


def difference(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    """Return the first line in which two texts differ, empty for other parts."""
    if one is None or other is None:
        return f": is there only {'after' if one is None else 'before'}"
    lines = zip(*(f"{part.get('text', '')}\n(end)".splitlines() for part in (one, other)))
    for a, b in lines:
        if a != b:
            start = max(0, next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a)) - 30)
            return f": {a[start : start + 80]!r} became {b[start : start + 80]!r}"
    return ""


def largest_difference(before: Path, after: Path) -> tuple[float, str]:
    """Return the largest difference of two arrays of one name, as a share of the first one's range, and that name."""
    found = [(0.0, "")]
    with np.load(before) as first, np.load(after) as second:
        for place in set(first.files) & set(second.files):
            a, b = (np.asarray(each[place], np.float64) for each in (first, second))
            if a.shape != b.shape:
                found.append((float("inf"), place))
            elif not np.array_equal(a, b, equal_nan=True):
                found.append((float(np.max(np.abs(a - b)) / (np.ptp(a) or 1.0)), place))
    return max(found)


if __name__ == "__main__":
    sys.exit(main())
