"""The priors: noise schedule, sampler, the two networks, what a weights file holds, and export to other programs.

Physics, io and device may be imported; nothing here knows a scan. Start reading at `sampling.py`, then `prior.py`.
"""

import lazy_loader

# what configurations and programs name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "scriptable": ["ScriptablePrior"],
        "load": ["load_prior", "prior_of"],
        "prior": ["PlanePrior"],
        "resnet": ["NetworkPair", "SliceResNet"],
        "unet": ["SliceUNet"],
    },
)
