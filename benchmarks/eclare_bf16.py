"""Run the published ECLARE on a processor, with bfloat16 where it has float16 on a GPU: options as of run-eclare.

    bida evaluate ... --eclare "ENV/bin/python benchmarks/eclare_bf16.py --n-patches 33333"

ENV is the environment in which `eclare` is installed. The program asks for the mixed precision of CUDA, which does
nothing on a processor; here it is that of the processor, which takes half the time where there are bfloat16 units.
Nothing else of it is changed.
"""

from __future__ import annotations

import runpy
import sys
from functools import partial
from pathlib import Path

import torch


def main() -> None:
    mixed = partial(torch.amp.autocast, "cpu", torch.bfloat16)
    torch.amp.autocast = lambda device: mixed()  # the program names the device alone
    runpy.run_path(str(Path(sys.executable).with_name("run-eclare")), run_name="__main__")


if __name__ == "__main__":
    main()
