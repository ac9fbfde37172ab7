import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import ROOT

from bida.diffusion.prior import X0_RANGE
from bida.errors import SettingsError
from bida.io.bids import animals_of, find_animals
from bida.physics.grid import PLANES
from bida.training.dataset import CountingSampler, SliceDataset, load_normalised
from bida.training.denoise import denoised
from bida.training.run import read_config
from bida.transforms.augment.diffuse import DiffuseSliced
from bida.transforms.augment.slices import RandContrastd, RandLeftRightFlipd, RandSimilarityd


@pytest.fixture
def bids(tmp_path):
    """Four animals: two isotropic to train on, one with thick coronal slices, one of the validation set."""
    rows = ["participant_id\tsplit"]
    animals = {"sub-a": ("train", (0.2, 0.2, 0.2)), "sub-b": ("train", (0.2, 0.2, 0.2)),
               "sub-thick": ("train", (0.2, 0.8, 0.2)), "sub-v": ("val", (0.2, 0.2, 0.2))}  # fmt: skip
    rng = np.random.default_rng(0)
    for subject, (split, spacing) in animals.items():
        rows.append(f"{subject}\t{split}")
        folder = tmp_path / subject / "anat"
        folder.mkdir(parents=True)
        data = np.zeros((24, 20, 16), np.float32)
        data[4:-4, 4:-4, 4:-4] = rng.uniform(50, 100, (16, 12, 8))
        nib.save(nib.Nifti1Image(data, np.diag([*spacing, 1])), folder / f"{subject}_T2w.nii.gz")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def subjects(animals):
    return [animal.subject for animal in animals]


def test_animals_are_split_by_the_participants_table(bids):
    assert subjects(find_animals([bids], split="train")) == ["sub-a", "sub-b", "sub-thick"]
    assert subjects(find_animals([bids], split="val")) == ["sub-v"]
    assert subjects(find_animals([bids], split="train", exclude=["sub-a"])) == ["sub-b", "sub-thick"]
    assert subjects(find_animals([bids], include=["sub-v"])) == ["sub-v"]


def test_a_subject_may_be_named_with_its_data_set(bids):
    named = f"{bids.name}/sub-a"
    assert subjects(find_animals([bids], split="train", exclude=[named])) == ["sub-b", "sub-thick"]
    assert subjects(find_animals([bids], split="train", exclude=["other/sub-a"])) == ["sub-a", "sub-b", "sub-thick"]
    assert subjects(find_animals([bids], include=[named])) == ["sub-a"]
    with pytest.raises(SettingsError, match="at least one image must be left"):
        find_animals([bids], include=["other/sub-a"])


def test_nothing_to_train_on_is_an_error(bids, tmp_path):
    with pytest.raises(SettingsError, match="at least one image must be left, got none for split=test"):
        find_animals([bids], split="test")
    with pytest.raises(SettingsError, match="data folder must exist"):
        find_animals([tmp_path / "nowhere"])


def test_uncompressed_images_count_too(bids):
    path = bids / "sub-a/anat/sub-a_T2w.nii.gz"
    nib.save(nib.load(path), path.with_suffix(""))
    path.unlink()
    assert [animal.path.name for animal in find_animals([bids], include=["sub-a"])] == ["sub-a_T2w.nii"]


def test_animal_without_a_split_is_no_training_data(bids):
    table = bids / "participants.tsv"
    whole = table.read_text()
    for text in (whole.replace("sub-v\tval\n", ""), whole.replace("sub-v\tval\n", "sub-v\t\n")):
        table.write_text(text)
        with pytest.raises(SettingsError, match=r"participants\.tsv: must give the split of every subject.*sub-v"):
            find_animals([bids], split="train")
        assert subjects(find_animals([bids], split="train", include=["sub-a"])) == ["sub-a"]
        assert len(find_animals([bids])) == 4
    table.write_text("participant_id\nsub-a\n")  # no such column: all train
    assert len(find_animals([bids], split="train")) == 4
    table.unlink()
    assert len(find_animals([bids], split="train")) == 4


