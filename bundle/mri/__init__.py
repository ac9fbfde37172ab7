"""From a thick-slice scan to an isotropic volume: settings, pipeline, inferer, self-check, adaptation, record, picture.

Everything below may be imported, microscopy and the experiment not. Start reading at `pipeline.py`, then `run.py`.
"""

import lazy_loader

# what configurations name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "inferer": ["BiplanarInferer"],
        "pipeline": ["restore"],
        "result": ["Result"],
        "run": ["load_prior", "prior_of"],
        "sampler": ["BiplanarSampler"],
        "settings": ["SamplerOptions", "Settings"],
        "workflow": ["find_scans", "postprocessing", "scan_transform"],
    },
)
