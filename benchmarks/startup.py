"""Measure what commands cost before and around their work, under two states of the code, in turns.

    python benchmarks/startup.py BEFORE [--tree DIR] [--runs 7]

BEFORE and DIR (this checkout without --tree) are folders of checkouts. The scan is noise of 16 x 16 x 4 voxels. Prints
the CPU seconds of each command, user and system, as medians, and the ratio pair by pair.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from same_bytes import HERE, cpu_seconds, environment_of

COMMANDS = {
    "info": ["info", "scan.nii"],
    "superres": ["superres", "scan.nii", "out.nii", "--no-n4", "--self-check", "off", "--overwrite"],
    "no such scan": ["superres", "nowhere.nii", "nothing.nii"],
}
# the parser's own `main`, wherever a state of the code has it
MAIN = "import bida.cli as c; {}; sys.exit(m())".format(
    "import importlib, sys; m = c.main if hasattr(c, 'main') else importlib.import_module('bida.cli.parser').main"
)
OURS = ("PYTHONDONTWRITEBYTECODE", "OMP_WAIT_POLICY", "XDG_CACHE_HOME")  # a user's runs have none of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--tree", type=Path, default=HERE)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        noise = np.random.default_rng(0).normal(100, 20, (16, 16, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, np.diag([0.15, 0.15, 0.75, 1])), work / "scan.nii")
        trees = [arguments.before.resolve(), arguments.tree.resolve()]
        environments = [environment_of(tree, work / str(number)) for number, tree in enumerate(trees)]
        for environment in environments:
            for variable in OURS:
                environment.pop(variable)
        for title, words in COMMANDS.items():
            for environment in environments:  # the first run writes byte code
                seconds(words, environment, work)
            pairs = [[seconds(words, one, work) for one in environments] for _ in range(arguments.runs)]
            before, after = (statistics.median(column) for column in zip(*pairs))
            ratios = sorted(now / was for was, now in pairs)
            print(
                f"{title}: {before:.2f} -> {after:.2f} s of CPU, ratio {statistics.median(ratios):.3f} "
                f"({ratios[0]:.2f}-{ratios[-1]:.2f}, {arguments.runs} pairs)",
                flush=True,
            )


def seconds(words: list[str], environment: dict[str, str], work: Path) -> float:
    """Return the CPU seconds of a command in a process of its own."""
    start = cpu_seconds()
    run = subprocess.run(
        [sys.executable, "-c", MAIN, *words], env=environment, cwd=work, capture_output=True, text=True
    )
    if run.returncode != (2 if "nowhere.nii" in words else 0):
        raise SystemExit(f"{' '.join(words)}: ended with {run.returncode}: {run.stderr[-300:]}")
    return cpu_seconds() - start


if __name__ == "__main__":
    main()