def test_participants_table_without_its_key(bids):
    table = bids / "participants.tsv"
    table.write_text("\ufeff" + table.read_text(), encoding="utf-8")  # as spreadsheets write it
    assert subjects(find_animals([bids], split="val")) == ["sub-v"]
    table.write_text("subject\tsplit\nsub-a\ttrain\n")
    with pytest.raises(
        SettingsError, match=r"participants\.tsv: must have a column participant_id, got \['subject', 'sp"
    ):
        find_animals([bids])


def test_four_dimensions_are_refused(bids):
    path = bids / "sub-a/anat/sub-a_T2w.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((6, 6, 6, 2)), np.eye(4)), path)
    with pytest.raises(SettingsError, match=r"sub-a_T2w\.nii\.gz: an image must have 3 dimensions.*\(6, 6, 6, 2\)"):
        load_normalised(path)


def test_intensities(bids):
    data, spacing = load_normalised(bids / "sub-a/anat/sub-a_T2w.nii.gz")
    assert data.dtype == np.float32
    assert data.min() == -1
    assert data.max() <= X0_RANGE[1]
    np.testing.assert_allclose(spacing, 0.2, rtol=1e-6)


def test_thick_slices_teach_their_own_plane_alone(bids):
    dataset = SliceDataset(find_animals([bids], split="train"), lambda item: item)
    assert {plane: len(stacks) for plane, stacks in dataset.slices.items()} == {"axial": 2, "coronal": 3, "sagittal": 2}
    with pytest.raises(SettingsError, match="the axial plane must have sharp slices"):
        SliceDataset(find_animals([bids], include=["sub-thick"]), lambda item: item)


def test_sharp_slices_may_teach_any_plane(bids):
    dataset = SliceDataset(find_animals([bids], include=["sub-thick"]), lambda item: item, any_plane=True)
    assert {plane: len(stacks) for plane, stacks in dataset.slices.items()} == dict.fromkeys(PLANES, 1)
    shapes = {tuple(dataset[i]["image"].shape) for i in range(20)}
    assert shapes == {(1, 24, 16)}  # always its own, coronal, slices
    assert {dataset[i]["planes"] for i in range(40)} == {0, 1, 2}


def test_shares_weigh_data_sets(bids, tmp_path):
    other = tmp_path / "other"
    (other / "sub-z" / "anat").mkdir(parents=True)
    source = bids / "sub-a/anat/sub-a_T2w.nii.gz"
    image = nib.load(source)
    data = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(data[::-1], image.affine), other / "sub-z/anat/sub-z_T2w.nii.gz")
    animals = find_animals([bids, other], include=["sub-a", "sub-b", "sub-z"])
    shares = {bids.name: 1.0, "other": 3.0}
    dataset = SliceDataset(animals, lambda item: item, shares=shares)
    np.testing.assert_allclose(sorted(dataset.weights["axial"]), [0.125, 0.125, 0.75])
    with pytest.raises(SettingsError, match="shares: every data set must have a weight, other has none"):
        SliceDataset(animals, lambda item: item, shares={bids.name: 1.0})


def test_pairs_hold_the_slice_as_scanned_and_denoised(bids, tmp_path):
    animals = find_animals([bids], include=["sub-a"])
    plain = SliceDataset(animals, lambda item: item, seed=2)
    cached = SliceDataset(animals, lambda item: item, seed=2, pairs=True, cache=tmp_path / "kept")
    for i in range(5):
        one, two = plain[i]["image"], cached[i]["image"]
        assert torch.equal(one[0], two[0])
        assert not torch.equal(two[0], two[1])
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 1
    again = SliceDataset(animals, lambda item: item, seed=2, pairs=True, cache=tmp_path / "kept")
    assert torch.equal(again[3]["image"], cached[3]["image"])


