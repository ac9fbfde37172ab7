"""Kill commands at random moments, run them again, and see that they end right and that nothing is left behind.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--only NAME ...] [--folder DIR]

Every command of COMMANDS is run on small made data once without a break. Then, over again: a command is started in an
empty folder, killed after a random share of its time by SIGKILL or SIGTERM, and run again to its end. It is right if

- nothing that it started runs on, after SIGTERM it says `bida: stopped` and no more, with exit code 143,
- no file under a final name is another than that of the unbroken run (where a run repeats itself to the byte),
- the run again ends with 0, or says that all is there already, and
- the files are those of the unbroken run, no others, with the same content; no temporary folder is left.

A line a kill; it ends with 1 where one is wrong. On one core 60 kills take about 15 minutes. Linux alone.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tifffile
import torch
from made_inputs import make_inputs

SMALL = "--device cpu --dtype float32"
PRIOR = (
    "network#bare#channels=[64] network#bare#blocks=1 network#guided#channels=32 network#guided#blocks=1 "
    "steps_per_epoch=3 epochs=3 batch_size=2 crop=[16,16] warmup=2 dtype=float32 val_interval=1 "
    "validate#evaluator#epoch_length=1 validate#dataloader#length=1"
)
STRIP = "command:{python} {strip} {{in}} {{out}}"
STRIPPER = """
import sys, time
import nibabel as nib, numpy as np
image = nib.load(sys.argv[1])
values = np.asarray(image.dataobj)
time.sleep(0.3)
nib.save(nib.Nifti1Image((values > values.mean()).astype(np.uint8), image.affine), sys.argv[2])
"""
GRACE_S = 20.0  # after which a process that is still there counts as left; torch's own look for their parent every 5 s
LIMIT_S = 900.0  # for machines that others use, too


@dataclass(frozen=True)
class Command:
    """What is killed.

    Attributes:
        words: Arguments of `bida`, run in a folder of its own beside `inputs`.
        same: Files whose content is that of an unbroken run, as patterns.
        varies: Files that come in numbers of their own (logs), as patterns.
        check: What else must be true of the folder.
    """

    words: str
    same: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()
    check: Callable[[Path], None] = lambda folder: None


def adapted(folder: Path) -> None:
    """Check the weights of `adapt`, which trains for a time and doesn't repeat itself."""
    state = torch.load(folder / "own.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())


def restored_stack(folder: Path) -> None:
    """Check the stack of `superres-masked`, which trains for a time, too: its record and its weights are its own."""
    stack, record = tifffile.imread(folder / "out.ome.tif"), json.loads((folder / "out.ome.json").read_text("utf-8"))
    acquired = tifffile.imread(folder.parent / "inputs" / "stack.tif")
    assert record["settings"]["factor"] == 2 and record["training"]["steps"] > 0
    assert [list(stack.shape)] == [record["shape_czyx"][1:]] and (stack[::2] == acquired).all()
    assert record["weights_sha256"] == hashlib.sha256((folder / "out.ome.pt").read_bytes()).hexdigest()


def whole(folder: Path) -> None:
    """Check that the record is there, as JSON."""
    json.loads((folder / "out.json").read_text(encoding="utf-8"))


EVALUATE = (
    f"evaluate --data ../inputs/bids --out out --device cpu --subjects sub-01 --factors 2.5 --snr clean 20 "
    f"--methods nearest cubic --metrics psnr cdsc --no-n4 --atlases 0 --strippers '{STRIP}'"
)
RESULTS = ("out/results.csv", "out/sub-01/*/*.nii.gz", "out/sub-01/*.nii.gz")
COMMANDS = {
    "superres": Command(
        f"superres ../inputs/mouse.nii.gz out.nii.gz --uncertainty sd.nii.gz --preview out.png {SMALL}",
        ("*.nii.gz", "*.png"), check=whole,
    ),
    "superres-draws": Command(
        f"superres ../inputs/head.nii.gz out.nii.gz --samples 2 --steps 2 --keep-draws --no-n4 --self-check off "
        f"{SMALL}",
        ("*.nii.gz",), check=whole,
    ),
    "superres-many": Command(
        f"superres ../inputs/mouse.nii.gz ../inputs/head.nii.gz -o out --workers 1 --no-n4 --self-check off {SMALL}",
        ("out/*.nii.gz",),
    ),
    "evaluate": Command(EVALUATE, RESULTS),
    "evaluate-jobs": Command(f"{EVALUATE.replace(' 20', '')} --jobs 2", RESULTS),
    "train": Command(
        "train ../inputs/bids --output out " + " ".join(f"--set '{one}'" for one in PRIOR.split()),
        ("out/model.pt", "out/denoised/*"), ("out/events.*",),
    ),
    "adapt": Command(f"adapt ../inputs/mouse.nii.gz -o own.pt --minutes 0.08 --no-n4 {SMALL}", check=adapted),
    "superres-masked": Command(
        "superres-masked ../inputs/stack.tif out.ome.tif --factor 2 --minutes 0.08 --tile 32 --overlap 8 "
        f"--voxel-um 1 0.5 0.5 {SMALL}",
        check=restored_stack,
    ),
}  # fmt: skip


@dataclass
class Place:
    """A folder to run in, with the system's temporary files of its own, and a mark in what is started there."""

    folder: Path
    words: list[str]

    def __post_init__(self) -> None:
        """Make the folders."""
        self.mark, self.temporary = uuid.uuid4().hex, self.folder.with_name(f"{self.folder.name}-tmp")
        self.folder.mkdir()
        self.temporary.mkdir()

    def start(self) -> subprocess.Popen[str]:
        """Start the command."""
        own = {"BIDA_KILLS": self.mark, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        own["XDG_CACHE_HOME"] = str(self.folder.parent / "cache")
        command = [sys.executable, "-m", "bida", *self.words]
        pipe = subprocess.PIPE
        how = {"cwd": self.folder, "env": {**os.environ, **own}, "encoding": "utf-8", "errors": "replace"}
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, **how)

    def running(self) -> list[str]:
        """Return what still runs of what was started here."""
        return [entry for entry in os.listdir("/proc") if entry.isdigit() and self._marked(entry)]

    def _marked(self, process: str) -> bool:
        try:
            status = Path("/proc", process, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            return status != "Z" and self.mark.encode() in Path("/proc", process, "environ").read_bytes()
        except OSError:
            return False

    def left(self) -> list[str]:
        """Return the temporary files and folders that are left."""
        return sorted(path.name for path in self.temporary.iterdir())

    def names(self, command: Command) -> set[str]:
        """Return the files, without those whose number varies."""
        found = {path for path in self.folder.rglob("*") if path.is_file()}
        found -= {path for pattern in command.varies for path in self.folder.glob(pattern)}
        return {str(path.relative_to(self.folder)) for path in found}

    def contents(self, command: Command) -> dict[str, bytes]:
        """Return what is in the files that repeat themselves; packed ones unpacked, for their headers hold the time."""
        found = {path for pattern in command.same for path in self.folder.glob(pattern)}
        return {str(path.relative_to(self.folder)): content(path) for path in found if not path.name.startswith(".")}


def content(path: Path) -> bytes:
    """Return what is in a file, unpacked; of a table the rows that tell no time."""
    found = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix != ".csv":
        return found
    return b"".join(line for line in found.splitlines(True) if b"seconds," not in line)


def wrong(command: Command, place: Place, unbroken: Place, number: int, delay: float) -> Iterator[str]:
    """Kill a command after so many seconds, run it again; yield what is wrong."""
    expected, names = unbroken.contents(command), unbroken.names(command)
    process = place.start()
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        yield "did not end within 60 s"
        return
    if "Traceback" in said or "Exception ignored" in said:
        yield f"a traceback: {said[-2000:]}"
    if number == signal.SIGTERM and process.returncode not in (0, 143, -signal.SIGTERM):  # done, or not begun
        yield f"exit code {process.returncode}: {said[-300:]}"
    if process.returncode == 143 and said.splitlines()[-1] != "bida: stopped":
        yield f"last line '{said.splitlines()[-1]}'"
    limit = time.monotonic() + GRACE_S
    while place.running() and time.monotonic() < limit:
        time.sleep(0.2)
    if place.running():
        yield f"{len(place.running())} processes are left"
    if number == signal.SIGTERM and process.returncode == 143:
        left = [name for name in place.names(command) if Path(name).name.startswith(".bida")]
        left += set(place.left()) - set(unbroken.left())
        if left:
            yield f"left by SIGTERM: {left}"
    for name, found in place.contents(command).items():
        if name in expected and found != expected[name]:
            yield f"{name} is not whole after the kill"
    again = place.start()
    try:
        _, said = again.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        again.kill()
        again.communicate()
        yield f"run again it did not end within {LIMIT_S:g} s"
        return
    if again.returncode != 0 and not (again.returncode == 2 and "must not exist, it does;" in said):
        yield f"run again: exit code {again.returncode}: {said[-300:]}"
    if place.names(command) != names:
        yield f"files differ: {sorted(place.names(command) ^ names)}"
    found = place.contents(command)
    if found != expected:
        yield f"not those of the unbroken run: {sorted(n for n in expected if found.get(n) != expected[n])}"
    left = sorted(set(place.left()) - set(unbroken.left()))  # torch keeps a folder
    if left:
        yield f"temporary files are left: {left}"
    try:
        command.check(place.folder)
    except (OSError, ValueError, AssertionError) as error:
        yield f"{type(error).__name__} {error}"


def arguments_of(command: Command, folder: Path) -> list[str]:
    """Return a command's words."""
    import shlex

    strip = folder / "strip.py"
    strip.write_text(STRIPPER, encoding="utf-8")
    return [word.format(python=sys.executable, strip=strip) if "{" in word else word
            for word in shlex.split(command.words)]  # fmt: skip


def kill_all(folder: Path, kills: int, seed: int, names: list[str]) -> int:
    """Run everything; print a line a kill, and return how many went wrong."""
    chance, bad = random.Random(seed), 0
    make_inputs(folder / "inputs")
    unbroken, seconds = {}, {}
    for name in names:
        unbroken[name] = Place(folder / f"{name}-unbroken", arguments_of(COMMANDS[name], folder))
        start = time.monotonic()
        run = unbroken[name].start()
        _, said = run.communicate(timeout=LIMIT_S)
        seconds[name] = time.monotonic() - start
        if run.returncode != 0:
            raise SystemExit(f"{name}: must run without a break, got exit code {run.returncode}: {said[-500:]}")
        print(f"{name}: {seconds[name]:.1f} s unbroken, files {len(unbroken[name].names(COMMANDS[name]))}", flush=True)
    for count in range(kills):
        name, number = names[count % len(names)], (signal.SIGKILL, signal.SIGTERM)[count // len(names) % 2]
        delay = chance.uniform(0.05, 1.0) * seconds[name]
        place = Place(folder / f"{count}-{name}", unbroken[name].words)
        found = list(wrong(COMMANDS[name], place, unbroken[name], number, delay))
        bad += bool(found)
        print(f"{count + 1:3d} {name:14s} {number.name} at {delay:5.1f} s: {'; '.join(found) or 'right'}", flush=True)
    print(f"{kills} kills, {bad} wrong")
    return bad


def main() -> None:
    """Read the arguments, and run."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    arguments.add_argument("--folder", type=Path, help="a new folder, which is kept; by default one that goes")
    given = arguments.parse_args()
    if given.folder is not None:
        given.folder.mkdir()
        sys.exit(bool(kill_all(given.folder.resolve(), given.kills, given.seed, given.only)))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(bool(kill_all(Path(folder), given.kills, given.seed, given.only)))


if __name__ == "__main__":
    main()
