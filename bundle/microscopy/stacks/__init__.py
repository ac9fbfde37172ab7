"""Stacks in and out: OME-TIFF, OME-Zarr, NIfTI and OpenSRH. Start reading at `stack.py`."""
