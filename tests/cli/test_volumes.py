"""The command `bida volumes`: which animals are atlases, what it writes, and what it refuses."""

import argparse
import csv

import nibabel as nib
import numpy as np
import pytest
from labelled_parts import NUMBERS, SHAPE, VOXEL_MM, parts

from bida.cli.volumes import run as volumes
from bida.errors import BidaError, ScanError, SettingsError
from bida.eval import registration
from bida.eval.volumetry import measure
from bida.io.bids import read_names, subjects_of
from bida.mri.atlases import read_atlases
from bida.mri.synthetic_brain import synthetic_brain

SHIFT = np.array([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # by a voxel
SMALL = np.minimum(NUMBERS, 99)  # so that a NIfTI of bytes holds them


def write(path, values, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def brain(seed):
    image, affine = synthetic_brain(VOXEL_MM, SHAPE, seed=seed)
    return image, np.minimum(parts(SHAPE, affine, image > 0), 99), affine


@pytest.fixture
def data(tmp_path):
    """Return a data set of four animals with labels: three to train, one to validate."""
    root = tmp_path / "mice"
    for number in (1, 2, 3, 4):
        image, labels, affine = brain(number)
        name = f"sub-0{number}"
        write(root / name / "anat" / f"{name}_T2w.nii.gz", image, affine)
        # floating point, as many label maps are stored
        place = root / "derivatives" / "labels" / name / "anat" / f"{name}_dseg.nii.gz"
        write(place, labels.astype(np.float32), affine)
    (root / "participants.tsv").write_text(
        "participant_id\tsplit\nsub-01\ttrain\nsub-02\ttrain\nsub-03\ttrain\nsub-04\tval\n"
    )
    return root


@pytest.fixture
def arguments(data, tmp_path):
    def make(**given):
        options = {
            "input": str(data / "sub-04" / "anat" / "sub-04_T2w.nii.gz"),
            "atlas": str(data),
            "labels": str(data / "derivatives" / "labels"),
            "output": str(tmp_path / "table.tsv"),
            "atlases": 2,
            "names": None,
            "labels_out": None,
            "volume": None,
            "scale_header": None,
            "overwrite": False,
        }
        return argparse.Namespace(**(options | given))

    return make


@pytest.fixture
def quick(monkeypatch):
    """Replace registration by the atlases' labels as they lie; return the atlases of every call."""
    calls = []

    def stand_in(volume, affine, atlases, progress):
        calls.append([atlas.name for atlas in atlases])
        progress(len(atlases), len(atlases))
        return measure([atlas.labels for atlas in atlases], affine, [*SMALL.tolist(), 120])

    monkeypatch.setattr("bida.eval.volumetry.volumetry", stand_in)
    return calls


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_it_measures_the_structures_of_another_animal(arguments, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(registration, "SYN_ITERATIONS", (10, 4))  # for time
    (data / "derivatives" / "labels" / "dseg.tsv").write_text("index\tname\n3\tleft back\n7\tright back\n")
    labels_out = tmp_path / "labels.nii.gz"
    volumes(arguments(labels_out=str(labels_out)))
    _, truth, affine = brain(4)
    rows = rows_of(tmp_path / "table.tsv")
    assert list(rows[0]) == ["index", "name", "volume_mm3", "n_voxels", "spread_mm3"]
    assert [row["index"] for row in rows] == [str(label) for label in SMALL]
    assert [row["name"] for row in rows] == ["left back", "right back", "40", "99"]
    written = nib.load(labels_out)
    found = np.asarray(written.dataobj)
    assert found.shape == SHAPE and found.dtype.kind == "i"
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    for row in rows:
        label, voxels = int(row["index"]), int(row["n_voxels"])
        assert voxels == (found == label).sum()
        assert float(row["volume_mm3"]) == pytest.approx(voxels * VOXEL_MM**3, rel=1e-5)
        assert float(row["spread_mm3"]) >= 0
    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(truth), rel=0.05)
    told = capsys.readouterr()
    assert "note: atlases: sub-01, sub-02 (animals of the split train; sub-04, the scan's own" in told.err
    assert "4 structures" in told.out and "2 atlas(es)" in told.out


def test_the_table_holds_absent_structures_and_names(arguments, quick, tmp_path):
    names = tmp_path / "names.tsv"
    names.write_text("index\tname\tabbreviation\n3\tcortex\tC\n120\tlost\tL\n")
    volumes(arguments(atlases=1, names=str(names)))
    rows = rows_of(tmp_path / "table.tsv")
    assert rows[-1] == {"index": "120", "name": "lost", "volume_mm3": "0", "n_voxels": "0", "spread_mm3": "n/a"}
    assert rows[0]["name"] == "cortex" and rows[1]["name"] == "7"


def test_atlases_are_training_animals_other_than_the_scan(arguments, quick, data, tmp_path):
    def used(scan, number):
        volumes(arguments(input=str(scan), atlases=number, overwrite=True))
        return quick[-1]

    image = data / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    assert used(data / "sub-04" / "anat" / "sub-04_T2w.nii.gz", 9) == ["sub-01", "sub-02", "sub-03"]
    assert used(image, 9) == ["sub-01", "sub-03"]
    assert used(image, 1) == ["sub-01"]
    restored = tmp_path / "sub-02_T2w_superres.nii.gz"
    restored.write_bytes(image.read_bytes())
    link = tmp_path / "scan.nii.gz"
    link.symlink_to(image)
    assert used(restored, 9) == used(link, 9) == ["sub-01", "sub-03"]


def test_subjects_are_read_from_the_path():
    assert subjects_of("/data/sub-a1/anat/sub-a1_T2w.nii.gz") == ["sub-a1"]
    assert subjects_of("out/desc_sub-07_superres.nii.gz") == ["sub-07"]
    assert subjects_of("/data/scan.nii.gz") == subjects_of("/data/my-sub-1.nii.gz") == []


def test_the_only_animal_cannot_be_its_own_atlas(arguments, quick, data):
    for number in (1, 3):
        (data / "derivatives" / "labels" / f"sub-0{number}" / "anat" / f"sub-0{number}_dseg.nii.gz").unlink()
    with pytest.raises(SettingsError, match=r"labels: must hold sub-\*/\*\*/\*_dseg.nii.gz of sub-01, sub-03, none is"):
        volumes(arguments(input=str(data / "sub-02" / "anat" / "sub-02_T2w.nii.gz")))
    assert quick == []


def test_animals_without_a_split_are_all_atlases(data):
    (data / "participants.tsv").unlink()
    assert [atlas.name for atlas in read_atlases(data, 9)] == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert [atlas.name for atlas in read_atlases(data, 2, "sub-01")] == ["sub-02", "sub-03"]


def test_labels_reach_the_atlas_unchanged(data):
    for atlas, number in zip(read_atlases(data, 3), (1, 2, 3)):
        image, labels, affine = brain(number)
        np.testing.assert_array_equal(atlas.image, image)
        np.testing.assert_array_equal(atlas.labels, labels)
        np.testing.assert_allclose(atlas.affine, affine, atol=1e-6)


def test_a_thick_slice_scan_is_better_restored_first(arguments, quick, make_scan, capsys):
    volumes(arguments(input=str(make_scan())))
    assert "note: the scan has thick slices (0.15 x 0.75 x 0.15 mm): restore it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, said",
    [
        ({"atlases": 0}, "--atlases must be >= 1, got 0"),
        ({"atlas": "nowhere"}, "nowhere: data folder must exist"),
        ({"labels": "nowhere"}, "nowhere: the folder of labels must exist"),
        ({"input": "nowhere.nii.gz"}, "nowhere.nii.gz: must exist"),
        ({"output": "table.csv"}, r"table.csv: output must end in .tsv"),
        ({"labels_out": "labels.png"}, r"labels.png: output must end in .nii.gz"),
        ({"names": "nowhere.tsv"}, "nowhere.tsv: a table of names must be a TSV file, got 'No such file"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, quick, given, said):
    with pytest.raises(BidaError, match=said) as error:
        volumes(arguments(**given))
    assert "\n" not in str(error.value) and quick == []


def test_the_scan_is_not_overwritten_by_its_labels(arguments, quick, data):
    scan = str(data / "sub-04" / "anat" / "sub-04_T2w.nii.gz")
    with pytest.raises(SettingsError, match="--labels-out must not be the scan"):
        volumes(arguments(labels_out=scan, overwrite=True))


def test_a_table_that_is_there_stays_unless_asked(arguments, quick, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("kept")
    with pytest.raises(ScanError, match="output must not exist"):
        volumes(arguments())
    assert table.read_text() == "kept"
    volumes(arguments(overwrite=True))
    assert len(rows_of(table)) == 5


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda image, labels, affine: (image, labels[1:], affine), "must be on the grid of sub-01_T2w.nii.gz"),
        (lambda image, labels, affine: (image, labels, affine @ SHIFT), "must be on the grid of sub-01_T2w.nii.gz"),
        (lambda image, labels, affine: (image, labels + 0.25, affine), "must be whole numbers, got 0.25"),
        (lambda image, labels, affine: (image, labels * 0, affine), "must name a structure"),
    ],
)
def test_labels_that_do_not_fit_are_refused(data, change, said):
    _, labels, affine = change(*brain(1))
    write(data / "derivatives" / "labels" / "sub-01" / "anat" / "sub-01_dseg.nii.gz", labels.astype(np.float32), affine)
    with pytest.raises(SettingsError, match=said):
        read_atlases(data, 1)


def test_two_images_or_label_maps_of_an_animal_are_refused(data):
    image, labels, affine = brain(1)
    second = write(
        data / "derivatives" / "labels" / "sub-01" / "sub-01_desc-b_dseg.nii.gz", labels.astype(np.uint8), affine
    )
    with pytest.raises(SettingsError, match=r"one label map, got sub-01_dseg.nii.gz, sub-01_desc"):
        read_atlases(data, 1)
    second.unlink()
    write(data / "sub-01" / "anat" / "sub-01_T1w.nii.gz", image, affine)
    with pytest.raises(SettingsError, match="one image, sub-01 has more"):
        read_atlases(data, 1)


@pytest.mark.parametrize(
    "text, said",
    [
        ("number\tname\n1\ta\n", "columns index and name, got"),
        ("index\tname\n1\ta\n1\tb\n", "line 3: must give a new whole number"),
        ("index\tname\none\ta\n", "line 2: must give a new whole number and its name, got 'one' and 'a'"),
        ("index\tname\n1\t\n", "line 2: must give"),
        ("index\tname\n1\n", "line 2: must give"),
    ],
)
def test_a_table_of_names_is_checked(tmp_path, text, said):
    path = tmp_path / "names.tsv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_names(path)


def test_several_tables_of_names_are_refused(arguments, quick, data):
    for name in ("dseg.tsv", "desc-b_dseg.tsv"):
        (data / "derivatives" / "labels" / name).write_text("index\tname\n3\ta\n")
    with pytest.raises(SettingsError, match=r"one lookup table, got desc-b_dseg.tsv, dseg.tsv; choose one by --names"):
        volumes(arguments())
