"""Stacks restored block by block: nothing depends on the blocks, and little is in memory."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch
import zarr

from bida.cli.parser import main
from bida.errors import OutOfMemoryError, ScanError
from bida.io.weights import save_weights
from bida.microscopy import blocks
from bida.microscopy.blocks import finer_shape, restore_blocks, slab_width
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.load import IntensityLine, Seen, clipped
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.ranks import between, percentiles
from bida.microscopy.restore import interpolate_stack, restore_stack
from bida.microscopy.stacks import ome_zarr
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack


def network(method, channels=1):
    torch.manual_seed(3)
    made = MaskedPrior(method, channels, (8,) if method == "guided" else (8, 16), 1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def stack(dtype="uint16", channels=2, shape=(4, 13, 22), lazily=False):
    data = np.random.default_rng(0).gamma(2, 300, (channels, *shape)).astype(dtype)
    lazy = da.from_array(data, chunks=(1, 4, 8, 22)) if lazily else data
    return Stack(lazy, (4.0, 1.0, 1.0), ("a", "b")[:channels], "made")


def inferer(factor=2.0, fusion="final", **options):
    return MaskedSliceInferer(factor, fusion=fusion, tile=16, overlap=4, micro_batch=4, **options)


CASES = [
    ("guided", "final", {}),
    ("guided", "single-yz", {"steps": 2, "eta": 0.5}),
    ("guided", "final", {"factor": 2.5, "blur": True}),
    ("guided", "final", {"factor": 2.5, "as_factor": 4.0}),
    ("diffusion", "final", {"steps": 2, "eta": 1.0}),
    ("msunet", "single-xz", {"factor": 1.5}),
    ("e2e", "final", {"factor": 4.0}),
    ("guided", "step", {"steps": 2}),
    ("guided", "textured", {"steps": 2, "factor": 2.5, "as_factor": 4.0}),
]


@pytest.mark.parametrize(
    "method, fusion, options, dtype",
    [
        (*CASES[1], "uint16"),
        *(pytest.param(*case, "uint16", marks=pytest.mark.slow) for case in (CASES[0], *CASES[2:])),
        pytest.param(*CASES[0], "float32", marks=pytest.mark.slow),
    ],
)
def test_results_do_not_depend_on_blocks(tmp_path, method, fusion, options, dtype):
    made, how = network(method, 2 if method != "guided" else 1), inferer(fusion=fusion, **options)
    one, weights = stack(dtype), [1.0, 0.3]
    seen = Seen.of(one, 99.0)
    first = np.zeros(finer_shape(one, how.factor), dtype)
    restore_blocks(one, made, how, seen, first, None, weights)
    for slab in (1, 4 * 8 * 2 * 22):  # 4 slices, 8 slices
        again = zarr.create_array(tmp_path / f"out{slab}", shape=first.shape, dtype=dtype, chunks=(1, 16, 8, 16))
        lazy = stack(dtype, lazily=True)
        restore_blocks(lazy, made, how, Seen.of(lazy, 99.0), again, tmp_path / f"scratch{slab}", weights, slab)
        assert np.array_equal(again[...], first)
    # and are those of the stack as a whole
    whole = restore_stack(one, made, how, 99.0, weights, seen.line).data
    np.testing.assert_allclose(
        first.astype(float), whole.astype(float), rtol=1e-5, atol=1 if dtype == "uint16" else 0.01
    )


def test_columns_meet_without_a_seam(monkeypatch):
    made, one = network("guided"), stack("float32", 1)
    for blur in (False, True):
        how = inferer(blur=blur)
        results = []
        for column in (5, 128):
            monkeypatch.setattr(blocks, "COLUMN", column)
            out = np.zeros(finer_shape(one, 2.0), np.float32)
            restore_blocks(one, made, how, Seen.of(one), out, None, [0.5])
            results.append(out)
        np.testing.assert_allclose(*results, rtol=1e-6)


def test_acquired_planes_come_back_and_no_weight_is_interpolation():
    one, how, out = stack(channels=1), inferer(), np.zeros((1, 7, 13, 22), np.uint16)
    restore_blocks(one, network("guided"), how, Seen.of(one, 90.0), out)
    assert np.array_equal(out[:, ::2], one.data)
    restore_blocks(one, network("guided"), how, Seen.of(one), out, weights=[0.0])
    assert np.array_equal(out, interpolate_stack(one, 2.0, "linear").data)


@pytest.mark.parametrize("unit, slab, expected", [(8, 1, 8), (8, 8 * 600, 8), (8, 16 * 600, 16), (4, 10**12, 256)])
def test_slabs_are_whole_batches(unit, slab, expected):
    assert slab_width((2, 10, 99, 30), 2, unit, slab) == expected


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_percentiles_of_blocks_are_those_of_the_whole(dtype):
    kind = np.dtype(dtype)
    numbers = np.clip(np.random.default_rng(1).normal(0, 30, 9973), -120, 120)
    numbers = (np.abs(numbers) if kind.kind == "u" else numbers).astype(kind)
    which = [0, 0.5, 3.3, 50, 99.5, 100]
    found = percentiles(lambda: np.array_split(numbers, 7), kind, len(numbers), which)
    np.testing.assert_array_equal([between(*pair) for pair in found], np.percentile(numbers.astype("f8"), which))


@pytest.mark.parametrize("lazily", [False, True])
def test_what_a_network_sees_is_told_from_blocks(lazily):
    one = stack()
    seen, capped = Seen.of(stack(lazily=lazily), 95.0), clipped(one.data, 95.0)
    line = IntensityLine.of(capped)
    np.testing.assert_array_equal(seen.line.low, line.low)
    np.testing.assert_array_equal(seen.line.high, line.high)
    np.testing.assert_array_equal(seen.capped(one.data), capped)
    np.testing.assert_array_equal(seen.highest, capped.max(axis=(1, 2, 3)))
    assert Seen.of(one).caps is None


def test_a_block_that_is_not_finite_is_one_line():
    data = np.ones((1, 4, 8, 8), np.float32)
    data[0, 3, 7, 7] = np.nan
    with pytest.raises(ScanError, match=r"made: intensities must be finite, got NaN or Inf"):
        Seen.of(replace(stack("float32", 1), data=da.from_array(data, chunks=(1, 2, 4, 4))))


def test_what_must_be_in_memory_is_refused_where_it_is_not_free(tmp_path, monkeypatch):
    one = stack(channels=1)
    monkeypatch.setattr(blocks, "available_bytes", lambda: 1000)
    blocks.check_memory(one, inferer(), tmp_path / "a.ome.zarr")
    with pytest.raises(OutOfMemoryError, match=r"memory: a\.ome\.tif takes about .* write OME-Zarr"):
        blocks.check_memory(one, inferer(), tmp_path / "a.ome.tif")
    with pytest.raises(OutOfMemoryError, match=r"memory: --fusion step takes about .* give --fusion final"):
        blocks.check_memory(one, inferer(fusion="step"), tmp_path / "a.ome.zarr")
    with pytest.raises(OutOfMemoryError, match=r"memory: --fusion textured takes about .* give --fusion final"):
        blocks.check_memory(one, inferer(fusion="textured", steps=2), tmp_path / "a.ome.zarr")


@pytest.mark.slow
def test_the_command_reads_and_writes_zarr_in_blocks_and_gives_the_same(tmp_path, monkeypatch, capsys):
    save_weights(network("guided"), tmp_path / "net.pt")
    data = np.random.default_rng(0).gamma(2, 300, (2, 6, 20, 18)).astype(np.uint16)
    for name in ("in.ome.zarr", "in.ome.tif"):
        write_stack(tmp_path / name, Stack(data, (4.0, 1.0, 1.0), ("a", "b")))
    loaded = []
    monkeypatch.setattr(ome_zarr, "read_zarr", lambda *_: loaded.append(1))
    words = ["--model", str(tmp_path / "net.pt"), "--factor", "2", "--tile", "16", "--overlap", "4"]
    words += ["--dtype", "float32", "--clip-percentile", "99"]
    for name in ("zarr", "tif"):
        told = main(["superres-masked", str(tmp_path / f"in.ome.{name}"), str(tmp_path / f"{name}.ome.{name}"), *words])
        assert told == 0, capsys.readouterr().err
    assert not loaded
    monkeypatch.undo()
    first, second = read_stack(tmp_path / "zarr.ome.zarr"), read_stack(tmp_path / "tif.ome.tif")
    assert np.array_equal(first.data, second.data) and np.array_equal(first.data[:, ::2], data)
    assert first.spacing_um == second.spacing_um == (2.0, 1.0, 1.0) and first.channels == ("a", "b")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    # a copy that was cut off: a chunk is short, or not there
    chunk = next(file for file in (tmp_path / "in.ome.zarr" / "s0").rglob("c/0/*/*/*") if file.is_file())
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    again = ["superres-masked", str(tmp_path / "in.ome.zarr"), str(tmp_path / "again.ome.zarr"), *words]
    assert main(again) == 2
    error = capsys.readouterr().err.strip()
    assert "in.ome.zarr: must be a whole OME-Zarr" in error and "\n" not in error
    chunk.unlink()
    assert main(again) == 0
    assert "1 of 2 chunks have no file and read as one value" in capsys.readouterr().err
