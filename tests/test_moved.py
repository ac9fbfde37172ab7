"""Configurations of 0.1: each name that they used leads to what it has become, with a note."""

import re
import subprocess
import sys
import warnings
from pydoc import locate

import pytest
from conftest import ROOT
from monai.bundle import ConfigParser

from bida import transforms
from bida.moved import MOVED, TRANSFORMS
from bida.mri.inferer import BiplanarInferer

# what the released configurations of 0.1 named
NAMES = [
    "bida.brains.HeadDataset",
    "bida.dataset.CountingSampler",
    "bida.dataset.SliceDataset",
    "bida.dataset.find_animals",
    "bida.design.Experiment",
    "bida.eval.brain_unet.BrainUNet",
    "bida.experiment.run",
    "bida.export.ScriptablePrior",
    "bida.inferer.BiplanarInferer",
    "bida.masked_prior.MaskedPrior",
    "bida.masked_prior.RowLoss",
    "bida.masked_sources.masked_slices",
    "bida.methods.BUILT_IN",
    "bida.methods.Choices",
    "bida.pipeline.find_scans",
    "bida.pipeline.load_prior",
    "bida.pipeline.postprocessing",
    "bida.pipeline.prior_of",
    "bida.pipeline.scan_transform",
    "bida.prior.PlanePrior",
    "bida.resnet.NetworkPair",
    "bida.resnet.SliceResNet",
    "bida.scores.METRICS",
    "bida.settings.Settings",
    "bida.training.Autocast",
    "bida.training.Checkpoints",
    "bida.training.ExportWeights",
    "bida.training.GradientClipper",
    "bida.training.Progress",
    "bida.training.ReportValidation",
    "bida.training.ResumeSampler",
    "bida.training.WeightAverage",
    "bida.training.warmup_cosine_scheduler",
    "bida.transforms.acquisition.RandFieldOfViewd",
    "bida.transforms.acquisition.RandSurfaceCoild",
    "bida.transforms.acquisition.RandThickSlicesd",
    "bida.transforms.augment.RandContrastd",
    "bida.transforms.augment.RandLeftRightFlipd",
    "bida.transforms.augment.RandScanNoised",
    "bida.transforms.augment.RandSimilarityd",
    "bida.transforms.diffuse.DiffuseSliced",
    "bida.transforms.mask_rows.cut_size",
    "bida.transforms.mask_rows.row_task",
    "bida.transforms.thicken.ThickenSliced",
    "bida.unet.SliceUNet",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_old_name_leads_somewhere(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = locate(name)
    assert found is not None
    place = getattr(found, "__module__", "bida.")
    assert place.startswith("bida.") and place not in MOVED


def test_every_module_that_moved_is_tried() -> None:
    assert set(MOVED) <= {name.rpartition(".")[0] for name in NAMES}


def test_an_old_name_says_the_new_one() -> None:
    code = "import bida.resnet; print(bida.resnet.SliceResNet)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "FutureWarning: bida.resnet has moved to bida.diffusion.resnet; name it there" in run.stderr
    assert "bida.diffusion.resnet.SliceResNet" in run.stdout


def test_a_name_that_never_was_is_an_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
            from bida.resnet import Nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"bida\.nowhere"):
        import bida.nowhere  # noqa: F401


def test_the_inferer_takes_single_options_as_it_did() -> None:
    parser = ConfigParser({"inferer": {"_target_": "bida.inferer.BiplanarInferer", "steps": 2, "fusion": "step"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        inferer = parser.get_parsed_content("inferer")
    assert isinstance(inferer, BiplanarInferer)
    assert (inferer.options.steps, inferer.options.fusion, inferer.options.self_check) == (2, "step", False)


def test_the_released_configurations_name_what_there_is_and_nothing_old() -> None:
    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"_target_: (bida\.[\w.]+)", text):
            assert callable(locate(name)), f"{file.name}: {name}"
        assert not [old for old in MOVED if re.search(rf"\b{re.escape(old)}\b", text)], file.name
        for line in re.findall(r"^- \$((?:import|from) bida.*)$", text, re.MULTILINE):
            names: dict[str, object] = {}
            exec(line, names)
            for alias in re.findall(r" as (\w+)", line):
                for attribute in re.findall(rf"(?<![\w.]){alias}\.(\w+)", text.replace(line, "")):
                    assert hasattr(names[alias], attribute), f"{file.name}: {alias}.{attribute}"


@pytest.mark.slow
def test_the_note_is_seen_where_monai_reads_a_configuration(tmp_path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("imports:\n- $import bida.resnet as resnet\nrun:\n- $print(resnet.SliceResNet)\n")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "bida.resnet has moved to bida.diffusion.resnet; name it there" in run.stderr + run.stdout


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_transform_of_a_step_is_made_as_before(name: str, make_scan) -> None:
    with pytest.warns(FutureWarning, match=f"bida.transforms.{name} is now"):
        make = getattr(transforms, name)
    given = {"PlanScand": {"axis": "A"}, "OrientLiked": {"like": make_scan()}, "PadToNetworkd": {"multiple": 4}}
    made = make("image", **given.get(name, {}))
    step = getattr(made, "step", None) or made.function
    assert made.keys == ("image",) and type(step).__name__ == name.removesuffix("d")
