"""Write a result and the record of its run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from bida.io.files import make_folder, recorded, result_path
from bida.io.nifti import source_header, write_volume
from bida.io.own_results import description

NOTE = "grey values on a grid of their own, finer than the scan's: an image, no labels"


class SaveVolumed(SaveImaged):
    """Write ``<name>_superres.nii.gz`` and its JSON sidecar into a folder, which is made where it does not exist.

    It is a `SaveImaged`, so that a program that writes results itself, as MONAI Label does, leaves it out.

    Args:
        keys: Results [1, X, Y, Z] in the scan's orientation and intensities; the name comes from their meta.
        output_dir: The folder.
        record: Makes the sidecar's content from the meta of a result.
        overwrite: Replace existing files.

    Raises:
        ScanError: The folder or a file cannot be written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        record: Callable[[Mapping[str, Any]], dict[str, Any]],
        overwrite: bool = False,
    ) -> None:
        """Make the folder, so that a run does not fail at its end."""
        MapTransform.__init__(self, keys)
        self.output_dir, self.record, self.overwrite = make_folder(output_dir), record, overwrite

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write every key; the data stay as they are."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            source = str(image.meta["filename_or_obj"])
            path = result_path(self.output_dir, source)
            volume, affine = image[0].cpu().numpy(), image.affine.cpu().numpy()
            with recorded(path, self.record(image.meta), overwrite=self.overwrite) as temporary:
                write_volume(temporary, volume, affine, source_header(source), says=description())
        return result


class TellResultd(MapTransform):
    """Say under the key ``result`` what a volume is and what the self-check found; MONAI Label sends it along.

    Args:
        keys: Results, of which the last one is told.
        record: Makes the record from the meta of a result.
    """

    def __init__(self, keys: KeysCollection, record: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Keep what makes the record."""
        super().__init__(keys)
        self.record = record

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the key; the volumes stay as they are."""
        result = dict(data)
        for key in self.key_iterator(result):
            record = self.record(result[key].meta)
            result["result"] = {"note": NOTE, **{name: record[name] for name in ("estimate", "verdict", "warnings")}}
        return result
