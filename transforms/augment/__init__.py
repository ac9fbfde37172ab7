"""Random transforms of training: slices and heads as other scanners would have made them, thick and noised."""

import lazy_loader

# what configurations and programs name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "diffuse": ["DiffuseSliced"],
        "heads": ["RandFieldOfViewd", "RandSurfaceCoild", "RandThickSlicesd"],
        "slices": ["RandContrastd", "RandLeftRightFlipd", "RandScanNoised", "RandSimilarityd"],
        "thicken": ["ThickenSliced"],
    },
)
