"""Training data of the skull stripper: what counts as head, brain or label map, and windows that follow their seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from bida.errors import SettingsError
from bida.eval.skullstrip.network import VOXEL_MM
from bida.training.head_dataset import (
    BRAINSTEM,
    STEP,
    TISSUES,
    HeadDataset,
    Source,
    body,
    find_sources,
    load_sources,
    on_grid,
    read_source,
    rotation,
    sample_window,
    save_sources,
)
from bida.training.synthetic_head import ellipsoid

SIZE = 40


def half_ball() -> np.ndarray:
    line = np.arange(SIZE) - (SIZE - 1) / 2
    r = np.sqrt(np.square(np.stack(np.meshgrid(line, 0.8 * line, line, indexing="ij"))).sum(axis=0))
    return r < 14


def save(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([0.2, 0.2, 0.2, 1.0])), path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    brain = half_ball()
    noise = np.random.default_rng(0).random(brain.shape)
    save(tmp_path / "heads/sub-01/anat/sub-01_T1w.nii.gz", 1 + noise + 3 * brain)
    save(tmp_path / "heads/derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz", brain)
    save(tmp_path / "heads/sub-02/anat/sub-02_T1w.nii.gz", 1 + noise)  # a head without a mask
    save(tmp_path / "brains/sub-01/anat/sub-01_T2w.nii.gz", brain * (1 + noise))
    save(tmp_path / "labels/sub-01/anat/sub-01_dseg.nii.gz", brain * (1 + (noise > 0.5)))
    return tmp_path


def entries(folder: Path, *names: str) -> list[dict]:
    return [{"folder": str(folder / name)} for name in names]


def test_heads_brains_and_label_maps_are_told_apart(folders):
    head, brain, labels = find_sources(entries(folders, "heads", "brains", "labels"))
    assert (head.head, head.labels) == (True, False)
    assert (brain.head, brain.labels) == (False, False)
    assert (labels.head, labels.labels) == (False, True)
    truth = half_ball()
    for source in (head, brain, labels):
        found = source.mask[0, :SIZE, :SIZE, :SIZE].numpy() > 0.5  # nibabel may add a voxel at the far ends
        # a brain's tissue reaches into the voxels next to it when it is interpolated
        assert found[truth].mean() > 0.99 and not found[~binary_dilation(truth, np.ones((3, 3, 3)))].any(), source.name
    assert set(labels.image.unique().tolist()) == {0.0, 1.0, 2.0}


def test_an_extracted_brain_is_its_tissue_without_a_dark_rim(tmp_path):
    path = tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    data = np.zeros((60, 60, 60), np.float32)
    data[20:40, 15:45, 20:40] = 7.0
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(data, np.diag([0.15, 0.15, 0.15, 1.0])), path)
    source = read_source(path, tmp_path)
    assert source is not None and not source.head
    # an edge between voxels of the new grid lies within half of one of where it was
    assert float(source.mask.sum()) * VOXEL_MM**3 == pytest.approx(3.0 * 4.5 * 3.0, rel=0.1)
    assert float(source.image[source.mask > 0.5].min()) > 0.95, "of what was around it nothing is left at its edge"


def test_tissue_maps_are_read_without_their_head_template(folders):
    brain, name = half_ball(), "rats/tpl-x/anat/tpl-x"
    shares = {"skull": 0.0, "CSF": 0.2, "GM": 0.5, "WM": 0.3}
    for tissue in TISSUES:
        save(folders / f"{name}_label-{tissue}_probseg.nii.gz", shares[tissue] * brain)
    save(folders / f"{name}_desc-brain_mask.nii.gz", brain)
    save(folders / f"{name}_T2w.nii.gz", 1.0 + brain)
    (source,) = find_sources([{"folder": str(folders / "rats"), "weight": 5}])
    assert source.tissues and not (source.labels or source.head) and source.weight == 5
    middle = source.image[:, SIZE // 2, SIZE // 2, SIZE // 2]
    torch.testing.assert_close(middle, torch.tensor(list(shares.values())))
    item = HeadDataset([source], lambda item: item, 1, bare=0, window=32)[0]
    assert item["image"].shape == (1, 32, 32, 32) and item["label"].any()


def test_a_data_sets_weight_is_shared_by_its_animals(folders):
    save(folders / "brains/sub-02/anat/sub-02_T2w.nii.gz", half_ball())
    pair = find_sources([{"folder": str(folders / "brains"), "weight": 3}])
    assert [source.weight for source in pair] == [1.5, 1.5]
    assert len(find_sources([{"folder": str(folders / "brains"), "files": "sub-02*"}])) == 1
    never = [replace(pair[0], weight=0.0, image=torch.zeros_like(pair[0].image)), pair[1]]
    data = HeadDataset(never, lambda item: item, 1, bare=1.0, window=32)
    assert all(data[i]["image"].any() for i in range(6) if data[i]["label"].any())


def test_packed_sources_are_what_was_packed(folders, tmp_path):
    sources = find_sources(entries(folders, "heads", "brains", "labels"))
    save_sources(tmp_path / "sources.npz", sources)
    for source, again in zip(sources, load_sources(tmp_path / "sources.npz"), strict=True):
        kinds = [(one.name, one.labels, one.head, one.weight) for one in (source, again)]
        assert kinds[0] == kinds[1]
        torch.testing.assert_close(again.image, source.image, rtol=0, atol=1e-3 if source.labels else 0.51 * STEP)
        torch.testing.assert_close(again.mask, source.mask, rtol=0, atol=0.51 / 255)
    (tmp_path / "other.npz").write_bytes(b"none")
    for name in ("other.npz", "nothing.npz"):
        with pytest.raises(SettingsError, match="packed sources"):
            load_sources(tmp_path / name)


def test_animals_are_left_out_by_name(folders):
    with pytest.raises(SettingsError, match="at least one brain must be left"):
        find_sources([{"folder": str(folders / "heads"), "exclude": ["sub-01"]}])
    with pytest.raises(SettingsError, match="at least one brain must be left"):
        find_sources([{"folder": str(folders / "brains"), "include": ["sub-07"]}])
    with pytest.raises(SettingsError, match="must exist"):
        find_sources([{"folder": str(folders / "nowhere")}])


def test_samples_follow_seed_and_index_alone(folders):
    sources = find_sources(entries(folders, "heads", "labels"))
    first = HeadDataset(sources, lambda item: item, 4, window=32, seed=1)
    again = HeadDataset(sources, lambda item: item, 4, window=32, seed=1)
    other = HeadDataset(sources, lambda item: item, 4, window=32, seed=2)
    for index in (0, 3):
        assert torch.equal(first[index]["image"], again[index]["image"])
    assert not torch.equal(first[0]["image"], other[0]["image"])
    assert not torch.equal(first[0]["image"], first[1]["image"])
    item = first[0]
    assert item["image"].shape == item["label"].shape == (1, 32, 32, 32)
    assert set(item["label"].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("real, bare, kind", [(1.0, 0.0, "head"), (0.0, 1.0, "bare")])
def test_shares_of_real_heads_and_bare_brains_are_kept(folders, real, bare, kind):
    data = HeadDataset(find_sources(entries(folders, "heads", "brains")), lambda i: i, 4, real, bare, window=32)
    for index in range(4):
        image, label = data[index]["image"], data[index]["label"]
        outside = image[label == 0]
        if kind == "bare":
            assert outside.abs().max() == 0
        elif label.any():
            assert (outside > 0).float().mean() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_the_frame_holds_the_brain(seed):
    truth = torch.from_numpy(half_ball())[None].float()
    source = Source("ball", truth.clone(), truth)
    image, mask, frame = sample_window(np.random.default_rng(seed), source, 64)
    assert torch.equal(image > 0.5, mask)
    half = torch.tensor(frame.half_mm).reshape(3, 1)
    inside = frame.position_mm[:, mask]
    assert (inside.abs() <= half + VOXEL_MM).all(), "a brain's voxels lie in its own box"
    # the brain fills its ellipsoid, wherever the window shows it
    body_share = ellipsoid(frame, (0, 0, 0), frame.half_mm)
    assert 2 * (body_share & mask).sum() / (body_share.sum() + mask.sum()) > 0.95


@pytest.mark.parametrize("wide_mm, scale", [(10.0, 1.0), (16.0, 0.6)])
def test_a_rats_brain_is_known_by_its_width(wide_mm, scale):
    truth = torch.zeros(1, 90, 100, 40)
    side = round(wide_mm / VOXEL_MM)
    truth[:, 2 : 2 + side, 2:95, 5:35] = 1  # 18.6 mm long, as a mouse's brain with bulbs and medulla
    *_, frame = sample_window(np.random.default_rng(0), Source("block", truth.clone(), truth), 16)
    assert frame.half_mm == pytest.approx((wide_mm / 2 * scale, 9.3 * scale, 3.0 * scale))


def with_cord() -> Source:
    brain = half_ball()
    cord = np.zeros_like(brain)
    cord[17:23, :12, 17:23] = True  # 1.4 mm2, to the edge of the field of view
    whole = torch.from_numpy(brain | cord)[None].float()
    return Source("ball with cord", whole.clone(), whole)


def test_the_brain_of_a_head_ends_where_the_cord_begins_and_a_bare_one_where_its_scan_ends():
    source = with_cord()
    areas = source.sections_mm2
    first = int(np.flatnonzero(areas > BRAINSTEM * areas.max())[0])
    centre, half_mm = source.box
    assert centre[1] - half_mm[1] / VOXEL_MM == pytest.approx(first - 0.5)
    assert first >= 3, "the cord's sections are too small to be brain"
    assert source.end_mm[3] == pytest.approx(1.2 / np.sqrt(np.pi)), "the radius of the cord's section"
    assert source.end_mm[1] == pytest.approx(-half_mm[1] - (first - 0.5) * VOXEL_MM), "which is the first one"
    head = replace(source, head=True)
    assert np.array_equal(head.box[0][[0, 2]], centre[[0, 2]]) and head.box[1][1] > half_mm[1], "drawn masks are kept"
    for seed in range(3):
        bare, grown = (
            HeadDataset([source], lambda item: item, 1, bare=share, window=64, seed=seed)[0] for share in (1, 0)
        )
        assert bare["label"].sum() > grown["label"].sum() > 0
        cord = (bare["label"] > 0) & (grown["label"] == 0)
        assert (grown["image"][cord] > 0).float().mean() > 0.95, "the head shows the cord, which is not its brain"


def test_thick_slices_are_read_to_the_edge_of_the_field_of_view(tmp_path):
    data = np.tile(np.arange(1.0, 6.0), (10, 12, 1))
    path = tmp_path / "thick.nii.gz"
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([0.2, 0.2, 1.0, 1.0])), path)
    read = on_grid(path, order=1)
    assert read.shape == (1, 10, 12, 25), "five slices of 1 mm"
    torch.testing.assert_close(read[0, 0, 0, :3], torch.ones(3))  # beyond the middle of the first
    torch.testing.assert_close(read[0, 0, 0, 2:23], torch.linspace(1, 5, 21))


def test_fissures_are_closed_and_specks_left_out():
    tissue = torch.zeros(1, 30, 30, 30)
    tissue[:, 5:25, 5:25, 5:25] = 1
    tissue[:, 14:16, 5:25, 12:25] = 0  # 0.4 mm wide
    tissue[:, 0, 0, 0] = 1
    found = body(tissue)
    assert found[0, 14, 10, 15] == 1 and found[0, 0, 0, 0] == 0


def test_a_rotation_is_one():
    for seed in range(5):
        turn = rotation(np.random.default_rng(seed))
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.slow
def test_the_stripper_trains_and_resumes_through_the_bundle(folders, tmp_path):
    from monai.bundle import ConfigWorkflow

    from bida.eval.skullstrip.network import BrainUNet

    root = Path(__file__).resolve().parents[2]
    data = [*entries(folders, "heads", "labels")]

    def train(epochs: int) -> None:
        workflow = ConfigWorkflow(
            str(root / "configs" / "skullstrip_train.yaml"),
            workflow_type="train",
            run_id="training",
            logging_file=str(root / "configs" / "logging.conf"),
            train_data=data,
            tuning_data=data,
            output_dir=str(tmp_path / "run"),
            epochs=epochs,
            steps_per_epoch=2,
            warmup=1,
            val_interval=1,
            num_workers=0,
            **{"validate#dataset#length": 1},
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()

    train(1)
    train(2)
    assert (tmp_path / "run" / "checkpoint_4.pt").exists(), "the second run must go on where the first ended"
    probability = BrainUNet(tmp_path / "run" / "skullstrip.pt").probability(
        half_ball().astype(np.float32), np.diag([0.2, 0.2, 0.2, 1.0])
    )
    assert probability.shape == half_ball().shape and np.isfinite(probability).all()
