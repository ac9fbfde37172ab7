"""Finding brains: the strippers that cDSC is measured with, the network of the built-in one, programs from outside.

Of the rest of bida only errors and weights may be imported. Start reading at `strippers.py`.
"""
