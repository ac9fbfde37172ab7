"""From a scanner's patient coordinates to an animal's right, rostral and dorsal.

DICOM files and ParaVision's ``visu_pars`` give places in one frame: x to the subject's left, z to its head, y to its
back (of a quadruped ventral to dorsal: DICOM PS3.3 C.7.6.2.1.1; ParaVision 6.0.1 manual D02, VisuCoreOrientation). R is
-x of either. What differs is which way is called anterior: of a human, standing, the belly's, so that A is -y and S is
z; of a rodent its nose's, so that A (rostral) is z and S (dorsal) is y, as atlases of rodents and this project have it.

That frame is the one of the position that the scanner was told. Where the animal lay otherwise, it is turned about the
bore by what lies between the two: ParaVision's table of positions (D02, ACQ_patient_pos), read as subject = M magnet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

SUBJECTS: dict[str, NDArray[np.float64]] = {  # [R, A, S] of [left, back, head]
    "quadruped": np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "biped": np.diag([-1.0, -1.0, 1.0]),
}
# ParaVision's [right, belly, head] of the magnet's axes; Left and Right are the sides that lay down
_LAIN: dict[str, NDArray[np.float64]] = {
    "Head_Supine": np.diag([-1.0, 1.0, -1.0]),
    "Head_Prone": np.diag([1.0, -1.0, -1.0]),
    "Head_Left": np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]),
    "Head_Right": np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]),
    "Foot_Supine": np.eye(3),
    "Foot_Prone": np.diag([-1.0, -1.0, 1.0]),
    "Foot_Left": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "Foot_Right": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
}
POSITIONS = tuple(_LAIN)
_TURNED = np.diag([-1.0, -1.0, 1.0])  # between ParaVision's axes of a subject and DICOM's


def to_ras(
    path: Path, affine: NDArray[np.float64], subject: str, told: str | None, lay: str | None
) -> NDArray[np.float64]:
    """Return an affine in RAS of one in patient coordinates.

    Args:
        path: What errors name.
        affine: 4 x 4, voxel index to mm in patient coordinates (left, back, head).
        subject: ``quadruped`` or ``biped``.
        told: How the animal lay as the scanner was told, one of `POSITIONS`; None where nobody said.
        lay: How it lay indeed; None: as told.

    Raises:
        ScanError: `subject` or `lay` is unknown, or `lay` has nothing that it could be compared with.
    """
    for name, value, known in (("subject", subject, SUBJECTS), ("position", lay or POSITIONS[0], POSITIONS)):
        if value not in known:
            raise ScanError(f"{path}: --{name} must be one of {', '.join(known)}, got {value!r}; give one of those")
    turn = np.eye(3)
    if lay is not None:
        if told not in _LAIN:
            raise ScanError(
                f"{path}: --position turns a scan whose own position is known ({', '.join(POSITIONS)}), "
                f"got {told or 'none'}; leave it out, and turn the result"
            )
        turn = _TURNED @ _LAIN[lay] @ _LAIN[told].T @ _TURNED
    turned = np.eye(4)
    turned[:3] = SUBJECTS[subject] @ turn @ affine[:3]
    return turned
