"""A BIDS data set as jobs, and its results as a BIDS derivative (BIDS-Apps, Gorgolewski et al. 2017).

Scans and their metadata are found by pybids, sidecars by inheritance. pybids' `build_path` has no place for `desc` in
the names of anatomical images, so that names are put together here and read back by pybids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bida.cohort.index import results_in
from bida.cohort.job import Job, told_of
from bida.errors import ScanError, SettingsError
from bida.io.files import atomic, make_folder, stem, write_json
from bida.io.scan import read_affine, read_scan
from bida.mri.same import record_of
from bida.mri.series import first_volume
from bida.mri.settings import EVERY, Settings
from bida.physics.grid import spacing_of
from bida.provenance import own_version

BIDS_VERSION = "1.10.0"
ANISOTROPIC = 1.25  # the coarsest voxel size over the finest, from which a scan counts as one of thick slices
DESC = "superres"
MASKED = 0.3  # share of zeros, from which a scan counts as brain-extracted where its sidecar does not say
COMBINED = {"acq": "acquisition", "run": "run"}  # what scans of one volume may differ in
PHASES = ("phase", "real", "imag")  # parts of a complex image, which are no magnitudes
NO_SCANS = re.compile(r"mask$|seg$|map$|photo$", re.IGNORECASE)  # suffixes, unless they are named
TABLE = "desc-superres_scans.tsv"
NO_LONGER = ("SliceThickness", "SpacingBetweenSlices", "SliceTiming")  # of a scan's sidecar, of its isotropic result


@dataclass(frozen=True)
class Wanted:
    """Which scans of a data set are wanted; empty for all of a kind.

    Attributes:
        participants: Labels, with ``sub-`` or without.
        sessions: Labels, with ``ses-`` or without.
        suffixes: Such as ``T2w``.
        filters: More entities and their values, as a BIDS filter file holds them.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    filters: Mapping[str, Any] | None = None


def open_layout(folder: str | Path) -> Any:
    """Return pybids' index of a data set.

    Raises:
        SettingsError: The folder is no BIDS data set, or pybids is not installed.
    """
    try:
        from bids import BIDSLayout
    except ImportError:
        raise SettingsError("bids: pybids must be installed, it is not; pip install 'bida-mri[bids]'") from None
    if not (Path(folder) / "dataset_description.json").is_file():
        raise SettingsError(
            f"{folder}: must hold dataset_description.json, as BIDS data sets do, it does not; check it"
        )
    try:
        return BIDSLayout(folder, validate=False, derivatives=False)
    except Exception as error:  # pybids raises many kinds
        raise SettingsError(f"{folder}: must be a BIDS data set, got '{' '.join(str(error).split())[:200]}'") from error


