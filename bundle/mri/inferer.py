"""Biplanar sampling as a MONAI inferer."""

from __future__ import annotations

import json

from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from bida.diffusion.prior import SlicePrior
from bida.mri.measurement import Measurement, Padding, ScanMeta
from bida.mri.sampler import BiplanarSampler
from bida.physics.geometry import SliceGeometry

FOUND = ("self_check", "noise_level")  # what it adds to the meta


class BiplanarInferer(BiplanarSampler, Inferer):
    """Restore an isotropic volume from the pseudo-inverse of a scan, see `bida.mri.sampler.BiplanarSampler`.

    The inputs are A+ y, from which y = A (A+ y).
    """

    def __call__(  # type: ignore[override]  # a prior is more than the callable that MONAI's signature asks for
        self,
        inputs: Tensor,
        network: SlicePrior,
        *,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> Tensor:
        """Return the mean of what the scan can come from, in one step, or the mean of the draws.

        What the self-check found (`self_check`), and what the result leaves of noisy slices (`noise_level`), go as JSON
        into the meta of the inputs and of the result: MONAI's `Invertd` gives a result the meta of its inputs.

        Args:
            inputs: A+ y on the padded grid, normalised as the prior's training data, [1, 1, R, A, S].
            network: the priors of the planes.
            geometry: of the scan's slices; from `inputs.meta["slice_geometry"]` (JSON) when not given.
            padding: (before, after) on each axis, so that the noise does not depend on it; from
                `inputs.meta["padding"]` (JSON) when not given, else the geometry's alone.

        Raises:
            SettingsError: the inputs, the geometry and the network do not fit each other.
        """
        scan = Measurement.of(inputs, network.stride, geometry, padding)
        found = self.restore(scan, network, self.check(scan, network))
        mean = found.mean.reshape(inputs.shape)
        if isinstance(inputs, MetaTensor):
            inputs.meta["self_check"] = json.dumps(found.check and found.check.record())
            if found.leftover is not None:
                told = ScanMeta.of(inputs.meta).noise_level or {}
                inputs.meta["noise_level"] = json.dumps({**told, "residual": found.leftover.record()})
            mean = MetaTensor(mean).copy_meta_from(inputs)
        return mean