def test_denoising_takes_noise_and_leaves_edges_and_background():
    rng = np.random.default_rng(0)
    clean = np.full((40, 40, 40), -1, np.float32)
    clean[8:32, 8:32, 8:32] = 0.2
    clean[8:32, 8:20, 8:32] = 0.8
    noisy = np.where(clean > -1, clean + 0.1 * rng.standard_normal(clean.shape).astype(np.float32), clean)
    out = denoised(noisy)
    inside = np.zeros(clean.shape, bool)
    inside[10:30, 10:30, 10:30] = True
    assert (out - clean)[inside].std() < 0.5 * (noisy - clean)[inside].std()
    assert (out[clean == -1] == -1).all()
    edge = out[20, 18:22, 10:30].mean(axis=1)
    assert edge[1] - edge[2] > 0.9 * 0.6  # the step stays one voxel wide
    assert np.array_equal(denoised(np.full((8, 8, 8), -1, np.float32)), np.full((8, 8, 8), -1, np.float32))


def test_background_slices_are_left_out(bids):
    dataset = SliceDataset(find_animals([bids], include=["sub-a"]), lambda item: item)
    assert dataset.slices["sagittal"][0][1].tolist() == list(range(4, 20))
    assert all((dataset[i]["image"] > -1).any() for i in range(50))


def test_a_sample_is_a_function_of_seed_and_index(bids):
    animals = find_animals([bids], split="train")
    transform = RandContrastd("image", prob=1.0)
    one, two = SliceDataset(animals, transform, seed=3), SliceDataset(animals, RandContrastd("image", prob=1.0), seed=3)
    [one[i] for i in (9, 4)]  # the order of the calls must not matter
    for i in (4, 9, 1000):
        assert torch.equal(one[i]["image"], two[i]["image"])
        assert one[i]["planes"] == two[i]["planes"]
    assert not torch.equal(one[4]["image"], SliceDataset(animals, transform, seed=4)[4]["image"])
    assert {one[i]["planes"] for i in range(60)} == {0, 1, 2}


def test_sampler_counts_over_processes():
    first, second = CountingSampler(0, 2), CountingSampler(1, 2)
    first.start = second.start = 10
    a, b = iter(first), iter(second)
    assert [next(a), next(b), next(a), next(b)] == [10, 11, 12, 13]


@pytest.mark.parametrize("plane", PLANES)
def test_mirror_spares_sagittal_slices(plane):
    image = torch.arange(12.0).reshape(1, 3, 4)
    out = RandLeftRightFlipd("image", prob=1.0)({"image": image, "planes": PLANES.index(plane)})["image"]
    assert torch.equal(out, image if plane == "sagittal" else image.flip(1))


