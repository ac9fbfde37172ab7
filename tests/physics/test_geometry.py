import numpy as np
import pytest

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry

D = 0.15  # mm


def test_centres_share_the_field_of_view():
    g = SliceGeometry(1, 4, 0.5, 0.5, 10, 0.2, offset_mm=0.1)
    assert g.slice_centres_mm() == pytest.approx([-0.75, -0.25, 0.25, 0.75])
    assert g.voxel_centres_mm() == pytest.approx(0.1 + 0.2 * np.arange(-4.5, 5))
    assert g.padded(3, 1).voxel_centres_mm() == pytest.approx(g.voxel_centres_mm())


def test_geometry_round_trips():
    g = SliceGeometry(1, 14, 4.7 * D, 0.6 * 4.7 * D, 63, D, "gaussian", 0.1, 3, 5)
    assert SliceGeometry.from_json(g.to_json()) == g
    assert g.padded(1, 2).unpadded() == g.unpadded()
    assert g.padded(1, 2).padded_voxels == 63 + 4 + 7
    assert g.factor == pytest.approx(4.7) and g.gap_mm == pytest.approx(0.4 * 4.7 * D)
    loose = SliceGeometry(np.int64(1), np.int32(7), np.float32(0.5), np.float64(0.5), np.int64(20), np.float64(0.2))
    assert SliceGeometry.from_json(loose.to_json()) == loose


def test_missing_slices_round_trip():
    g = SliceGeometry(1, 7, 0.5, 0.5, 18, 0.2, missing=(np.int64(2), 5))
    assert SliceGeometry.from_json(g.to_json()) == g and hash(SliceGeometry.from_json(g.to_json())) == hash(g)
    assert SliceGeometry(1, 7, 0.5, 0.5, 18, 0.2, missing=[2, 5]) == g  # as JSON has it
    assert (g.missing, g.acquired) == ((2, 5), (0, 1, 3, 4, 6))
    assert g.complete() == SliceGeometry(1, 7, 0.5, 0.5, 18, 0.2)
    assert g.padded(1, 2).missing == g.unpadded().missing == (2, 5)
    old = g.complete().to_json().replace(', "missing": []', "")  # as written before there were any
    assert "missing" not in old and SliceGeometry.from_json(old) == g.complete()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", '{"axis": 1}', '{"axis": 1, "colour": 2}'])
def test_geometry_refuses_other_json(text):
    with pytest.raises(SettingsError, match="must be the JSON object that to_json writes"):
        SliceGeometry.from_json(text)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"axis": 3}, r"axis must be 0 \(R\), 1 \(A\) or 2 \(S\), got 3"),
        ({"slices": 0}, "slices must be >= 1, got 0"),
        ({"slices": 2.5}, "slices must be int, got 2.5"),
        ({"voxels": 0}, "voxels must be >= 1, got 0"),
        ({"thickness_mm": 0.0}, "thickness_mm must be > 0 mm, got 0"),
        ({"thickness_mm": -1}, "thickness_mm must be > 0 mm, got -1"),
        ({"thickness_mm": "thick"}, "thickness_mm must be float, got 'thick'"),
        ({"voxel_mm": float("nan")}, "voxel_mm must be finite, got nan"),
        ({"slice_spacing_mm": 0.1}, "slice spacing must be >= voxel size, got 0.1 < 0.2 mm"),
        ({"pad_before": -1}, "pad_before must be >= 0, got -1"),
        ({"offset_mm": float("inf")}, "offset_mm must be finite, got inf"),
        ({"missing": (7,)}, r"missing must be indices of slices, 0 to 6, each once and in order, got \(7,\)"),
        ({"missing": (-1,)}, "missing must be indices of slices, 0 to 6"),
        ({"missing": (3, 2)}, "missing must be indices of slices, 0 to 6"),
        ({"missing": (2, 2)}, "missing must be indices of slices, 0 to 6"),
        ({"missing": (2.5,)}, r"missing must be tuple\[int, ...\], got \(2.5,\)"),
        ({"missing": 2}, r"missing must be tuple\[int, ...\], got 2"),
        ({"missing": (0, 1, 2, 4, 5, 6)}, "missing must leave two slices or more, got 6 of 7"),
    ],
)
def test_geometry_checks_itself(change, message):
    good = {"axis": 1, "slices": 7, "slice_spacing_mm": 0.5, "thickness_mm": 0.5, "voxels": 18, "voxel_mm": 0.2}
    SliceGeometry(**good)
    with pytest.raises(SettingsError, match=message):
        SliceGeometry(**{**good, **change})
