"""Many scans: which there are, what is done with each, in one process or several, and the page that shows them all.

Every room below but cli may be imported. Start reading at `job.py`, then `queue.py`.
"""

import lazy_loader

# what configurations name, imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"bundle": ["inference"]})
