"""Restore a scan on a device that is not the CPU and has no float64, as Apple's mps, and compare with the CPU.

    python tests/far_device.py SCAN OPTIONS

OPTIONS are a dict of superres's arguments. The device computes on the CPU, in tensors that are elsewhere for all that
looks at them: they do not mix with the CPU's, and float64 is refused. By PyTorch's way of making devices in Python,
which is an experiment of theirs; in a process of its own, for such a device stays. Prints the largest difference,
of the range.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "far"


class Module(backend_registration._DummyBackendModule):
    """What PyTorch asks of a kind of device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Far(torch.Tensor):
    """A tensor of the device; `near` holds its numbers."""

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        if near.dtype == torch.float64:
            raise TypeError("the device has no float64")
        form = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        far = torch.Tensor._make_wrapper_subclass(cls, near.size(), device=torch.device(NAME, 0), **form)
        far.near = near
        return far

    def tolist(self) -> Any:
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the CPU, where a tensor of the device or the device's name is among its arguments."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    far = [one for one in tensors if isinstance(one, Far)]
    name, place = func.name(), kwargs.get("device")
    if not far and not names(place):
        return func(*args, **kwargs)
    travels = name in ("aten::copy_", "aten::_to_copy")
    if far and not travels and "index" not in name:  # as on other devices, the CPU's indices and numbers are taken
        mixed = [one for one in tensors if not isinstance(one, Far) and one.ndim > 0]
        assert not mixed, f"{name}: tensors of the device and of the CPU"
    if place is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda one: one.near if isinstance(one, Far) else one, (args, kwargs))
    made = func(*args, **kwargs)
    if name == "aten::_local_scalar_dense" or not (names(place) if place is not None else far):
        return made
    known = {id(one.near): one for one in tensors if isinstance(one, Far)}  # what was changed in place
    known |= {id(one): one for one in tensors if name == "aten::copy_" and not isinstance(one, Far)}
    return tree_map(lambda one: known[id(one)] if id(one) in known else wrapped(one), made)


def wrapped(one: Any) -> Any:
    return Far(one) if isinstance(one, torch.Tensor) else one


def names(place: Any) -> bool:
    return place is not None and torch.device(place).type == NAME


class Operations(TorchDispatchMode):
    """Sees what names the device without a tensor of it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Makers(TorchFunctionMode):
    """Sees what makes tensors of numbers, which no operation does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and names(kwargs.get("device")):
            place = kwargs.pop("device")
            return func(*args, **kwargs).to(place)
        return func(*args, **kwargs)


def main() -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    torch.inference_mode = lambda mode=True: torch.set_grad_enabled(not mode)  # whose tensors cannot be such ones
    torch.__future__.set_overwrite_module_params_on_conversion(True)

    import bida
    from bida.device import tried
    from bida.physics import operators

    operators.NO_FLOAT64.add(NAME)
    options = ast.literal_eval(sys.argv[2])
    with Operations(), Makers():
        for refused in (lambda far: far.double(), lambda far: far + torch.ones(1)):  # the device is what it says
            try:
                refused(torch.ones(1, device=NAME))
            except (TypeError, AssertionError):
                continue
            sys.exit("the device takes what it should not")
        assert tried(torch.device(NAME)).same, "the trial of mps"
        found = bida.superres(sys.argv[1], device=NAME, **options)
    assert found.record["device"].startswith(NAME)
    expected = bida.superres(sys.argv[1], device="cpu", dtype="float32", **options)
    print(np.abs(found.data - expected.data).max() / np.ptp(expected.data))


if __name__ == "__main__":
    main()
