"""Heads and templates as truths: they are found, scored in tissue, and stand in a group of their own."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from skimage.filters import threshold_otsu
from small_experiment import experiment

from bida.eval import psnr
from bida.experiment.report.collect import extracted
from bida.experiment.results import read_results
from bida.experiment.runner import run
from bida.experiment.truth import choose_animals, prepare
from bida.io.scan import read_scan
from bida.mri.synthetic_brain import synthetic_brain


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """A head with a brain mask beside it, one without, a brain-extracted template without; array axes S, A, R."""
    folder = tmp_path_factory.mktemp("templates")
    for number, name in enumerate(("masked", "bare", "brain"), 1):
        brain, affine = synthetic_brain(0.3, (40, 56, 36), number)
        mask = brain > 0.2 * brain.max()
        skin = binary_dilation(mask, iterations=5) & ~binary_dilation(mask, iterations=2)
        air = np.abs(np.random.default_rng(number).normal(0, 0.02 * brain.max(), brain.shape))
        head = brain if name == "brain" else np.where(skin, 0.8 * brain.max(), brain) + air
        anat = folder / f"tpl-{name}" / "anat"
        anat.mkdir(parents=True)
        files = {"T2w": head.astype(np.float32)} | ({"desc-brain_mask": mask.astype(np.uint8)} if number == 1 else {})
        for suffix, values in files.items():
            image = nib.Nifti1Image(values, affine)
            turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("SAR"))
            nib.save(image.as_reoriented(turn), anat / f"tpl-{name}_{suffix}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def out(templates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("collect.montage", "sections.box_plots"):  # they take most of the time
            patch.setattr(f"bida.experiment.report.{name}", lambda *given: b"PNG")
        run(experiment(templates, folder, metrics=["psnr", "bricks"], snr=["clean", 10], methods=["cubic"]))
    return folder


def test_templates_are_cases(templates):
    assert [animal.subject for animal in choose_animals(templates, None, None)] == [
        "tpl-bare",
        "tpl-brain",
        "tpl-masked",
    ]
    (one,) = choose_animals(templates, ["tpl-bare"], None)
    assert one.subject == "tpl-bare"


def test_heads_are_a_group_and_a_brain_is_none_of_it(out):
    groups = {row["subject"]: row["group"] for row in read_results(out / "results.csv")}
    assert groups == {"tpl-masked": "heads", "tpl-bare": "heads", "tpl-brain": ""}
    text = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert "<h2>By group</h2>" in text and "heads: tpl-bare, tpl-masked" in text
    assert "<caption>heads, 2.5\u00d7, SNR 10: mean" in text


def test_a_head_is_scored_in_tissue_and_where_its_brain_is_known_there_too(out):
    regions = {}
    for row in read_results(out / "results.csv"):
        if row["metric"] == "psnr":
            regions.setdefault(row["subject"], set()).add(row["region"])
    assert regions == {
        "tpl-masked": {"whole", "brain", "tissue"},
        "tpl-bare": {"whole", "tissue"},
        "tpl-brain": {"whole", "tissue"},
    }
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "brighter than Otsu&#39;s threshold in the truth" in text


def test_tissue_is_otsus_foreground(out):
    truth = read_scan(out / "tpl-bare/truth/tpl-bare.nii.gz").data
    volume = read_scan(out / "tpl-bare/2.5x_snr10_cubic/volume.nii.gz").data
    low, high = np.percentile(truth, [1, 99])
    expected = psnr(volume, truth, float(high - low), truth > threshold_otsu(truth))
    wanted = {"subject": "tpl-bare", "method": "cubic", "snr": 10.0, "metric": "psnr", "region": "tissue"}
    (found,) = [r["value"] for r in read_results(out / "results.csv") if all(r[k] == v for k, v in wanted.items())]
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_head_is_not_said_to_be_brain_extracted(templates, out):
    planned = experiment(templates, out)
    assert [extracted(planned, f"tpl-{name}") for name in ("masked", "bare", "brain")] == [False, False, True]


def test_a_group_of_the_data_set_is_kept(templates, tmp_path):
    (templates / "participants.tsv").write_text("participant_id\tgroup\ntpl-bare\taverage\n")
    try:
        animals = {animal.subject: animal for animal in choose_animals(templates, None, None)}
        named = prepare(animals["tpl-bare"], templates, tmp_path, None, n4=False)
        unnamed = prepare(animals["tpl-masked"], templates, tmp_path, None, n4=False)
    finally:
        (templates / "participants.tsv").unlink()
    assert (named.group, unnamed.group) == ("average", "heads")


@pytest.mark.parametrize("name, share", [("mouse-template-rminc", 0.2), ("rat-sigma", 0.2)])
def test_real_head_templates_are_heads_with_a_brain_mask(shared_data, tmp_path, name, share):
    (animal,) = choose_animals(shared_data / name, None, None)
    truth = prepare(animal, shared_data / name, tmp_path, None, n4=False)
    assert truth.group == "heads" and truth.mask is not None and truth.mask.any()
    assert truth.mask.shape == truth.data.shape and (truth.tissue & ~truth.mask).sum() > share * truth.tissue.sum()


def test_a_brain_extracted_mouse_is_no_head_and_its_mask_is_its_tissue(shared_data, tmp_path):
    data = shared_data / "mouse-rtg4510"
    (animal,) = choose_animals(data, ["sub-15"], None)
    truth = prepare(animal, data, tmp_path, None, n4=False)
    assert truth.tissue is truth.mask and truth.group not in ("", "heads")
