"""Painted heads: what is told of label maps, and that pictures are what training expects."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from bida.errors import SettingsError
from bida.training.bank import SliceBank
from bida.training.batches import ThickBatches, Variation, _Chance
from bida.training.data import label_bank
from bida.training.label_maps import BONE, DISTANCE_MM, FLUID, LabelBank, LabelMap, read_label_maps
from bida.training.painting import FINER, Painting, cut, labels_painted, paint, random_field
from tests.training.test_batches import made_stacks


def ball(voxel_mm=0.2, size=32):
    """Return a brain of two regions: a ball of 2 mm radius, its right half another region."""
    line = (np.arange(size) - size / 2) * voxel_mm
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    inside = x**2 + y**2 + z**2 < 4
    return LabelMap("set/one", np.where(inside, np.where(x > 0, 2, 1), 0).astype(np.uint8), voxel_mm)


def chance_of(seed=0):
    return _Chance(np.random.SeedSequence(seed), torch.device("cpu"))


def save(path, data, voxel_mm):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([voxel_mm] * 3 + [1])), path)


def test_label_maps_are_numbered_cropped_and_know_their_distance(tmp_path):
    one = ball()
    values = np.array([0, 17, 4000], dtype=np.int16)[one.labels]
    save(tmp_path / "set" / "sub-1" / "anat" / "sub-1_dseg.nii.gz", values, 0.2)
    save(tmp_path / "set" / "sub-1" / "anat" / "sub-1_atlas-x_dseg.nii.gz", values, 0.2)
    (found,) = read_label_maps([tmp_path / "set"])
    assert set(np.unique(found.labels)) == {0, 1, 2}
    margin = round(2.5 / 0.2)
    assert (found.labels[:margin] == 0).all() and (found.labels[margin] > 0).any()
    exact = distance_transform_edt(found.labels == 0, sampling=0.2)
    told = found.distance() * DISTANCE_MM
    assert np.abs(told - np.minimum(exact, 255 * DISTANCE_MM)).max() < 2 * 0.2  # found on every second voxel
    assert found.voxel_mm == pytest.approx(0.2)


def test_fine_label_maps_are_taken_at_every_second_voxel(tmp_path):
    save(tmp_path / "set" / "sub-1" / "sub-1_dseg.nii.gz", ball(0.05).labels, 0.05)
    (found,) = read_label_maps([tmp_path / "set"])
    assert found.voxel_mm == pytest.approx(0.1)


def test_tissue_maps_give_the_most_probable_tissue(tmp_path):
    parts = np.zeros((4, 12, 12, 12), dtype=np.float32)
    parts[0] = 0.3  # outside
    parts[1, 2:10, 2:10, 2:10] = 0.5  # skull
    parts[2, 4:8, 4:8, 4:8] = 0.6  # CSF
    parts[3, 6:8, 6:8, 6:8] = 0.9  # GM
    for name, part in zip(("outside", "skull", "CSF", "GM"), parts):
        save(tmp_path / "set" / "tpl-a" / "anat" / f"tpl-a_label-{name}_probseg.nii.gz", part, 0.2)
    (found,) = read_label_maps([tmp_path / "set"])
    counts = {int(value): int((found.labels == value).sum()) for value in np.unique(found.labels)}
    assert {k: v for k, v in counts.items() if k} == {BONE: 8**3 - 4**3, FLUID: 4**3 - 2**3, 1: 2**3}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros((6, 6, 6), np.int16), "must hold labels"),
        (np.arange(512, dtype=np.int16).reshape(8, 8, 8), "fewer than 254 labels, got 512"),
    ],
)
def test_unfit_label_maps_are_named(tmp_path, labels, told):
    save(tmp_path / "set" / "sub-1" / "sub-1_dseg.nii.gz", labels, 0.2)
    with pytest.raises(SettingsError, match=told):
        read_label_maps([tmp_path / "set"])
    with pytest.raises(SettingsError, match="holds none"):
        read_label_maps([tmp_path])


def test_data_sets_are_drawn_alike_often():
    maps = [
        LabelMap("a/1", ball().labels, 0.2),
        LabelMap("a/2", ball().labels, 0.2),
        LabelMap("b/1", ball().labels, 0.2),
    ]
    bank = LabelBank(maps)
    index, planes = bank.draw(20_000, torch.Generator().manual_seed(0))
    third = len(bank.sizes) // 9  # slices of a map and plane
    of_b = (index % (3 * 3 * third)) >= 2 * 3 * third
    assert float(of_b.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert {int(p) for p in planes} == {0, 1, 2}


def test_a_window_that_is_neither_turned_nor_scaled_is_the_slice():
    bank = LabelBank([ball()])
    how = Painting(voxel_mm=(0.2 * FINER / 1.6, 0.2 * FINER / 1.6), rotate=0.0)  # 0.2 mm are a rat's
    labels, away, pixel = cut(bank, torch.arange(8), 24, how, chance_of())
    assert set(labels.unique().tolist()) <= {0, 1, 2}
    assert float(pixel[0]) == pytest.approx(0.2 / 1.6)
    assert bool((away[labels > 0] == 0).all()) and float(away.max()) > 0
    whole = [int((bank.store.at(torch.tensor([k]), *everywhere(bank, k))[0, 0] > 0).sum()) for k in range(8)]
    seen = [int((one > 0).sum()) for one in labels]
    assert all(few <= many for few, many in zip(seen, whole)) and sum(seen) > 0


def everywhere(bank, index):
    """Return rows and columns of all pixels of a slice."""
    rows, columns = (torch.arange(int(size)) for size in bank.sizes[index])
    return rows[None, :, None], columns[None, None, :]


def test_pictures_are_on_the_priors_scale_and_every_one_is_another():
    bank = LabelBank([ball(), LabelMap("other/2", ball(0.1).labels, 0.1)])
    images, planes = paint(bank, 24, 32, Painting(), chance_of())
    assert images.shape == (24, 1, 32, 32) and images.dtype == torch.float32 and len(planes) == 24
    assert bool(images.isfinite().all()) and float(images.min()) >= -1 and float(images.max()) <= 2
    again, _ = paint(bank, 24, 32, Painting(), chance_of())
    assert torch.equal(images, again)
    spread = images.flatten(1)
    assert len({tuple(row[:50].tolist()) for row in spread if row.std() > 0}) > 12
    brains, _ = paint(bank, 24, 32, Painting(brains=1.0), chance_of(1))
    heads, _ = paint(bank, 24, 32, Painting(brains=0.0, filled=1.0), chance_of(1))
    dark = [float((one == -1).float().mean()) for one in (brains, heads)]
    assert dark[0] > dark[1] + 0.2


def test_one_label_has_one_brightness_and_fields_are_as_smooth_as_asked():
    labels = torch.arange(16).reshape(1, 4, 4).expand(3, 4, 4)
    means = labels_painted(torch.cat([labels, labels], dim=1), chance_of())
    assert torch.equal(means[:, :4], means[:, 4:]) and float(means.min()) > 0
    rough, smooth = (random_field(4, torch.full((8,), length), 64, chance_of()) for length in (4.0, 32.0))
    steps = [float(one.diff(dim=-1).abs().mean() / one.std()) for one in (rough, smooth)]
    assert steps[0] > 3 * steps[1]


def test_batches_hold_the_share_of_painted_heads_and_of_reversed_contrast():
    stacks = made_stacks()
    labels = LabelBank([ball()])
    still = {"moved": 0.0, "contrast": 0.0, "noisy": 0.0, "grain": 0.0, "second": 0.0, "lesions": 0.0}

    def make(of=labels, **vary):
        return ThickBatches(
            SliceBank(stacks), 8, (32, 32), geometries=4, variation=Variation(**still | vary), labels=of
        )

    none, every = make(painted=0.0), make(painted=1.0)
    pair, _ = none.crops(chance_of())
    assert pair.shape == (8, 2, 32, 32)
    heads, _ = every.crops(chance_of())
    assert torch.equal(heads[:, 0], heads[:, 1])  # nothing is to be denoised
    batch = every.batch(0)
    assert bool(batch["image"].isfinite().all()) and batch["image"].shape == (8, 9, 32, 32)
    turned = make(painted=0.0, inverted=1.0).reversed(pair, chance_of())
    tissue = pair > -0.5
    assert bool((turned[pair == -1] == -1).all())
    assert float(torch.corrcoef(torch.stack([turned[tissue], pair[tissue]]))[0, 1]) < -0.9


def test_no_label_maps_are_none():
    assert label_bank(None) is None
