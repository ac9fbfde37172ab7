"""Labels for a synthetic brain: its quarters, with numbers as atlases have them."""

import numpy as np

SHAPE, VOXEL_MM = (24, 35, 18), 0.55
NUMBERS = np.array([3, 7, 40, 614_454_277])  # the last, as brain atlases have them, is beyond what float32 holds


def parts(shape, affine, brain):
    """Number the brain's quarters: left and right, front and back."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    place = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return np.where(brain, NUMBERS[(place[0] > 0) + 2 * (place[1] > 0.5)], 0)
