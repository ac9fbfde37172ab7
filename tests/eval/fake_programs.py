"""Volumes to strip, and programs that stand in for skull strippers."""

import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bida.errors import BidaError
from bida.eval.skullstrip import command
from bida.eval.skullstrip.strippers import StripperError

SHAPE = (20, 14, 17)
CODES = ["".join(c) for axes in itertools.permutations(["RL", "AP", "SI"]) for c in itertools.product(*axes)]
PRELUDE = """
import sys, time
import nibabel as nib, numpy as np
image = nib.load(sys.argv[1])
x = np.asarray(image.dataobj)
def write(values, affine=image.affine, path=sys.argv[-1]):
    nib.save(nib.Nifti1Image(values, affine), path)
"""


def is_gone(pid):
    """Tell whether a process has ended, waiting a little for the kernel to end it."""
    for _ in range(50):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def blob(shape=SHAPE):
    """Return a volume whose parts above 0.5 look different from every side."""
    x = np.random.default_rng(0).random(shape).astype(np.float32) * 0.4
    x[3:9, 2:7, 4:6] = 100
    x[3, 2:12, 4] = 50
    x[12, 3, 4:16] = 7
    return x


def ball(shape=(40, 44, 36), radius=12.0, centre=None):
    centre = np.array(shape) / 2 if centre is None else centre
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.linalg.norm(index - centre, axis=-1) <= radius


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program and returns the command that runs it."""

    def write(body, arguments="{in} {out}", prelude=PRELUDE):
        path = tmp_path / "program.py"
        path.write_text(prelude + body)
        return f"'{sys.executable}' '{path}' {arguments}"

    return write


@pytest.fixture
def in_process(monkeypatch):
    """Stand in for the run of a program by `body`, here; what was handed over is kept."""
    seen = SimpleNamespace(body="write((x > 0.5).astype(np.uint8))")

    def run(arguments, timeout_s, what):
        image = nib.load(arguments[1])
        seen.data, seen.affine = np.asarray(image.dataobj), image.affine
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", arguments)
            exec(PRELUDE + seen.body, {})

    monkeypatch.setattr(command, "run_external", run)
    return seen


def refusal(call, *arguments, error=StripperError):
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value) and isinstance(caught.value, BidaError)
    return str(caught.value)