def test_moved_slices_keep_their_proportions():
    """A disc stays a disc, of a radius within the range of scales, moved by no more than the shift allows."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    disc = (((x - 47.5) ** 2 + (y - 47.5) ** 2) < 15**2).float()[None]
    radii = []
    for seed in range(40):
        out = RandSimilarityd("image", prob=1.0).set_random_state(seed=seed)({"image": disc})["image"][0]
        inside = torch.as_tensor(np.asarray(out)) > 0.5
        rows, columns = torch.nonzero(inside.any(1)).flatten(), torch.nonzero(inside.any(0)).flatten()
        height, width = len(rows), len(columns)
        assert abs(height - width) <= 2
        radii.append((height + width) / 4)
        for edge in (rows, columns):
            assert abs((edge[0] + edge[-1]) / 2 - 47.5) <= 5 * 1.6 + 1  # the shift is scaled with the anatomy
    assert min(radii) > 15 * 0.6 - 1
    assert max(radii) < 15 * 1.6 + 1
    assert max(radii) / min(radii) > 1.8


def test_moved_slices_keep_their_background_exact():
    image = torch.full((2, 48, 48), -1.0)
    image[:, 12:36, 12:36] = 1.0
    out = RandSimilarityd("image", prob=1.0).set_random_state(seed=0)({"image": image})["image"]
    assert out.min() == -1 and out.max() == 1
    assert (out == -1).float().mean() > 0.3


def test_contrast_keeps_background_and_order():
    transform = RandContrastd("image", gamma=(0.8, 1.25), gain=(0.85, 1.15), prob=1.0).set_random_state(seed=1)
    image = torch.linspace(-1, 1, 50)[None, None]
    out = transform({"image": image})["image"]
    assert out[0, 0, 0] == -1
    assert (out.diff() > 0).all()
    assert not torch.allclose(out, image)
    assert abs(out[0, 0, -1] - 1) <= 2 * 0.15 + 1e-6  # gain alone acts where u = 1


@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_noised_slice_and_target_give_the_slice_back(prediction):
    transform = DiffuseSliced("image", prediction).set_random_state(seed=0)
    clean = torch.rand(1, 8, 8) * 2 - 1
    for index in (1, 5, 77):
        item = transform({"image": clean, "index": index})
        ab = float(transform.alpha_bar[item["timesteps"]])
        a, s, x, target = ab**0.5, (1 - ab) ** 0.5, item["image"], item["label"]
        x0 = {"v": a * x - s * target, "eps": (x - s * target) / a, "x0": target}[prediction]
        torch.testing.assert_close(x0, clean, atol=1e-5 / a, rtol=1e-4)


def test_times_cover_the_schedule_evenly():
    transform = DiffuseSliced("image")
    times = [transform({"image": torch.zeros(1, 2, 2), "index": i})["timesteps"] for i in range(160)]
    counts, _ = np.histogram(times, bins=10, range=(0, 1000))
    assert counts.min() >= 15
    assert counts.max() <= 17


def test_times_can_be_mostly_high():
    """u^(1/3) lies above 0.8 in 1 - 0.8^3 of the cases."""
    transform = DiffuseSliced("image", emphasis=3.0)
    times = np.array([transform({"image": torch.zeros(1, 2, 2), "index": i})["timesteps"] for i in range(1000)])
    assert np.mean(times >= 800) == pytest.approx(1 - 0.8**3, abs=0.01)
    assert times.max() <= 999


def test_the_recipe_leaves_out_what_tests_are_made_of(shared_data):
    """No animal that a figure is of is trained on or tuned with, whichever of the data sets are given."""
    recipe = read_config(str(ROOT / "configs" / "release_train.yaml"))
    tests = {"mouse-rtg4510": {"sub-08", "sub-14", "sub-21"}, "mouse-sherm": {"sub-02"}, "mouse-jax": {"sub-02"}}
    tests |= {"mouse-template-rminc": {"tpl-rminc"}, "rat-sigma": {"tpl-sigma"}, "rat-nirodents": {"sub-15"}}
    tests |= {"rat-bold-pontes": {f"sub-{number}" for number in range(25, 32)}}
    out, suffixes = recipe["tuning_subjects"] + recipe["held_out"], recipe["suffixes"]
    seen = {}
    for folder in sorted(path for path in shared_data.iterdir() if (path / "dataset_description.json").is_file()):
        for animal in animals_of(folder, "train", None, out, suffixes):
            seen.setdefault(animal.data_set, set()).add(animal.subject)
        for animal in animals_of(folder, "train", recipe["tuning_subjects"], recipe["held_out"], suffixes):
            seen.setdefault(animal.data_set, set()).add(animal.subject)
    assert {name for name in tests if name not in seen} == {"mouse-template-rminc", "rat-sigma", "rat-nirodents"}
    for name, kept in tests.items():
        assert not kept & seen.get(name, set())
    assert len(seen["mouse-rtg4510"]) == 17 and len(seen["rat-bold-pontes"]) > 15
