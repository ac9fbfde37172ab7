"""How slices look: distances between the slices of two volumes, or of two planes of one, and their spectra.

Nothing of the rest of bida but errors and weights may be imported. Start reading at `panel.py`.
"""
