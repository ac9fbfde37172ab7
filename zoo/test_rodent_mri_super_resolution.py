"""The bundle's unit test in the Model Zoo, to be copied to its ci/unit_tests: every configuration can be run."""

import os
import shutil
import sys
import tempfile
import unittest

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

BUNDLE = os.path.join("models", "rodent_mri_super_resolution")
SPACING = {"thick": (0.15, 0.75, 0.15), "fine": (0.15, 0.15, 0.15)}  # mm


def write_head(path, shape, spacing):
    """Write an ellipsoid of noisy tissue."""
    rng = np.random.default_rng(0)
    places = np.meshgrid(*[np.linspace(-1.3, 1.3, size) for size in shape], indexing="ij")
    tissue = sum(place**2 for place in places) < 1
    volume = np.abs(tissue * (100 + 20 * np.sin(5 * places[0] + 3 * places[2])) + rng.normal(0, 3, shape))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([*spacing, 1])), path)


class TestRodentMRISuperResolution(unittest.TestCase):
    """Runs on made heads, small enough for a CPU."""

    def setUp(self):
        """Make a folder, and let the bundle's package be found."""
        self.folder = tempfile.mkdtemp()
        self.files = {
            "config": lambda name: os.path.join(BUNDLE, "configs", name),
            "meta_file": os.path.join(BUNDLE, "configs", "metadata.json"),
            "logging_file": os.path.join(BUNDLE, "configs", "logging.conf"),
        }
        sys.path.insert(0, BUNDLE)

    def tearDown(self):
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def run_workflow(self, config, kind, run_id, **override):
        """Run a configuration as the zoo does, and check the properties that it must have."""
        workflow = ConfigWorkflow(
            workflow_type=kind,
            run_id=run_id,
            config_file=self.files["config"](config),
            meta_file=self.files["meta_file"],
            logging_file=self.files["logging_file"],
            bundle_root=BUNDLE,
            **override,
        )
        workflow.initialize()
        self.assertEqual(workflow.check_properties(), [])
        workflow.run()
        workflow.finalize()

    def test_infer(self):
        """Restore a scan: the volume lies on its own, isotropic grid."""
        scan, out = os.path.join(self.folder, "scan.nii.gz"), os.path.join(self.folder, "out")
        write_head(scan, (24, 8, 22), SPACING["thick"])
        self.run_workflow("inference.json", "infer", "inference", input=scan, output_dir=out)
        image = nib.load(os.path.join(out, "scan_superres.nii.gz"))
        self.assertEqual(image.shape, (24, 40, 22))
        np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), SPACING["fine"], rtol=1e-5)

    def test_train(self):
        """Train a small network for two steps."""
        data, out = os.path.join(self.folder, "data"), os.path.join(self.folder, "runs")
        for subject in ("sub-01", "sub-02"):
            file = os.path.join(data, subject, "anat", f"{subject}_T2w.nii.gz")
            write_head(file, (40, 40, 40), SPACING["fine"])
        with open(os.path.join(data, "participants.tsv"), "w") as table:
            table.write("participant_id\tsplit\nsub-01\ttrain\nsub-02\tval\n")
        few = {"epochs": 1, "steps_per_epoch": 2, "warmup": 1, "batch_size": 2, "crop": [32, 32], "num_workers": 0}
        small = {"network#bare#channels": [32, 32], "network#guided#channels": 32, "network#guided#blocks": 2}
        validation = {"validate#dataset#length": 4}
        self.run_workflow(
            "train.json", "train", "training", dataset_dir=data, output_dir=out, **few, **small, **validation
        )
        self.assertTrue(os.path.exists(os.path.join(out, "model.pt")))


if __name__ == "__main__":
    unittest.main()
