"""The priors' networks for other programs: ONNX for any runtime, TorchScript for libtorch and MONAI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from bida.diffusion.prior import CLASSES, PlanePrior, kind_of
from bida.diffusion.scriptable import CHANNELS, ScriptablePrior, example_inputs, quiet
from bida.errors import SettingsError
from bida.io.files import atomic, check_output, make_folder

FORMATS = ("onnx", "torchscript")
INPUTS = ("x", "timesteps", "classes")
ONNX_PACKAGES = ("onnx", "onnxscript")
SECOND_CHANNEL = "logarithm of the standard deviation of the error of the first channel, the prediction"


def export(prior: PlanePrior, folder: str | Path, kind: str, *, overwrite: bool = False) -> list[Path]:
    """Write the networks of a prior to a folder.

    As ONNX, ``guided.onnx`` and ``bare.onnx``, as TorchScript, ``model.ts`` with both. Inputs are x [B, C, H, W],
    float32, the times [B] and the classes [B] (`bida.diffusion.prior.condition_class`), int64; the output is the
    prediction [B, 1, H, W]; [B, 2, H, W] of a guided network that tells its error's spread, whose second channel is the
    logarithm of the standard deviation of the first one's error.

    Args:
        prior: A prior of a `bida.diffusion.resnet.NetworkPair`, on the CPU.
        folder: Made where it is missing.
        kind: One of `FORMATS`.
        overwrite: Replace existing files.

    Returns:
        The files.

    Raises:
        SettingsError: The format is unknown, or needs packages that are not installed.
        ScanError: A file exists or cannot be written.
    """
    if kind not in FORMATS:
        raise SettingsError(f"--format: must be one of {', '.join(FORMATS)}, got {kind!r}; choose one")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None] if kind == "onnx" else []
    if missing:
        raise SettingsError(f"--format onnx: needs {', '.join(missing)}, not installed; pip install 'bida-mri[export]'")
    names = ["model.ts"] if kind == "torchscript" else [f"{name}.onnx" for name in CHANNELS]
    suffixes = (".ts",) if kind == "torchscript" else (".onnx",)
    files = [check_output(make_folder(folder) / name, overwrite=overwrite, suffixes=suffixes) for name in names]
    if kind == "torchscript":
        with atomic(files[0]) as temporary, quiet():
            torch.jit.script(ScriptablePrior(prior)).save(str(temporary))
        return files
    for name, file in zip(CHANNELS, files):
        write_onnx(prior, name, file)
    return files


def write_onnx(prior: PlanePrior, name: str, file: Path) -> None:
    """Write one network of the pair, ``bare`` or ``guided``, for any batch and any size that its stride divides."""
    network = getattr(prior.networks["shared"], name)
    batch, height, width = (torch.export.Dim(axis, min=1) for axis in ("batch", "height", "width"))
    shapes = ({0: batch, 2: network.stride * height, 3: network.stride * width}, {0: batch}, {0: batch})
    with quiet():
        program = torch.onnx.export(
            network,
            example_inputs(CHANNELS[name], network.stride),
            dynamo=True,
            verbose=False,
            input_names=INPUTS,
            output_names=["prediction"],
            dynamic_shapes=shapes,
        )
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned nothing for the {name} network")
    program.model.metadata_props.update(properties(prior, name))
    with atomic(file) as temporary:
        program.save(temporary)


def properties(prior: PlanePrior, name: str) -> dict[str, str]:
    """Return how the output of a network of the pair, ``bare`` or ``guided``, is to be read: metadata of its file."""
    network = getattr(prior.networks["shared"], name)
    prediction, timesteps, schedule = kind_of(prior.kind)
    second = {"second_channel": SECOND_CHANNEL} if getattr(network, "spread", None) is not None else {}
    return {
        "prediction": prediction,
        **second,
        "timesteps": str(timesteps),
        "schedule": schedule,
        "classes": str(CLASSES),
        "stride": str(network.stride),
        "weights_sha256": prior.weights_sha256,
    }
