"""`bida superres` as an interface of Nipype (Gorgolewski et al., Front Neuroinform 2011), made from its options.

from bida.nipype import SuperResolution

restored = SuperResolution(in_file="scan.nii.gz", noise="auto").run().outputs.out_file
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from bida.cli.inputs import FILE, FLAG, MIXED, NUMBER, SWITCH, TEXT, WHOLE, Input, inputs_of
from bida.io.files import result_path, sidecar_path, stem

try:
    from nipype.interfaces.base import (
        CommandLine,
        CommandLineInputSpec,
        File,
        InputMultiObject,
        TraitedSpec,
        isdefined,
        traits,
    )
    from nipype.interfaces.base.traits_extension import BasePath
except ImportError as error:
    reason = f"nipype must be installed, importing it failed with '{error}'; pip install 'bida-mri[nipype]'"
    raise ImportError(f"bida.nipype: {reason}") from None

NAMES = {"words": "in_file", "combine": "in_files", "out": "out_file"}  # as other interfaces call them
OF_MANY = ("workers", "scheduler", "json", "dry_run")  # Nipype has its own ways to run many


def _offered() -> dict[str, Input]:
    """Return the arguments that the interface has, by their names there."""
    return {NAMES.get(one.name, one.name): one for one in inputs_of("superres") if one.name not in OF_MANY}


def _trait(name: str, one: Input) -> Any:
    """Return the trait of an argument; a folder of DICOM is a path as a file is."""
    how: dict[str, Any] = {"desc": one.help, "argstr": one.flag or "%s"}
    if name in ("in_file", "in_files"):
        how |= {"xor": ["in_file", "in_files"], "mandatory": True, "position": 0}
        if name == "in_files":
            return InputMultiObject(BasePath(exists=True), **how)
        return BasePath(exists=True, **how | {"desc": "the scan: a file, or a folder of a DICOM series"})
    if name == "out_file":
        return File(genfile=True, **how | {"desc": "the file to write; default: named as the scan, in this folder"})
    if one.written:
        return File(**how)
    if one.kind == FILE:
        return BasePath(exists=True, **how)
    if one.kind in (FLAG, SWITCH):
        return traits.Bool(**how)
    if one.choices:
        return traits.Enum(*one.choices, **how)
    made = {NUMBER: traits.Float, WHOLE: traits.Int, TEXT: traits.Str}
    return traits.Union(traits.Float, traits.Str, **how) if one.kind == MIXED else made[one.kind](**how)


OPTIONS = _offered()


class SuperResolutionInputSpec(CommandLineInputSpec):  # type: ignore[misc]
    """The scan or scans, the file to write, and every option of the command."""


for _name, _one in OPTIONS.items():
    SuperResolutionInputSpec.add_class_trait(_name, _trait(_name, _one))


class SuperResolutionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """What a run has written, and what its record says of the result."""

    out_file = File(exists=True, desc="the isotropic volume")
    record = File(exists=True, desc="its record, JSON")
    uncertainty = File(exists=True, desc="standard deviation of the error")
    draws = traits.List(File(exists=True), desc="each draw, of keep_draws")
    preview = File(exists=True, desc="picture of scan and result")
    page = File(exists=True, desc="page to look at, of report")
    verdict = traits.Str(desc="what the self-check says of the result")
    warnings = traits.List(traits.Str, desc="what was assumed of the scan, or is unusual about the result")


class SuperResolution(CommandLine):  # type: ignore[misc]
    """Turn a thick-slice scan, or several of one animal and contrast, into an isotropic volume.

    The inputs are the options of `bida superres` under their names in ``bida.Settings``; ``in_file`` is the scan,
    ``in_files`` are several that make one volume. What the command refuses is a ``RuntimeError`` with its one line.

    Examples:
        >>> from bida.nipype import SuperResolution
        >>> SuperResolution(in_file="pyproject.toml", samples=4, n4=False).cmdline.split("superres ")[1]
        'pyproject.toml --no-n4 --output pyproject_superres.nii.gz --samples 4'
    """

    _cmd = f"{shlex.quote(sys.executable)} -m bida superres"  # of this Python, on whose path no `bida` needs to be
    input_spec, output_spec = SuperResolutionInputSpec, SuperResolutionOutputSpec

    def _run_interface(self, runtime: Any, correct_return_codes: Any = (0,)) -> Any:
        """Run the command; raise where it fails, for which Nipype's own looks in nodes alone."""
        runtime = super()._run_interface(runtime, correct_return_codes)
        if runtime.returncode not in correct_return_codes:
            self.raise_exception(runtime)
        return runtime

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> str | None:
        """Return an argument as a shell takes it, paths with spaces too."""
        if name not in OPTIONS:
            return super()._format_arg(name, trait_spec, value)
        one = OPTIONS[name]
        if one.kind == FLAG:
            return one.flag if value else one.off
        if one.kind == SWITCH:
            value = "on" if value else "off"
        values = value if isinstance(value, list) else [value]
        return " ".join([*([one.flag] if one.flag else []), *(shlex.quote(str(each)) for each in values)])

    def _gen_filename(self, name: str) -> str | None:
        """Return the name of the result where none is given: as of a run of many scans, in the current folder."""
        if name != "out_file":
            return None
        first = self.inputs.in_file if isdefined(self.inputs.in_file) else self.inputs.in_files[0]
        return str(result_path(Path(), first))

    def _list_outputs(self) -> dict[str, Any]:
        """Return the files that were written, and what the record says."""
        given, outputs = self.inputs, self.output_spec().get()
        out = Path(given.out_file if isdefined(given.out_file) else self._gen_filename("out_file") or "").absolute()
        outputs |= {"out_file": str(out), "record": str(sidecar_path(out))}
        for name in ("uncertainty", "preview"):
            if isdefined(getattr(given, name)):
                outputs[name] = os.path.abspath(getattr(given, name))
        if isdefined(given.keep_draws) and given.keep_draws:
            pattern = f"{stem(out)}_draw-*{out.name.removeprefix(stem(out))}"
            outputs["draws"] = sorted(map(str, out.parent.glob(pattern)))
        if isdefined(given.report) and given.report:
            outputs["page"] = str(out.with_name(f"{stem(out)}.html"))
        record = json.loads(sidecar_path(out).read_text(encoding="utf-8"))
        if record.get("verdict"):
            outputs["verdict"] = record["verdict"]
        outputs["warnings"] = list(record.get("warnings") or ())
        return outputs
