"""Which scans there are in what a user names: files, and folders of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bida.errors import ScanError
from bida.io.files import check_exists, result_path, stem

SCANS = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".mif", ".mif.gz", ".mih",
         ".head", ".gipl")  # fmt: skip
# names of what lies beside scans and is none: masks, label maps, results of bida and what was written with them
NO_SCAN = re.compile(
    r"(^|[_-])(mask|dseg|probseg|labels?|superres|std|uncertainty|draw-\d+)$|_desc-(superres|preproc)_|_draw-\d+$", re.I
)


def find_scans(sources: Sequence[str | Path]) -> list[Path]:
    """List scans: a file as it is, of a folder the image files in it, or the folder itself where a scanner wrote it.

    Masks, label maps and results of bida in a folder are left out, by their names.

    Raises:
        ScanError: Nothing is named, a path does not exist, or a folder holds no scan.
    """
    if not sources:
        raise ScanError("input: a scan must be named, got none; name a file or a folder")
    scans: list[Path] = []
    for path in (check_exists(source) for source in sources):
        if (path / "dataset_description.json").is_file():
            raise ScanError(
                f"{path}: must be scans or a folder of them, it is a BIDS data set; bida bids {path} OUT_DIR "
                "participant restores it"
            )
        inside = images_in(path) if path.is_dir() else []
        if path.is_dir() and not inside and not any(one.is_file() for one in path.rglob("*")):
            raise ScanError(f"{path}: a folder must hold scans, it holds no file; check the path")
        scans += inside or [path]
    return scans


def images_in(folder: Path) -> list[Path]:
    """List the image files of a folder that are scans by their names, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name.lower().endswith(SCANS)
        and not NO_SCAN.search(stem(path))
        and not path.name.startswith(".")  # what a run writes, and other programs' own
    )


def passed_over(sources: Sequence[str | Path]) -> list[str]:
    """Return a line for each file and folder in named folders that `find_scans` does not take."""
    found = []
    for folder in (Path(source) for source in sources if Path(source).is_dir()):
        scans = images_in(folder)
        for path in sorted(folder.iterdir()) if scans else []:
            image = path.is_file() and path.name.lower().endswith(SCANS) and not path.name.startswith(".")
            if image and path not in scans:
                found.append(f"{path}: left out, its name is that of a mask, labels or a result; name it to take it")
            elif path.is_dir():
                found.append(f"{path}: not looked into; name it to take what it holds")
    return found


def name_results(scans: Sequence[Path], folder: str | Path) -> list[Path]:
    """Return the file of each scan's result, ``<name>_superres.nii.gz`` in a folder.

    Raises:
        ScanError: Two would have one name.
    """
    results = [result_path(folder, scan) for scan in scans]
    for scan, result in zip(scans, results):
        if results.count(result) > 1:
            raise ScanError(f"{scan}: results must have names of their own, two would be {result}; run them apart")
    return results
