"""`bida superres-masked`: restore an anisotropic microscopy stack."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from bida.cli.masked_options import OF_GRID, UNUSED, masked_options, masked_settings, note
from bida.cli.options import add_settings
from bida.errors import SettingsError
from bida.io.claim import claimed, will_write
from bida.io.files import check_output, sidecar_path, write_json
from bida.microscopy.settings import MaskedSettings, check_percentile, check_weights
from bida.microscopy.stacks.paths import check_stack, check_stack_output, split_range
from bida.progress import console_progress
from bida.provenance import Clock


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings
    sub.add_argument("input", metavar="STACK", help="the stack, as for isotropy")
    sub.add_argument("output", metavar="OUT", help="stack to write; a .json beside it records the run")
    sub.add_argument("--model", required=True, metavar="FILE", help="weights, from train-masked")
    add_settings(sub.add_mutually_exclusive_group(required=True), MaskedSettings, OF_GRID)
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="z, y and x voxel size of the stack; default: the file's")  # fmt: skip
    sub.add_argument("--clip-percentile", type=float, metavar="P",
                     help="the network sees each channel clipped at this percentile, as it was trained with "
                     "clip_percentile; acquired planes stay as they are")  # fmt: skip
    masked_options(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Restore a stack, and write it with its record."""
    given = vars(arguments)
    settings, overwrite = masked_settings(arguments), given.get("overwrite", False)
    clip_percentile = given.get("clip_percentile")
    output, sidecar = Path(arguments.output), sidecar_path(arguments.output)
    if output.resolve() == Path(split_range(arguments.input)[0]).resolve():
        raise SettingsError(f"{output}: output must be a file of its own, not the stack; rename it")
    check_stack_output(output, overwrite=overwrite)
    check_output(sidecar, overwrite=overwrite, suffixes=(".json",))
    check_percentile(clip_percentile)
    check_stack(arguments.input)
    check_weights(arguments.model)
    with claimed(output):
        restore_and_write(arguments, settings, output)


def restore_and_write(arguments: argparse.Namespace, settings: MaskedSettings, output: Path) -> None:
    """Restore a stack, and write it with its record; no other run writes them meanwhile."""
    given, sidecar = vars(arguments), sidecar_path(output)
    overwrite, clip_percentile = given.get("overwrite", False), given.get("clip_percentile")
    from bida.microscopy.load import load_stack
    from bida.microscopy.restore import inferer_of, load_masked, restoration_record, restore_stack
    from bida.microscopy.stacks.stack import check_voxel_type, write_stack

    clock = Clock()
    stack = load_stack(arguments.input, voxel_um=given.get("voxel_um"))
    check_voxel_type(output, stack.data.dtype)
    factor = settings.factor_for(stack)
    prior, inferer = load_masked(arguments.model, settings), inferer_of(settings, factor)
    unused = UNUSED.get(prior.method, ())
    for name in unused:
        if name in given:
            raise SettingsError(
                f"--{name}: must not be given for {arguments.model}, whose method {prior.method} does not sample, "
                f"got {given[name]}; leave it out"
            )
    inferer.progress = console_progress()
    clock.lap("read")
    result = restore_stack(stack, prior, inferer, clip_percentile)
    clock.lap("restore")
    will_write(output, [output, sidecar])
    write_stack(output, result, overwrite=overwrite)
    clock.lap("write")
    used = {name: value for name, value in (asdict(settings) | {"factor": factor}).items() if name not in unused}
    record = {
        "source": str(arguments.input),
        "weights": str(arguments.model),
        "clip_percentile": clip_percentile,
        "settings": used,
        **restoration_record(settings, prior, stack, result, factor),
        "seconds": dict(clock.seconds),
    }
    write_json(sidecar, record, overwrite=overwrite)
    for warning in record["warnings"]:
        note(warning)
    sizes = " x ".join(map(str, result.data.shape[1:]))
    spacing = " x ".join(f"{size:.4g}" for size in result.spacing_um)
    kept = f"{record['planes_on_grid']} of {record['planes']} planes as acquired"
    print(
        f"{output}: {sizes} voxels of {spacing} um (z, y, x) in {sum(clock.seconds.values()):.0f} s; "
        f"{'smoothed' if settings.blur else kept}"
    )
