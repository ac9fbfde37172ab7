"""The paper's comparison: methods and metrics over animals and factors, baselines, and the report.

The MRI side and everything below may be imported. Start reading at `runner.py`, then `methods.py` and `metrics.py`.
"""

import lazy_loader

# imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"design": ["Experiment"], "methods": ["Choices"], "runner": ["run"]}
)
