"""Released weights: found by name, loaded as a plain state dict, and checked against their hash."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bida.errors import WeightsError
from bida.io.files import atomic
from bida.io.released import released_path, weights_file
from bida.shipped import shipped

# what torch, or who reads what it read, says of a file that is none of ours
MISFITS = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, LookupError, EOFError, AttributeError,
    TypeError, ValueError, ArithmeticError, AssertionError,
)  # fmt: skip

UNCHANGED = ".bare."  # the network for slices without a guide


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Attributes:
        file: Where it lies.
        state: The state dict, on the CPU.
        sha256: Of the file's bytes, hexadecimal.
    """

    file: Path
    state: Mapping[str, Tensor]
    sha256: str


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def released_hash(name: str) -> str | None:
    """Return the SHA-256 that the bundle's metadata records for released weights, None where it records none."""
    metadata: dict[str, Any] = json.loads((shipped("configs") / "metadata.json").read_text(encoding="utf-8"))
    return metadata.get("weights_sha256", {}).get(name)


def read_weights(path: str | Path | None = None, name: str = "model.pt") -> Weights:
    """Read a state dict, its file once.

    Args:
        path: See `bida.io.released.weights_file`; the released ``name`` when None.
        name: Name of released weights, whose hash is checked also where ``path`` points at them.

    Raises:
        WeightsError: The file is missing or no state dict, or its hash is not the recorded one.
    """
    file = weights_file(path, name)
    if not file.is_file():
        raise WeightsError(f"{file}: weights must exist, none found; reinstall bida-mri, or name a file with --model")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{file}: weights must be readable, got '{error.strerror}'; check the permissions"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    shipped = [one for one in (name, file.name) if file.resolve() == released_path(one).resolve()]
    expected = released_hash(shipped[0]) if shipped else digest
    if digest != expected:
        raise WeightsError(
            f"{file}: SHA-256 must be {expected or 'recorded in metadata.json'}, got {digest}; "
            "the file is damaged or was replaced: reinstall bida-mri, or name your own weights with --model"
        )
    with misfits(file):
        state = unpacked(content)
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds something else than tensors by their names")
    if shipped and shipped[-1].startswith("model-"):  # earlier versions' files leave out the network that never changed
        state = {**{k: v for k, v in read_weights(None, name).state.items() if UNCHANGED in k}, **state}
    return Weights(file, state, digest)


def unpacked(content: bytes) -> Any:
    """Return what `torch.save` wrote, tensors on the CPU; nothing in it is larger than the file.

    Raises:
        ValueError, and others of `MISFITS`: It is none of torch's zip files, or unpacks or spreads to more than it has.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        if sum(part.file_size for part in packed.infolist()) > len(content):
            raise ValueError("its parts are packed, which torch does not do")
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    held = sum(_bytes_of(tensor) for tensor in _tensors(found))
    if held > 2 * len(content):
        raise ValueError(f"its tensors claim {held} bytes, the file has {len(content)}")
    return found


def _bytes_of(tensor: Tensor) -> int:
    if tensor.device.type != "cpu":
        raise ValueError(f"a tensor lies on {tensor.device}")
    return tensor.numel() * tensor.element_size()


def _tensors(content: Any) -> Iterator[Tensor]:
    """Return the tensors in dictionaries and lists."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value)


def check_size(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check that a state dict can fill a network that was made on torch's device ``meta``, where it takes no memory.

    Whether names and shapes agree is seen when it is loaded; older weights lack some.

    Raises:
        ValueError: The network is more than twice as large.
    """
    wanted, held = (sum(tensor.numel() for tensor in one.values()) for one in (network.state_dict(), state))
    if wanted > 2 * held:
        raise ValueError(f"the network that it names has {wanted} numbers, the file {held}")


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read the state of a run that was cut off.

    Raises:
        WeightsError: It cannot be read, or is damaged.
    """
    try:
        found = unpacked(Path(file).read_bytes())
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}")
    except (OSError, *MISFITS) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(
            f"{file}: a checkpoint must be whole, reading failed ({reason}); remove it, to go on from the one "
            "before it or anew"
        ) from error
    return found


def load_weights(network: nn.Module, source: Weights | str | Path | None = None, name: str = "model.pt") -> str:
    """Load a state dict, read already or from a file, into a network, in whose precision the weights end.

    Returns:
        The SHA-256 of the file.

    Raises:
        WeightsError: See `read_weights`, or the weights do not fit.
    """
    weights = source if isinstance(source, Weights) else read_weights(source, name)
    with misfits(weights.file):
        network.load_state_dict(weights.state)
    return weights.sha256


@contextmanager
def misfits(file: str | Path) -> Iterator[None]:
    """Raise what torch says of a file that is no state dict, or another network's, as an own error."""
    try:
        yield
    except MISFITS as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # torch names the class, and in the next line what is wrong
        reason = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
        raise WeightsError(
            f"{file}: weights must be a state dict of this network, loading failed ({reason}); "
            "use weights written by 'bida train' with the same network"
        ) from error


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write a network's state dict in half precision, atomically."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for key, value in network.state_dict().items()
    }
    save_checkpoint(state, file)


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> None:
    """Write the state of a network or a run as torch packs it, atomically.

    Raises:
        ScanError: the operating system refuses the write (disk full).
    """
    packed = io.BytesIO()  # torch's own writer says of a full disk that an assertion failed, or ends the process
    torch.save(state, packed)
    with atomic(path) as temporary:
        temporary.write_bytes(packed.getbuffer())
