"""Compare all methods on one scan and on two, each in a process of its own: seconds, CPU seconds, memory and PSNR.

    python benchmarks/peers.py TRUTH ... [--methods NAME ...] [--factor 5] [--snr clean 10] [--runs 1] [--threads 1]
        [--eclare COMMAND] [--unires COMMAND] [--csv FILE]

TRUTH are isotropic volumes, in whose tissue results are compared with the volume itself, without the noise that its
slices get. Methods are those of `bida evaluate`, programs of others among them where they are installed (`eclare`,
`unires`): what can't run is said, and has no row. Two scans are the one and a second across it, for the methods that
take several; a method's time has its start in it. Seconds are medians of the runs, which go round the methods, memory
the largest. Rows that the CSV file has are not measured again. Writes build/bench/peers.md.
"""

from __future__ import annotations

import argparse
import math
import os
import pickle
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measure import Used, in_process, machine, write_tables
from noisy_scans import noise_of, quality, read_truth, snr_name, snr_of, thick_scan
from noisy_tables import Rows

from bida.experiment.methods import METHODS, Choices, label_of

COLUMNS = {"volume": "", "snr": "", "scans": "", "method": "", "psnr": ".2f", "seconds": ".1f", "cpu_s": ".1f",
           "peak_gib": ".2f", "machine": ""}  # fmt: skip
ACROSS, SECOND = 1, 2  # axes of the first and of the second scan
METHOD_OF = """
import pickle, sys
from bida.experiment.methods import METHODS
import numpy as np
name, scan, choices = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[2], METHODS[name].run(scan, choices))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, nargs="+")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--snr", type=snr_of, nargs="+", default=[math.inf, 10.0])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eclare", default=Choices.eclare)
    parser.add_argument("--unires", default=Choices.unires)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    choices = Choices(eclare=arguments.eclare, unires=arguments.unires, device="cpu")
    about = f"{machine(torch.device('cpu'))}, {arguments.threads} threads"
    rows = Rows(COLUMNS, arguments.csv)
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.threads))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for path in arguments.truth:
            truth = read_truth(path, ACROSS, work)
            for snr in arguments.snr:
                sigma = noise_of(truth, arguments.factor, snr)
                first, second = (
                    thick_scan(truth, truth.data, arguments.factor, sigma, work / f"{axis}.nii.gz", axis, axis)
                    for axis in (ACROSS, SECOND)
                )
                asked = [
                    (scans, one, scan)
                    for scans, scan in (("one", first), ("two", replace(first, others=(second,))))
                    for one in arguments.methods
                    if (METHODS[one].several if scan.others else METHODS[one].fewest == 1)
                    and not rows.has(volume=truth.name, snr=snr_name(snr), scans=scans, method=one)
                ]
                found: dict[tuple[str, str], list[Used]] = {}
                scores: dict[tuple[str, str], float] = {}
                for _ in range(arguments.runs):
                    for scans, one, scan in list(asked):
                        (work / "asked.pickle").write_bytes(pickle.dumps((one, scan, choices)))
                        words = [sys.executable, "-c", METHOD_OF, "asked.pickle", "out.npy"]
                        try:
                            used = in_process(words, environment, work)
                        except RuntimeError as error:
                            print(f"{one}, {scans}: not run: {error}", flush=True)
                            asked.remove((scans, one, scan))
                            continue
                        found.setdefault((scans, one), []).append(used)
                        scores[scans, one] = quality(np.load(work / "out.npy"), truth)
                for (scans, one), runs in found.items():
                    seconds, cpu_s, peak = zip(*runs)
                    rows.add({"volume": truth.name, "snr": snr_name(snr), "scans": scans, "method": one,
                              "psnr": scores[scans, one], "seconds": median(seconds), "cpu_s": median(cpu_s),
                              "peak_gib": max(peak), "machine": about})  # fmt: skip
    shown = rows.frame().assign(method=lambda frame: frame.method.map(label_of))
    print(write_tables(shown.to_dict("records"), "peers", f"Median of {arguments.runs} runs."))


if __name__ == "__main__":
    main()
