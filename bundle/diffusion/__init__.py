"""The priors: noise schedule, sampler, the two networks, what a weights file holds, and export to other programs.

Physics, io and device may be imported; nothing here knows a scan. Start reading at `sampling.py`, then `prior.py`.
"""
