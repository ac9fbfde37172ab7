"""`bida adapt`: fine-tune the priors on the sharp slices of scans."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.cli.options import MACHINE, PLAN, STEPS, add_settings, preset_option, settings_of
from bida.errors import SettingsError
from bida.io.checkpoints import discard_used
from bida.io.claim import claimed
from bida.io.files import check_exists, check_output
from bida.io.released import weights_file
from bida.mri.settings import AUTO_MINUTES, Settings
from bida.progress import adapt_progress, say


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("scans", nargs="+", metavar="SCAN", help="scans to adapt to, alike in contrast and sequence")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.pt", help="weights to write, for --model")
    sub.add_argument("--minutes", type=float, default=AUTO_MINUTES, metavar="M",
                     help=f"time to spend ({AUTO_MINUTES:g})")  # fmt: skip
    # what is taught is what will be asked of the weights: the mean in one step, or draws
    add_settings(sub, Settings, (*PLAN, *STEPS, "samples", "grain", *MACHINE))
    preset_option(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Fine-tune the priors on the slices of scans, and write the weights."""
    settings = settings_of(arguments)
    output = check_output(arguments.output, overwrite=True, suffixes=(".pt",))
    if settings.model is not None and output.resolve() == weights_file(settings.model).resolve():
        raise SettingsError(f"{output}: output must be a file of its own, not the weights of --model; rename it")
    for scan in arguments.scans:
        check_exists(scan)
    with claimed(output):
        discard_used(output.with_suffix(".ckpt"), output)
        check_output(output, overwrite=arguments.overwrite, suffixes=(".pt",))
        adapt_and_write(arguments.scans, output, settings, arguments)


def adapt_and_write(scans: list[str], output: Path, settings: Settings, arguments: argparse.Namespace) -> None:
    """Fine-tune the priors, and write them; no other run writes them meanwhile."""
    from bida.device import choose_device
    from bida.diffusion.load import load_prior, prior_of
    from bida.io.weights import save_weights
    from bida.mri.adapt import adapt_prior
    from bida.mri.run import measured, way_of
    from bida.mri.sampler import BiplanarSampler

    device = choose_device(settings.device)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    way = way_of(settings, prior.stride)
    slices = [measured(way.there(scan)[0], prior) for scan in scans]
    checkpoint, sampler = output.with_suffix(".ckpt"), BiplanarSampler(settings)
    before = [sampler.check(one, prior) for one in slices]
    found = adapt_prior(prior, slices, arguments.minutes, settings, checkpoint, adapt_progress())
    save_weights(prior, output)
    checkpoint.unlink(missing_ok=True)
    for scan, one, first in zip(scans, slices, before):
        last = sampler.check(one, prior)
        if first is not None and last is not None:
            gain = last.gain_shrunk_db - first.gain_shrunk_db
            say(f"{scan}: {gain:+.2f} dB on slices that the priors have not seen")
    say(f"{output}: adapted to {len(scans)} scan(s) in {found['steps']} steps; use it with --model {output}")
