"""The same for stacks of optical sections: masked slice diffusion, from a stack to an isotropic one, and comparisons.

Everything below may be imported; the MRI side and this one do not know each other. Start reading at `restore.py`.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from bida.microscopy.restore import restore_stack as restore_stack
    from bida.microscopy.settings import MaskedSettings as MaskedSettings
    from bida.microscopy.stacks.stack import read_stack as read_stack
    from bida.microscopy.stacks.stack import write_stack as write_stack

# what configurations and programs name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset": ["OpenSrhSlices", "StackSlices", "masked_slices", "validation_stacks"],
        "evaluate": ["evaluate_masked"],
        "inferer": ["MaskedSliceInferer"],
        "load": ["load_stack"],
        "noise": ["cleaned", "estimate_noise"],
        "own": ["OwnTraining", "train_on_stack"],
        "prior": ["MaskedPrior", "RowLoss"],
        "restore": ["interpolate_stack", "load_masked", "restore_stack"],
        "selfcheck": ["check_stack_prior", "checked"],
        "settings": ["MaskedExperiment", "MaskedSettings"],
        "stacks.stack": ["Stack", "read_stack", "write_stack"],
        "tasks": ["GuideRowsd", "MaskRowsd", "RowTripletsd", "cut_size", "row_task"],
    },
)
