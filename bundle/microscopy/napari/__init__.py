"""A thin plugin of the viewer napari: stacks in and out with their voxel sizes, and a widget that restores a layer.

What it does is in `layers.py` and `job.py`, which know neither napari nor Qt; `widget.py` alone needs both.
"""
