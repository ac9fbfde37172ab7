"""What a thick slice measures: grids, slice profiles, the operator A and its inverse, interpolation, the plan of a run.

No images are opened here and no networks run; errors alone is imported from outside. Start reading at `geometry.py`,
then `operators.py`.
"""