def thick_scans(layout: Any, wanted: Wanted) -> tuple[list[Any], list[str]]:
    """Return the anisotropic anatomical images that are wanted, and a line for each that is passed over.

    Raises:
        SettingsError: A participant or a session is not in the data set, or nothing is left.
    """
    chosen: dict[str, Any] = {"datatype": "anat", "extension": [".nii", ".nii.gz"], **(wanted.filters or {})}
    for name, labels, prefix in (("subject", wanted.participants, "sub-"), ("session", wanted.sessions, "ses-")):
        if labels:
            chosen[name] = [label.removeprefix(prefix) for label in labels]
            there = set(layout.get(return_type="id", target=name))
            missing = sorted(set(chosen[name]) - there)
            if missing:
                raise SettingsError(
                    f"{layout.root}: must hold {', '.join(prefix + one for one in missing)}, it does not; "
                    f"there are {', '.join(prefix + one for one in sorted(there)) or 'none'}"
                )
    if wanted.suffixes:
        chosen["suffix"] = list(wanted.suffixes)
    images, passed = [], []
    try:
        found = sorted(layout.get(**chosen), key=lambda one: one.path)
    except ValueError as error:  # an entity that there is none of
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"--bids-filter-file: must name entities of BIDS, got '{reason}'; correct it") from error
    for image in found:
        said = image.get_entities()
        if said.get("part") in PHASES or (not wanted.suffixes and NO_SCANS.search(str(said.get("suffix")))):
            passed.append(f"{image.path}: passed over, it is no magnitude image; --suffix names what is wanted")
            continue
        try:
            sizes = spacing_of(read_affine(image.path)[1])
        except ScanError:  # told when it is read
            images.append(image)
            continue
        if max(sizes) < ANISOTROPIC * min(sizes):
            told = " x ".join(f"{size:.3g}" for size in sizes)
            passed.append(f"{image.path}: passed over, its voxels are isotropic ({told} mm)")
        else:
            images.append(image)
    if not found and wanted.suffixes:
        rest = {name: value for name, value in chosen.items() if name != "suffix"}
        known = ", ".join(sorted(layout.get(return_type="id", target="suffix", **rest))) or "none"
        raise SettingsError(
            f"--suffix: must be one of the scans' that are asked for, got {', '.join(wanted.suffixes)}; there are "
            f"{known}"
        )
    if not images:
        others = f"; {len(passed)} are passed over, such as {passed[0]}" if passed else ""
        raise SettingsError(
            f"{layout.root}: at least one scan must have thick slices, none has{others}; check the filters"
        )
    return images, passed


def jobs_of(
    layout: Any, images: Iterable[Any], out: Path, settings: Settings, combine: bool, **given: Any
) -> list[Job]:
    """Return the jobs that images are: one each, or one of those that differ in acquisition or run alone.

    Args:
        layout: Of the data set.
        images: pybids' images.
        out: Folder of the derivative.
        settings: Of every run.
        combine: Make one volume of the scans of a session that have one suffix.
        given: Of each job: ``overwrite``, ``report``.
    """
    groups: dict[str, list[Any]] = {}
    for image in images:
        groups.setdefault(str(output_of(layout, [image], out, combine)), []).append(image)
    jobs = []
    for output, members in groups.items():
        if len(members) > 1 and not combine:
            also = f"{members[0].path} has this one too; filter one out"
            raise SettingsError(f"{members[1].path}: results must have names of their own, {also}")
        paths = tuple(image.path for image in members)
        fields = sidecar_fields(layout, members, settings)
        tables = gradients(layout, paths[0], output, settings)
        jobs.append(Job(paths, output, settings, fields=fields, copies=tables, **given))
    return jobs


def gradients(layout: Any, scan: str, output: str, settings: Settings) -> tuple[tuple[str | None, str], ...]:
    """Return a diffusion scan's tables of b-values and directions, inherited ones too, and where its result has them.

    They hold for the result of every volume, which has the scan's axes; that of one volume has none, not even those of
    a result that it replaces.
    """
    # what get_bval and get_bvec do, which fail where there is none
    found = [(layout.get_nearest(scan, extension=suffix, suffix="dwi"), suffix) for suffix in ("bval", "bvec")]
    beside = Path(output).with_name(stem(output))
    every = settings.volume == EVERY
    return tuple((str(table) if every else None, f"{beside}.{suffix}") for table, suffix in found if table)


def output_of(layout: Any, images: Sequence[Any], out: Path, combine: bool) -> Path:
    """Return the file of a result: the scan's name with ``desc-superres``, checked by reading it back.

    Raises:
        SettingsError: The name does not say what it should.
    """
    from bids.layout import parse_file_entities

    path = Path(images[0].path)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    parts = [part for part in name.split("_") if not part.startswith("desc-")]
    if combine:
        parts = [part for part in parts if part.split("-")[0] not in COMBINED]
    *entities, suffix = parts
    target = out / path.parent.relative_to(layout.root) / f"{'_'.join([*entities, f'desc-{DESC}', suffix])}.nii.gz"
    said = parse_file_entities(str(target))
    kept = {key: value for key, value in images[0].get_entities().items() if not (combine and key in COMBINED.values())}
    expected = {**kept, "desc": DESC, "extension": ".nii.gz"}
    if {key: str(value) for key, value in said.items()} != {key: str(value) for key, value in expected.items()}:
        raise SettingsError(f"{path}: its name must be of BIDS entities, {target.name} says {said}; rename the scan")
    return target


