import pytest
import torch

from bida import device
from bida.cpu_speed import Int8Speed, Speed
from bida.errors import SettingsError
from bida.io.kept import Kept


def test_automatic_device_is_cuda_where_there_is_one():
    assert device.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("product", "convolution", "expected"),
    [(3.4, 4.0, "bfloat16"), (1.0, 4.0, "float32"), (4.0, 1.0, "float32"), (0.1, 0.1, "float32")],
)
def test_the_cpu_computes_in_what_is_fast_there(monkeypatch, product, convolution, expected):
    found = Kept(Speed(product, convolution), kept=True, problem="lost")
    monkeypatch.setattr(device, "bfloat16_speed", lambda: found)
    cpu = torch.device("cpu")
    choice = device.dtype_choice("auto", cpu)
    assert choice.dtype == device.choose_dtype("auto", cpu) == expected
    assert choice.how.startswith("measured by an earlier run on this machine: bfloat16 runs at")
    assert choice.warning == "lost"
    for name in ("float32", "bfloat16"):
        assert device.dtype_choice(name, cpu) == device.DtypeChoice(name, "as asked")


@pytest.mark.parametrize(("gain", "expected"), [(1.7, "int8"), (1.1, "bfloat16"), (0.0, "bfloat16")])
def test_int8_is_taken_where_it_is_offered_and_gains(monkeypatch, gain, expected):
    monkeypatch.setattr(device, "bfloat16_speed", lambda: Kept(Speed(3.4, 4.0), kept=True))
    monkeypatch.setattr(device, "int8_speed", lambda dtype: Kept(Int8Speed(gain, str(dtype)[6:]), False, "not kept"))
    cpu = torch.device("cpu")
    choice = device.dtype_choice("auto", cpu, int8=True)
    assert (choice.dtype, choice.floating, choice.warning) == (expected, "bfloat16", "not kept")
    assert choice.how.startswith("measured by an earlier run on this machine: bfloat16 runs at")
    assert "; measured: " in choice.how and "int8" in choice.how
    assert device.dtype_choice("auto", cpu).dtype == "bfloat16"
    for name in ("float32", "bfloat16"):
        assert device.dtype_choice(name, cpu, int8=True) == device.DtypeChoice(name, "as asked")


def test_int8_by_name(monkeypatch):
    monkeypatch.setattr(device, "bfloat16_speed", lambda: Kept(Speed(1.0, 1.0), kept=True))
    monkeypatch.setattr(device, "exact", lambda: True)
    cpu = torch.device("cpu")
    assert device.dtype_choice("int8", cpu, int8=True) == device.DtypeChoice("int8", "as asked", rest="float32")
    with pytest.raises(SettingsError, match="dtype: must be auto, float32 or bfloat16, got 'int8'"):
        device.dtype_choice("int8", cpu)
    with pytest.raises(SettingsError, match=r"int8 needs a CPU on which PyTorch has exact .* got meta; use auto"):
        device.dtype_choice("int8", torch.device("meta"), int8=True)
    monkeypatch.setattr(device, "exact", lambda: False)
    with pytest.raises(SettingsError, match="dtype: int8 needs a CPU on which PyTorch has exact integer convolutions"):
        device.dtype_choice("int8", cpu, int8=True)


def test_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="device: must be one that this machine has, got 'abacus'"):
        device.choose_device("abacus")
    with pytest.raises(SettingsError, match="dtype: must be auto, float32 or bfloat16, got 'half'"):
        device.choose_dtype("half", torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_result_on_the_gpu_is_that_on_the_cpu():
    from conftest import inferer_of

    from bida.diffusion.load import load_prior, prior_of
    from bida.physics.geometry import SliceGeometry
    from bida.physics.operators import SliceOperator

    geometry = SliceGeometry(1, 13, 0.75, 0.75, 64, 0.15)
    inputs = SliceOperator.build(geometry).pinv(torch.rand(64, 13, 64)).reshape(1, 1, 64, 64, 64)
    results = []
    for name in ("cpu", "cuda"):
        prior = load_prior(prior_of(), None, torch.device(name), "float32")
        results.append(inferer_of(steps=4)(inputs.to(name), prior, geometry=geometry).cpu())
    assert (results[0] - results[1]).abs().max() < 0.02  # 1e-2 of the range of 2