def sidecar_fields(layout: Any, images: Sequence[Any], settings: Settings) -> dict[str, Any]:
    """Return what a result's sidecar holds of its scans': their fields, inherited ones too, and where it is from.

    Fields that differ between scans that were combined are left out, as are those of thick slices.
    """
    every = [dict(image.get_metadata()) for image in images]
    same = {
        key: value
        for key, value in every[0].items()
        if key not in NO_LONGER and all(one.get(key) == value for one in every)
    }
    sources = [f"bids:raw:{Path(image.path).relative_to(layout.root).as_posix()}" for image in images]
    text = "Isotropic volume restored from thick slices by biplanar diffusion (bida)"
    return {"SkullStripped": partial(are_masked, settings=settings), **same, "Sources": sources, "Description": text}


def are_masked(scans: Sequence[str], settings: Settings) -> bool:
    """Return whether scans were brain-extracted, as their zeros tell: a scanner's background is noise."""
    every = (read_scan(scan, first_volume(scan, settings).volume) for scan in scans)
    return all(float(np.mean(one.data == 0)) > MASKED for one in every)


def check_derivative(out: Path, source: Path) -> None:
    """Check that a folder can be made a derivative: it is new, or one of bida's, and not the data set itself.

    Raises:
        SettingsError: It is something else.
    """
    if out.resolve() == source.resolve():
        raise SettingsError(f"{out}: OUT_DIR must be another folder than BIDS_DIR; give {out / 'derivatives' / 'bida'}")
    told = out / "dataset_description.json"
    try:
        makers = json.loads(told.read_text(encoding="utf-8")).get("GeneratedBy", []) if told.exists() else None
    except (OSError, ValueError, AttributeError):
        makers = []
    if makers is not None and not any(one.get("Name") == "bida" for one in makers):
        raise SettingsError(f"{out}: OUT_DIR must be new or one of bida's, it is another data set; choose another")


def describe(out: Path, source: Path, settings: Settings) -> None:
    """Write what makes a folder a BIDS derivative: description, a line for readers, what validators leave out."""
    make_folder(out)
    name = json.loads((source / "dataset_description.json").read_text(encoding="utf-8")).get("Name", source.name)
    description = {
        "Name": f"{name}: isotropic volumes",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "bida", "Version": own_version(), "Description": settings.estimate}],
        "SourceDatasets": [{"URL": source.resolve().as_uri()}],
        "DatasetLinks": {"raw": source.resolve().as_uri()},
    }
    write_json(out / "dataset_description.json", description, overwrite=True)
    text = f"Thick-slice scans restored by bida {own_version()}. Each volume's JSON file records how."
    written = {
        "README.md": f"# {name}: isotropic volumes\n\n{text}\n",
        ".bidsignore": f"*.html\n*_adapt.ckpt\n{TABLE}\n",
    }
    for name, content in written.items():
        if not (out / name).exists():
            with atomic(out / name) as temporary:
                Path(temporary).write_text(content, encoding="utf-8")


def write_table(out: Path) -> Path:
    """Write the figures of every result of a derivative as a table; return it.

    Raises:
        SettingsError: There are no results.
    """
    import pandas as pd

    rows = []
    for path in results_in(out):
        told = told_of(record_of(path) or {})
        told["warnings"] = len(told["warnings"])
        rows.append({"filename": path.relative_to(out).as_posix(), **told})
    if not rows:
        raise SettingsError(f"{out}: results must be there, got none; run participant first")
    file = out / TABLE
    pd.DataFrame(rows).to_csv(file, sep="\t", index=False, na_rep="n/a")
    return file
